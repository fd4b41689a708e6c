"""What a crash or a failing disk leaves of a fetch, at each step of storing it."""

import asyncio
import os

import pytest

from entrepot.blobs.answers import File
from entrepot.model.digests import Digest
from entrepot.services.fetch_lead import Leading
from tests.mirror.fetching import put


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
    assert len(list(fleet.blobs.glob("*/*"))) == 1
    assert isinstance(await second.fetches.join(repository, Digest.parse(digest)), File)


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

    async def twice(self, tx, size, stamp):
        await store(self, tx, size, stamp)
        return await store(self, tx, size, stamp)

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
