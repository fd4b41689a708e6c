"""Who was told of a blob that another process fetches gets it, whenever that one is done."""

import asyncio

import pytest

from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown
from entrepot.services.fetch_follow import Following
from entrepot.services.fetch_tail import Tailing
from tests.mirror.fetching import MIB, NAME, drained, fleet_before, put


@pytest.fixture
async def fleet(database_url, tmp_path, upstream):
    """A registry of one node; its workers share its disk."""
    async with fleet_before(upstream, database_url, tmp_path) as fleet:
        yield fleet


class Storing:
    """A leader whose spool is an object of the store already: the database hears when it may."""

    def __init__(self, worker):
        self.worker = worker
        self._is_object, self._may_tell = asyncio.Event(), asyncio.Event()
        self._adopt, worker.store.adopt = worker.store.adopt, self._adopted

    async def _adopted(self, spool, key):
        stamp = await self._adopt(spool, key)
        self._is_object.set()
        await self._may_tell.wait()
        return stamp

    async def fetch(self, repository, digest):
        """Until the spool is gone and the row is still there."""
        await self.worker.read(repository, digest)
        await self._is_object.wait()

    async def end(self):
        """Until the row is gone as well."""
        self._may_tell.set()
        await asyncio.gather(*self.worker.fetches._tasks)


@pytest.fixture
async def storing(fleet):
    return Storing(await fleet.worker())


async def test_who_was_told_of_a_blob_gets_it_when_it_is_stored_meanwhile(fleet, storing, upstream):
    other = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()
    await storing.fetch(repository, digest)

    arriving = await other.fetches.join(repository, Digest.parse(digest))
    await storing.end()

    assert arriving.size == len(content)
    assert await drained(arriving) == content
    assert [entry.method for entry in upstream.log.of(kind="blob")] == ["GET"]
    await fleet.settled()


async def test_a_leader_that_ends_as_it_is_taken_for_dead_fails_nobody(
    fleet, storing, upstream, monkeypatch
):
    other = await fleet.worker(take_over_seconds=0.5)
    content, digest = put(upstream)
    repository = await fleet.repository()
    await storing.fetch(repository, digest)
    find = Tailing._find

    async def found_as_it_ends(tailing, row):
        found = await find(tailing, row)
        await storing.end()
        return found

    monkeypatch.setattr(Tailing, "_find", found_as_it_ends)

    arriving = await other.fetches.join(repository, Digest.parse(digest))

    assert await drained(arriving) == content
    assert upstream.log.count(kind="blob", method="GET") == 1
    await fleet.settled()


async def test_what_is_stored_meanwhile_is_for_those_who_proved_it(fleet, storing, upstream):
    other = await fleet.worker()
    content, digest = put(upstream)
    upstream_id = await fleet.upstream_row()
    first = await fleet.repository(upstream_id=upstream_id)
    second = await fleet.repository(upstream_id=upstream_id)
    refused = await fleet.repository("library/other", upstream_id=upstream_id)
    await storing.fetch(first, digest)

    with pytest.raises(BlobUnknown):
        await other.read(refused, digest)
    arriving = await other.fetches.join(second, Digest.parse(digest))
    await storing.end()

    assert await drained(arriving) == content
    with pytest.raises(BlobUnknown):
        await other.read(refused, digest)
    await fleet.settled()


async def test_what_is_stored_meanwhile_goes_nowhere_without_a_proof(fleet, storing, upstream):
    other = await fleet.worker()
    _, digest = put(upstream)
    upstream_id = await fleet.upstream_row()
    allowed = await fleet.repository(upstream_id=upstream_id)
    refused = await fleet.repository("library/other", upstream_id=upstream_id)
    await storing.fetch(allowed, digest)

    with pytest.raises(BlobUnknown):
        await other.read(refused, digest)
    (fetch,) = other.fetches._running.values()
    await fetch.progress.announced()
    await storing.end()
    await fleet.settled()

    assert fetch.progress.written == 0
    assert await fleet.holders(digest) == [allowed.id]


async def test_that_somebody_fetched_for_it_opens_nothing_to_who_comes_later(
    fleet, storing, upstream, monkeypatch
):
    """The leader's own repository is let in on its word while it leads, and asks afterwards."""
    other = await fleet.worker()
    content, digest = put(upstream)
    upstream.repository("library/second").put_blob(content)
    upstream_id = await fleet.upstream_row()
    first = await fleet.repository(upstream_id=upstream_id)
    second = await fleet.repository("library/second", upstream_id=upstream_id)
    await storing.fetch(first, digest)
    complete, late, asked = Following.complete, [], []

    async def unlink(tx):
        await tx.execute("DELETE FROM blob_links WHERE repository_id = :id", id=first.id)

    async def completed_with_one_more(following, spool):
        await other.database.write(unlink)
        late.append(await other.fetches.join(first, Digest.parse(digest)))
        asked.append(upstream.log.count(kind="blob", method="HEAD", name=NAME))
        return await complete(following, spool)

    monkeypatch.setattr(Following, "complete", completed_with_one_more)

    arriving = await other.fetches.join(second, Digest.parse(digest))
    await storing.end()

    assert await drained(arriving) == content
    assert [await drained(one) for one in late] == [content]
    assert asked == [1]
    await fleet.settled()


async def test_a_worker_goes_on_when_the_one_that_fetched_from_the_other_node_stops(
    fleet, upstream, held
):
    leader, stopping = await fleet.node("one"), await fleet.node("two")
    neighbour = await fleet.worker("two")
    content, digest = put(upstream)
    repository = await fleet.repository()
    readers = [
        await worker.fetches.join(repository, Digest.parse(digest))
        for worker in (leader, stopping, neighbour)
    ]
    for reader in readers:
        assert await reader.piece(2 * MIB - 1, 1)

    await stopping.die()
    held.open()

    assert await drained(readers[2]) == content
    assert await drained(readers[0]) == content
    assert upstream.log.count(kind="blob", method="GET") == 1
    readers[1].close()
    await fleet.settled()
