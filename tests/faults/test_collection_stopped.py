"""Two processes collect, and one is stopped in the middle until the other is long done."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys

import pytest

from tests.faults.test_collection_crashes import Collections
from tests.faults.test_collection_races import make_due
from tests.faults.test_interleavings import new_name
from tests.support.invariants import check_invariants

_SECONDS = 60.0
# Says before each object that it is about to delete it, and waits for a line.
_PROGRAM = """
from entrepot.blobs.disk import DiskStore
from entrepot.cli.main import main

remove = DiskStore.remove

def held(store, key):
    print("removing", flush=True)
    input()
    remove(store, key)

DiskStore.remove = held
main(["admin", "gc", "--json"], standalone_mode=False)
"""


async def upload(collections, name, content):
    async with collections.node() as node:
        await node.upload(name, content)


async def make_all_due(collections):
    async with collections.node() as node:
        await make_due(node.app)


@pytest.mark.slow
def test_a_collector_that_stood_still_takes_nothing_that_came_meanwhile(data, postgres_url):
    collections = Collections(data, postgres_url)
    name, content = new_name(), secrets.token_bytes(20)
    asyncio.run(upload(collections, name, content))
    asyncio.run(make_all_due(collections))
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, **collections.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "removing\n"
        process.send_signal(signal.SIGSTOP)
        (before,) = objects(data)

        asyncio.run(collections.finish())
        assert not objects(data)
        asyncio.run(upload(collections, name, content))
        check_invariants(postgres_url, data)
        process.send_signal(signal.SIGCONT)
        process.communicate("\n", timeout=_SECONDS)

    assert process.returncode == 0
    (after,) = objects(data)
    assert after != before
    check_invariants(postgres_url, data)


def objects(data):
    return [path.name for path in (data / "blobs").glob("*/*")]
