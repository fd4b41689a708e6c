"""A repository is let in on the word of the process that leads for it, while that one leads."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from entrepot.db.fetches import FetchRow
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, EntrepotError
from entrepot.services.fetch_follow import Following
from entrepot.services.fetch_holders import Holders
from entrepot.services.fetch_progress import Progress
from entrepot.services.fetch_tail import Tailing
from entrepot.services.fetch_watch import Watch
from tests.mirror.fetching import MIB, NAME, drained, fleet_before, put
from tests.support.eventually import eventually
from tests.support.upstreams import Gate, Reply, faults

OTHER = "library/refused"


@pytest.fixture
async def fleet(database_url, tmp_path, upstream):
    """A registry of one node; its workers share its disk."""
    async with fleet_before(upstream, database_url, tmp_path) as fleet:
        yield fleet


@pytest.fixture
async def repositories(fleet, upstream):
    """Two of one upstream: the first path has the blob, the other says that it has not."""
    await fleet.worker()
    upstream.repository(OTHER)
    upstream_id = await fleet.upstream_row()
    return [await fleet.repository(path, upstream_id=upstream_id) for path in (NAME, OTHER)]


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open()


def asking_later(worker):
    """A worker whose transfers begin when the test says so."""
    calling, may_ask = worker.remotes.calling, asyncio.Event()

    @asynccontextmanager
    async def held(upstream_id, *, transfers=False):
        if transfers:
            await may_ask.wait()
        async with calling(upstream_id, transfers=transfers) as remote:
            yield remote

    worker.remotes.calling = held
    return may_ask


async def fetching(worker):
    """The one fetch of this worker, once it is known who leads."""
    await asyncio.to_thread(eventually, lambda: worker.fetches._running)
    (fetch,) = worker.fetches._running.values()
    await fetch.claimed()
    return fetch


async def proved(worker, repository):
    """Until a repository has proved itself to this worker's fetch."""
    holders = (await fetching(worker)).holders
    await asyncio.to_thread(eventually, lambda: repository.id in holders.proved)


async def test_who_came_before_its_leader_was_refused_is_refused_with_it(
    fleet, repositories, upstream
):
    first, second = fleet.workers[0], await fleet.worker()
    (allowed, refused), (content, digest) = repositories, put(upstream)
    may_ask = asking_later(first)
    leading = asyncio.create_task(first.read(refused, digest))
    await fetching(first)

    reading = asyncio.create_task(second.read(allowed, digest))
    await proved(second, allowed)
    late = asyncio.create_task(second.fetches.join(refused, Digest.parse(digest)))
    holders = (await fetching(second)).holders
    await asyncio.to_thread(eventually, lambda: refused.id in holders.trusting)
    may_ask.set()

    assert await reading == content
    for one in (leading, late):
        with pytest.raises(BlobUnknown):
            await one
    await fleet.settled()
    assert await fleet.holders(digest) == [allowed.id]


async def test_who_was_told_before_its_leader_was_refused_gets_nothing_of_anothers(
    fleet, repositories, upstream, gate
):
    """An upstream seems to answer, and refuses when it is asked for the rest."""
    first, second = fleet.workers[0], await fleet.worker()
    (allowed, refused), (content, digest) = repositories, put(upstream)
    upstream.script(
        lambda _: faults.held(gate)(faults.reset(0)(Reply(200, {}, content))),
        kind="blob",
        method="GET",
        name=OTHER,
        times=1,
    )

    leading = await first.fetches.join(refused, Digest.parse(digest))
    reading = await second.fetches.join(allowed, Digest.parse(digest))
    told = await second.fetches.join(refused, Digest.parse(digest))
    gate.open()

    assert await drained(reading) == content
    for one in (leading, told):
        got = bytearray()
        with pytest.raises(EntrepotError):
            await drained(one, got)
        assert not got
    await fleet.settled()
    assert await fleet.holders(digest) == [allowed.id]


async def test_who_goes_on_for_another_lets_in_nobody_on_the_word_of_the_dead(
    fleet, repositories, upstream, gate
):
    first, second, third = fleet.workers[0], await fleet.worker(), await fleet.worker()
    (allowed, refused), (content, digest) = repositories, put(upstream)
    upstream.repository(OTHER).put_blob(content)
    answering = upstream.script(faults.held(gate, at=MIB), kind="blob", method="GET", name=OTHER)
    going_on = Gate()
    upstream.script(faults.held(going_on, at=MIB // 2), kind="blob", method="GET", name=NAME)
    leading = await first.fetches.join(refused, Digest.parse(digest))
    reading = await second.fetches.join(allowed, Digest.parse(digest))
    told = await second.fetches.join(refused, Digest.parse(digest))
    assert await told.piece(MIB - 2, 1)
    upstream.script(faults.status(404), kind="blob", name=OTHER)
    upstream.heal(answering)

    await first.die()
    await asyncio.to_thread(going_on.wait_until_reached)
    with pytest.raises(BlobUnknown):
        async with asyncio.timeout(10):
            await third.fetches.join(refused, Digest.parse(digest))
    with pytest.raises(EntrepotError):
        await told.piece(MIB, 1)
    going_on.open()

    assert await drained(reading) == content
    for one in (leading, told):
        one.close()
    await fleet.settled()
    assert await fleet.holders(digest) == [allowed.id]


async def test_the_next_leaders_word_counts_once_the_upstream_has_answered_it(repositories):
    """What a follower has by then came for another."""
    (allowed, refused), progress = repositories, Progress()
    holders = Holders(progress)
    row = FetchRow(1, "sha256:0", "one", allowed.id, "leader", "node", "", 0, None)
    following = replace(row, id="two", repository_id=refused.id)

    holders.hear(row)
    assert holders.has(allowed)
    progress.announce(1)
    holders.hear(row)
    assert holders.has(allowed)
    holders.hear(following)
    assert not holders.has(allowed)
    assert not holders.has(refused)
    holders.hear(replace(following, size=1))
    assert holders.has(refused)
    holders.hear(None)
    assert not holders.has(refused)


async def test_a_spool_that_is_whole_already_is_nobodys_word(fleet, repositories, upstream):
    """Another may have taken it over from the leader whose row was seen."""
    first, second = fleet.workers[0], await fleet.worker()
    (_, refused), (content, text) = repositories, put(upstream)
    digest, upstream_id, progress = Digest.parse(text), refused.source.upstream_id, Progress()
    holders = Holders(progress)
    id_ = first.spools.new_id()
    row = FetchRow(upstream_id, text, id_, refused.id, "dead", first.means.node, "", 0, None)
    spool = first.spools.write(id_, digest, is_new=True)
    await spool.append(content)
    spool.seal()
    holders.hear(row)
    watch = Watch(second.means, upstream_id, digest, holders, progress)

    await Tailing(second.means, digest, progress, watch).tail(row)

    assert progress.is_right
    assert not holders.has(refused)
    spool.discard()
    await spool.close()
    progress.end()


async def test_another_repositorys_refusal_is_not_heard(fleet, repositories, upstream):
    worker = fleet.workers[0]
    (allowed, refused), (content, digest) = repositories, put(upstream)
    may_ask = asking_later(worker)
    leading = asyncio.create_task(worker.read(refused, digest))
    await fetching(worker)

    joining = asyncio.create_task(worker.read(allowed, digest))
    await proved(worker, allowed)
    may_ask.set()

    assert await joining == content
    with pytest.raises(BlobUnknown):
        await leading
    await fleet.settled()
    assert await fleet.holders(digest) == [allowed.id]


async def test_who_goes_on_does_so_for_somebody_who_may(fleet, repositories, upstream, gate):
    """The first who asked here was refused; another was told of the blob meanwhile."""
    first, second = fleet.workers[0], await fleet.worker()
    (allowed, refused), (content, digest) = repositories, put(upstream)
    upstream.script(faults.held(gate, at=MIB), kind="blob", method="GET", times=1)
    leading = await first.fetches.join(allowed, Digest.parse(digest))

    with pytest.raises(BlobUnknown):
        await second.read(refused, digest)
    reading = await second.fetches.join(allowed, Digest.parse(digest))
    await first.die()

    assert await drained(reading) == content
    leading.close()
    await fleet.settled()
    assert await fleet.holders(digest) == [allowed.id]


async def test_who_is_refused_leaves_what_is_here_to_who_goes_on(
    fleet, repositories, upstream, gate
):
    """The worker that finds the dead one's spool has nobody who may have the blob."""
    first, second, third = fleet.workers[0], await fleet.worker(), await fleet.worker()
    (allowed, refused), (content, digest) = repositories, put(upstream)
    upstream.script(faults.held(gate, at=MIB), kind="blob", method="GET", times=1)
    leading = await first.fetches.join(allowed, Digest.parse(digest))
    with pytest.raises(BlobUnknown):
        await second.read(refused, digest)
    reading = await third.fetches.join(allowed, Digest.parse(digest))
    assert await reading.piece(MIB - 2, 1)

    await first.die()

    assert await drained(reading) == content
    leading.close()
    await fleet.settled()
    assert await fleet.holders(digest) == [allowed.id]


async def test_a_worker_does_not_wait_for_itself_as_another_of_its_node(
    postgres_url, tmp_path, upstream, gate, monkeypatch
):
    """What it took from the other node ends, and a neighbour with its address leads then."""
    async with fleet_before(upstream, postgres_url, tmp_path) as fleet:
        first, second = await fleet.node("one"), await fleet.node("two")
        neighbour = await fleet.worker("two", url=second.means.node_url)
        content, digest = put(upstream)
        repository = await fleet.repository()
        upstream.script(
            lambda reply: faults.held(gate, at=2 * MIB)(faults.reset(2 * MIB)(reply)),
            kind="blob",
            method="GET",
            times=1,
        )
        upstream.script(faults.status(404), kind="blob", method="GET", times=1)
        may_ask, beside = asking_later(neighbour), []
        complete = Following.complete

        async def completed_as_another_comes(following, spool):
            done = await complete(following, spool)
            beside.append(asyncio.create_task(neighbour.read(repository, digest)))
            await fetching(neighbour)
            return done

        leading = await first.fetches.join(repository, Digest.parse(digest))
        reading = await second.fetches.join(repository, Digest.parse(digest))
        assert await reading.piece(2 * MIB - 1, 1)
        monkeypatch.setattr(Following, "complete", completed_as_another_comes)
        gate.open()

        async with asyncio.timeout(10):
            assert await drained(reading) == content
        may_ask.set()
        assert await asyncio.gather(*beside) == [content]
        leading.close()
        await fleet.settled()
