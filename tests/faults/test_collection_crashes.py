"""Collection killed at its system calls, and the order in which it lets go of bytes.

After a kill nothing that a tag needs is gone, no row points at a missing object, and no object is
there that no row knows; the next collection ends what this one began.
"""

import asyncio
import re
import secrets
from contextlib import asynccontextmanager
from itertools import count

import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.lifecycle import make_collection
from entrepot.model.clock import SystemClock
from tests.faults.test_collection_races import make_due
from tests.faults.test_interleavings import Node, image_of, index_of, new_name
from tests.support.invariants import check_invariants
from tests.support.strace import read_calls, require_tracing
from tests.support.told_command import run_command

_POINTS = 3  # of each database
_DECISIVE = ("unlink", "fdatasync", "openat")
_LAST_MISSES = 3
_TRACED = "openat,write,pwrite64,pwritev,fsync,fdatasync,unlink,unlinkat"


class Collections:
    """An installation in which much is to go, and whose collection is killed again and again."""

    def __init__(self, data, database_url):
        self.data = data
        self.url = database_url
        self.environment = {
            "ENTREPOT_DATA": str(data),
            "ENTREPOT_DATABASE__URL": database_url,
            "ENTREPOT_ANONYMOUS": "push",
            "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
            "ENTREPOT_COLLECTION__DELAY_SECONDS": "0",
        }
        self.kept = {}
        asyncio.run(prepare(load(None, self.environment)))

    @asynccontextmanager
    async def node(self):
        app = Application(load(None, self.environment), SystemClock())
        await app.database.open()
        app.access.set_default_organisation(await app.tenancy.default_organisation())
        try:
            yield Node(app)
        finally:
            await app.database.close()
            app.store.close()

    async def fill(self):
        """An image that stays, and an index, an image and a blob that go; all share a layer."""
        name = new_name()
        async with self.node() as node:
            shared = await node.upload(name, secrets.token_bytes(20))
            self.kept[name] = await node.push(name, await image(node, name, shared), "kept")
            gone = await node.push(name, await image(node, name, shared), "gone")
            child = await node.push(name, await image(node, name, shared))
            await node.push(name, index_of(child, gone), "index")
            await node.upload(name, secrets.token_bytes(20))
            for tag in ("gone", "index"):
                await node.delete_tag(name, tag)
            await make_due(node.app)

    def run(self, **how):
        """Collect, killed at the Nth call that counts; what it was killed at, or all calls."""
        return run_command("admin", "gc", "--json", environment=self.environment, **how)

    def kill_and_finish(self, nth, only=""):
        asyncio.run(self.fill())
        ended = self.run(nth=nth, only=only)

        check_invariants(self.url, self.data)
        asyncio.run(self.finish())
        check_invariants(self.url, self.data)
        asyncio.run(self.look())
        return ended

    async def finish(self):
        """Collect as a server does that was started after the crash."""
        async with self.node() as node:
            app = node.app
            work = make_collection(app._settings, SystemClock(), app.database, app.store)
            done = await work.run()
        assert (done.failed, done.refused, done.stopped) == (0, 0, None)

    async def look(self):
        """What is tagged is there with its parts, and nothing else."""
        async with self.node() as node, node.app.database.read() as tx:
            manifests = await tx.fetch_all("SELECT digest FROM manifests")
            blobs = await tx.fetch_all("SELECT storage_key FROM blobs")
        assert {digest for (digest,) in manifests} == set(self.kept.values())
        assert {key for (key,) in blobs} == {
            path.name for path in (self.data / "blobs").glob("*/*")
        }
        assert len(blobs) == 2 * len(self.kept)


async def image(node, name, shared):
    body = image_of(await node.upload(name, secrets.token_bytes(20)))
    body["layers"] = [dict(body["config"], digest=shared)]
    return body


@pytest.mark.slow
def test_a_collection_that_was_killed_somewhere_loses_nothing_and_is_finished(
    data, database_url, database_kind, capsys
):
    require_tracing()
    collections = Collections(data, database_url)
    asyncio.run(collections.fill())
    total = len(collections.run(nth=0).split())
    step = total // _POINTS
    first = secrets.randbelow(step) + 1  # other points in other runs

    killed = [collections.kill_and_finish(first + number * step) for number in range(_POINTS)]
    killed += [collections.kill_and_finish(1, only) for only in _DECISIVE]

    assert "killed unlink" in killed
    with capsys.disabled():
        print(f"\n{database_kind}: of {total} calls: {killed}")


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_collection_that_was_killed_anywhere_loses_nothing_and_is_finished(
    data, database_url, database_kind, capsys
):
    require_tracing()
    collections, misses, points = Collections(data, database_url), 0, 0
    for nth in count(1):
        misses = 0 if collections.kill_and_finish(nth) else misses + 1
        points += not misses
        if misses == _LAST_MISSES:
            break

    with capsys.disabled():
        print(f"\n{database_kind}: {points} kill points")


@pytest.mark.slow
def test_rows_and_epoch_are_on_the_disk_before_an_object_goes(data, tmp_path):
    require_tracing()
    collections = Collections(data, f"sqlite:///{data / 'entrepot.db'}")
    asyncio.run(collections.fill())

    collections.run(watched=(tmp_path / "calls", _TRACED))

    calls = read_calls(tmp_path / "calls")
    steps = [
        index
        for index, call in enumerate(calls)
        if re.search(r"/blobs/[0-9a-f]{2}/[0-9a-f]{32}\"", call.arguments)
        and call.name in {"unlink", "unlinkat"}
    ]
    assert len(steps) == 3
    behind = calls[: steps[0]]
    written = last(behind, "pwrite64", r"entrepot\.db-wal")
    synced = last(behind, "fdatasync|fsync", r"entrepot\.db-wal")
    counted = last(behind, "pwrite64", r"collection\.epoch")
    settled = last(behind, "fdatasync", r"collection\.epoch")
    assert written < synced < counted < settled


def last(calls, name, arguments):
    """Which of the calls came last of this name with these arguments."""
    found = [
        index
        for index, call in enumerate(calls)
        if re.fullmatch(name, call.name) and re.search(arguments, call.arguments)
    ]
    assert found, f"no {name} of {arguments}"
    return found[-1]
