"""Collection killed at its system calls, and the order in which it lets go of bytes.

After a kill nothing that a tag needs is gone, no row points at a missing object, and no object is
there that no row knows; the next collection ends what this one began.
"""

import asyncio
import os
import re
import secrets
import subprocess
import sys
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
from tests.support.strace import Killer, attached, read_calls, require_tracing

_POINTS = 3  # of each database
_DECISIVE = ("unlink", "fdatasync", "openat")
_LAST_MISSES = 3
_SECONDS = 60.0
# Everything is imported before the first call that counts.
_PROGRAM = """
import entrepot.cli.gc, entrepot.db.postgres, entrepot.db.sqlite
from entrepot.cli.main import main
print("ready", flush=True)
input()
main(["admin", "gc", "--json"], standalone_mode=False)
print("done", flush=True)
input()
"""


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

    def run(self, nth=None, only="", output=None):
        """Collect, killed at the Nth call that counts; what it was killed at, or all calls."""
        with subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            killer = None if nth is None else Killer(process.pid, nth, only)
            if output is not None:
                with attached(process.pid, output, "-e", f"trace={_TRACED}"):
                    is_done = self._go(process)
            else:
                is_done = self._go(process)
            calls = killer.end() if killer and nth == 0 else ""  # while there is a process
            _, said = process.communicate("\n", timeout=_SECONDS)
        killed = killer.end() if killer and nth else ""
        assert is_done == (process.returncode == 0) == (not killed), said
        return calls or killed

    @staticmethod
    def _go(process):
        process.stdin.write("\n")
        process.stdin.flush()
        lines = iter(process.stdout.readline, "")
        return any(line == "done\n" for line in lines)

    def kill_and_finish(self, nth, only=""):
        asyncio.run(self.fill())
        ended = self.run(nth, only)

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
    total = len(collections.run(0).split())
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


_TRACED = "openat,write,pwrite64,pwritev,fsync,fdatasync,unlink,unlinkat"


@pytest.mark.slow
def test_rows_and_epoch_are_on_the_disk_before_an_object_goes(data, tmp_path):
    require_tracing()
    collections = Collections(data, f"sqlite:///{data / 'entrepot.db'}")
    asyncio.run(collections.fill())

    collections.run(output=tmp_path / "calls")

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
