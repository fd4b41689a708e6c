"""Workers of one server fetch together, and one of them may die."""

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.mirror.stand import LOOPBACK, standing
from tests.support.eventually import eventually
from tests.support.server import basic, digest_of, running_server
from tests.support.upstreams import Gate, faults

pytestmark = pytest.mark.slow  # servers of its own, and one that dies

PATH = "library/app"
SIZE = 4_000_000
CLIENTS = 40


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with (
        running_server(folder, workers=3, environment=LOOPBACK) as server,
        standing(server) as stand,
    ):
        yield stand


@pytest.fixture
def layer(upstream):
    return upstream.put_image(PATH, "1", layers=[SIZE]).layers[0]


@pytest.fixture
def cache(stand, upstream, layer):
    made = stand.cache(upstream, PATH)
    upstream.log.clear()
    return made


async def pull(session, cache, digest, arrived):
    """The digest of what came, or nothing when it broke off. `arrived` counts first bytes."""
    url = f"{cache.stand.registry.server.url}/v2/{cache.name}/blobs/{digest}"
    try:
        async with session.get(url, headers=basic(cache.token)) as answer:
            body = bytearray()
            async for piece in answer.content.iter_any():
                arrived.release() if not body else None
                body += piece
            return digest_of(bytes(body)) if answer.status == 200 else body.decode()
    except aiohttp.ClientError:
        return ""


def session():
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))


def writer_of_spool(stand):
    """The process that holds the lock of the one spool."""
    [spool] = stand.spools()
    inode = spool.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        if match := re.search(rf"FLOCK .* (\d+) [0-9a-f:]+:{inode} ", line):
            return int(match[1])
    return None


async def test_all_workers_cost_one_get(cache, upstream, layer):
    upstream.brake.rate = 4_000_000

    async with session() as clients:
        arrived = asyncio.Semaphore(0)
        got = await asyncio.gather(*(pull(clients, cache, layer, arrived) for _ in range(CLIENTS)))

    assert set(got) == {layer}
    assert upstream.log.count(kind="blob", method="GET") == 1
    assert upstream.log.sent(kind="blob") == SIZE


async def test_the_others_go_on_when_the_worker_that_fetches_is_killed(
    stand, cache, upstream, layer
):
    gate = Gate()
    upstream.script(faults.held(gate, at=SIZE // 2), kind="blob", method="GET", times=1)
    parent = psutil.Process(stand.registry.server.process.pid)

    async with session() as clients:
        arrived = asyncio.Semaphore(0)
        pulls = [asyncio.create_task(pull(clients, cache, layer, arrived)) for _ in range(CLIENTS)]
        for _ in range(CLIENTS):  # all of them follow now
            await arrived.acquire()
        leader = writer_of_spool(stand)
        assert leader in {child.pid for child in parent.children()}
        own = _clients_of(leader)
        os.kill(leader, signal.SIGKILL)
        got = await asyncio.gather(*pulls)
        gate.open()

    assert set(got) <= {layer, ""}
    assert got.count("") <= own < CLIENTS
    asked = upstream.log.of(kind="blob", method="GET")
    assert len(asked) == 2
    assert asked[1].headers["range"] == f"bytes={SIZE // 2}-"
    await asyncio.to_thread(eventually, lambda: cache.has(layer))


def _clients_of(pid):
    """How many connections of clients a worker has."""
    process = psutil.Process(pid)
    listening = {c.laddr.port for c in process.net_connections() if c.status == "LISTEN"}
    return sum(
        c.status == "ESTABLISHED" and c.laddr.port in listening for c in process.net_connections()
    )
