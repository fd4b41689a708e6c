"""What a crash or a failing disk leaves of a fetch, at each step of storing it."""

import asyncio
import os
import threading

import pytest

from entrepot.blobs.answers import File
from entrepot.blobs.moving import move_durably
from entrepot.blobs.spool import Spool
from entrepot.db import blobs, fetches
from entrepot.model.digests import Digest
from entrepot.model.errors import StorageFailed, Unavailable
from entrepot.services.fetch_holders import source_of
from entrepot.services.fetch_lead import Leading
from tests.blobs.places import PREFIX
from tests.mirror.fetching import MIB, drained, fleet_before, put
from tests.support import s3_faults
from tests.support.kept import KeptObjects

_BUSY = s3_faults.refused(503, "SlowDown")


@pytest.fixture
async def far_fleet(sqlite_path, tmp_path, upstream, bucket, s3_proxy):
    """A registry whose objects are in a bucket, which fails when it is told to."""
    through = bucket.behind(s3_proxy.origin)
    async with fleet_before(upstream, f"sqlite:///{sqlite_path}", tmp_path, through) as fleet:
        yield fleet
        s3_proxy.mend()


@pytest.fixture
def objects(bucket):
    """The keys of what lies in the bucket."""
    return lambda: set(KeptObjects(bucket, f"{PREFIX}/").objects())


@pytest.fixture
def stops_at(monkeypatch):
    """Let the leader stop for ever when it calls something, once."""

    def patch(where, name):
        reached, right = asyncio.Event(), getattr(where, name)

        async def stop(*arguments, **options):
            if reached.is_set():
                return await right(*arguments, **options)
            reached.set()
            return await asyncio.Event().wait()

        monkeypatch.setattr(where, name, stop)
        return reached

    return patch


@pytest.mark.parametrize("step", ["before the sync", "before the row"])
async def test_a_leader_killed_while_it_stores_leaves_nothing_behind(
    fleet, upstream, stops_at, step
):
    first = await fleet.worker(take_over_seconds=0.5)
    content, digest = put(upstream)
    repository = await fleet.repository()
    if step == "before the sync":
        reached = stops_at(first.store, "adopt")
    else:
        reached = stops_at(first.database, "write")
        reached.set()
        adopt = first.store.adopt

        async def adopted(spool, key):
            await adopt(spool, key)
            reached.clear()

        first.store.adopt = adopted
    reading = asyncio.create_task(first.read(repository, digest))
    assert await reading == content  # readers need not wait for the disk
    await reached.wait()
    await first.die()

    second = await fleet.worker(take_over_seconds=0.5)
    again = await second.read(repository, digest)
    await fleet.settled()

    assert again == content
    assert len(await fleet.unburied()) == 1
    assert isinstance(await second.fetches.join(repository, Digest.parse(digest)), File)


async def test_a_spool_that_cannot_be_taken_over_is_left_to_nobody(
    fleet, upstream, held, monkeypatch
):
    first, second = await fleet.worker(), await fleet.worker()
    _, digest = put(upstream)
    repository = await fleet.repository()
    leading = await first.fetches.join(repository, Digest.parse(digest))
    following = await second.fetches.join(repository, Digest.parse(digest))
    assert await following.piece(2 * MIB - 1, 1)

    def fail(*_):
        raise StorageFailed("the disk fails")

    monkeypatch.setattr(Spool, "rename", fail)
    await first.die()

    with pytest.raises(StorageFailed):
        await drained(following)
    await asyncio.gather(*second.fetches._tasks)
    assert not second.spooled()
    leading.close()


async def test_a_process_that_stops_waits_until_an_object_has_its_name(
    fleet, upstream, monkeypatch
):
    """A neighbour that gets the spool's lock before that would write to the object."""
    worker = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()
    reached, goes_on = threading.Event(), threading.Event()

    def move_late(spool, final):
        reached.set()
        assert goes_on.wait(20)
        return move_durably(spool, final)

    monkeypatch.setattr("entrepot.blobs.disk.move_durably", move_late)
    assert await worker.read(repository, digest) == content
    await asyncio.to_thread(reached.wait, 20)

    stopping = asyncio.create_task(worker.die())
    await asyncio.wait([stopping], timeout=0.2)
    is_over_before = stopping.done()
    goes_on.set()
    await stopping

    assert not is_over_before
    assert not worker.spooled()


async def test_a_disk_that_fails_to_sync_keeps_nothing(fleet, upstream, monkeypatch):
    worker = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()

    def broken(_):
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        assert await worker.read(repository, digest) == content
        await fleet.settled()

    assert await fleet.holders(digest) == []
    assert not list(fleet.blobs.glob("*/*"))
    assert await worker.read(repository, digest) == content
    await fleet.settled()
    assert await fleet.holders(digest) == [repository.id]


async def test_a_commit_that_nobody_heard_of_counts_once(fleet, upstream, monkeypatch):
    worker = await fleet.worker()
    _, digest = put(upstream)
    repository = await fleet.repository()
    store = Leading._store

    async def twice(*call):
        await store(*call)
        return await store(*call)

    monkeypatch.setattr(Leading, "_store", twice)

    await worker.read(repository, digest)
    await fleet.settled()

    assert await fleet.holders(digest) == [repository.id]
    assert len(list(fleet.blobs.glob("*/*"))) == 1


async def test_spools_on_another_file_system_are_copied(fleet, upstream, monkeypatch, tmp_path):
    worker = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()
    rename = type(tmp_path).rename

    def elsewhere(path, target):
        if path.parent.name == "spool" and target.parent.name != "spool":
            raise OSError(18, os.strerror(18))  # EXDEV
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", elsewhere)

    assert await worker.read(repository, digest) == content
    await fleet.settled()

    file = await worker.fetches.join(repository, Digest.parse(digest))
    assert isinstance(file, File)
    assert file.path.read_bytes() == content


@pytest.mark.slow
async def test_what_a_store_has_of_a_fetch_that_failed_is_deleted(
    far_fleet, upstream, objects, s3_proxy
):
    worker = await far_fleet.worker()
    content, digest = put(upstream)
    repository = await far_fleet.repository()
    s3_proxy.on("HeadObject", _BUSY, times=None)  # it is there, and nobody knows

    assert await worker.read(repository, digest) == content
    await far_fleet.settled()
    s3_proxy.mend()

    left = objects()
    assert len(left) == 1
    assert await far_fleet.buried() == left
    await far_fleet.collect()
    assert not objects()
    assert await worker.read(repository, digest) == content
    await far_fleet.settled()
    assert await far_fleet.holders(digest) == [repository.id]


@pytest.mark.slow
async def test_a_fetch_heals_a_blob_that_the_store_has_lost(far_fleet, upstream, objects):
    worker = await far_fleet.worker()
    content, digest = put(upstream)
    repository = await far_fleet.repository()
    lost, size = worker.store.new_key(), len(content)
    await worker.database.write(
        lambda tx: blobs.put(tx, digest=digest, size=size, storage_key=lost, stamp=0, now=1)
    )

    assert await worker.read(repository, digest) == content
    await far_fleet.settled()

    ((key,),) = await far_fleet.rows("SELECT storage_key FROM blobs")
    assert objects() == {key}
    assert await far_fleet.buried() == {lost}


async def test_an_object_whose_row_could_not_be_written_is_deleted(fleet, upstream, monkeypatch):
    worker = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()

    async def fail(*_):
        raise Unavailable("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(Leading, "_store", fail)
        assert await worker.read(repository, digest) == content
        await fleet.settled()

    (left,) = fleet.blobs.glob("*/*")
    assert await fleet.buried() == {left.name}
    await fleet.collect()
    assert not left.exists()
    assert await worker.read(repository, digest) == content
    await fleet.settled()
    assert len(await fleet.unburied()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["taken over", "swept"])
async def test_a_store_that_fails_keeps_nobody_from_ending_what_the_dead_began(
    far_fleet, upstream, objects, s3_proxy, monkeypatch, how
):
    first = await far_fleet.worker(take_over_seconds=0.5)
    content, digest = put(upstream)
    repository = await far_fleet.repository()
    stored, adopt = asyncio.Event(), first.store.adopt

    async def stop(spool, key):
        await adopt(spool, key)
        stored.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(first.store, "adopt", stop)
    assert await first.read(repository, digest) == content
    await stored.wait()
    await first.die()
    left = objects()
    second = await far_fleet.worker(take_over_seconds=0.5)
    s3_proxy.on("DeleteObject", _BUSY, times=None)  # not before a worker has tried that it may

    if how == "swept":
        monkeypatch.setattr("entrepot.services.fetch_sweep._SECONDS", 0.0)
        assert await second.sweep() == 1
    assert await second.read(repository, digest) == content
    await far_fleet.settled()
    s3_proxy.mend()

    assert await far_fleet.buried() == left
    await far_fleet.collect()
    assert len(objects()) == 1
    assert not objects() & left
    assert await second.read(repository, digest) == content


async def test_what_a_leader_stores_that_was_given_up_long_ago_is_deleted(
    fleet, upstream, monkeypatch
):
    monkeypatch.setattr("entrepot.services.fetch_sweep._SECONDS", 0.0)
    first, second = await fleet.worker(), await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()
    begun, goes_on, adopt = asyncio.Event(), asyncio.Event(), first.store.adopt

    async def wait(spool, key):
        begun.set()
        await goes_on.wait()
        return await adopt(spool, key)

    monkeypatch.setattr(first.store, "adopt", wait)
    assert await first.read(repository, digest) == content
    await begun.wait()
    assert await second.sweep() == 1
    await fleet.collect()
    assert not await fleet.buried()

    goes_on.set()
    await fleet.settled()

    (left,) = fleet.blobs.glob("*/*")
    assert await fleet.holders(digest) == []
    assert await fleet.buried() == {left.name}
    await fleet.collect()
    assert not left.exists()


async def test_a_take_over_that_nobody_heard_of_is_the_same_again(fleet):
    worker = await fleet.worker()
    repository = await fleet.repository()
    upstream_id, digest = source_of(repository).upstream_id, "sha256:0"
    node = {"repository_id": repository.id, "leader": "one", "node": "n", "node_url": ""}

    async def work(tx):
        seen = await fetches.claim(
            tx, upstream_id=upstream_id, digest=digest, id="a" * 32, now=1, **node
        )
        for _ in range(2):
            assert await fetches.take_over(tx, seen, id="b" * 32, **node)
            yield await fetches.find(tx, upstream_id, digest)

    async def both(tx):
        return [row async for row in work(tx)]

    first, again = await worker.database.write(both)

    assert first == again
    await worker.database.write(lambda tx: fetches.delete(tx, "b" * 32))
