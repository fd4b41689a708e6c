"""Many clients, one cold blob: one question upstream, whoever goes away meanwhile."""

import asyncio
import random
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import aiohttp
import pytest

from entrepot.identity.keys import SecretKey
from tests.mirror.stand import LOOPBACK, Cache, Stand, standing
from tests.support.eventually import eventually
from tests.support.kept import KeptObjects
from tests.support.postgres import new_database
from tests.support.server import basic, digest_of, free_port, running_server
from tests.support.upstreams import Gate, faults

pytestmark = pytest.mark.slow  # two nodes, and hundreds of clients

PATH = "library/app"
SIZE = 4_000_000
CLIENTS = 200


class Nodes:
    """Nodes of one cluster: a database, a bucket of objects, and data folders of their own."""

    def __init__(self, folder, database_url, bucket):
        self.folder = folder
        self.database_url = database_url
        self.bucket = bucket
        self._key = SecretKey.new().text

    @contextmanager
    def running(self, name):
        """Another node."""
        port = free_port()
        environment = {**self.environment, "ENTREPOT_NODE__URL": f"http://127.0.0.1:{port}"}
        with running_server(
            self.folder / name,
            database_url=self.database_url,
            port=port,
            environment=environment,
        ) as server:
            yield server

    @property
    def environment(self):
        """What they share."""
        return {
            **self.bucket.settings(),
            "ENTREPOT_SECRET_KEY": self._key,
            "ENTREPOT_FETCH__TAKE_OVER_SECONDS": "5",  # the least
            **LOOPBACK,
        }


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, postgres_server, object_server):
    folder = tmp_path_factory.mktemp("nodes")
    with new_database(postgres_server) as url:
        yield Nodes(folder, url, object_server.new_bucket())


@pytest.fixture(scope="module")
def stand(nodes):
    """The first node."""
    with nodes.running("first") as server, standing(server, KeptObjects(nodes.bucket)) as stand:
        yield stand


@pytest.fixture(scope="module")
def second(nodes, stand):
    """The other node."""
    with nodes.running("second") as server:
        yield server


@pytest.fixture
def layer(upstream):
    return upstream.put_image(PATH, "1", layers=[SIZE]).layers[0]


@pytest.fixture
def cache(stand, upstream, layer):
    made = stand.cache(upstream, PATH, freshness=0)
    upstream.log.clear()
    yield made
    # Before the upstream goes, and the second node, which may lead: readers do not wait for the
    # store, and what the dead leave is swept after minutes.
    stand.wait_for_no_spools()


async def pull(session, url, token, leave_after=None):
    """How many bytes came, and their digest; somebody may leave in the middle."""
    async with session.get(url, headers=basic(token)) as answer:
        pieces = []
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            if leave_after is not None and sum(map(len, pieces)) >= leave_after:
                answer.close()
                return answer.status, ""
        body = b"".join(pieces)
        return answer.status, digest_of(body) if answer.status == 200 else body.decode()


class Seen:
    """What became of requests so far: how many are sent, and how many have a head of an answer."""

    def __init__(self):
        self.sent = asyncio.Semaphore(0)
        self.answered = asyncio.Semaphore(0)

    def trace(self):
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_releasing(self.sent))
        trace.on_request_end.append(_releasing(self.answered))
        return trace


def _releasing(semaphore):
    async def release(*_):
        semaphore.release()

    return release


async def each_of(semaphore, clients):
    """Until it has come to that for each of them."""
    async with asyncio.timeout(30):
        for _ in range(clients):
            await semaphore.acquire()


async def herd(cache, path, servers, *, clients=CLIENTS, leaving=0, seen=None):
    """Everybody at once, spread over the nodes; some go away in the middle."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=100)
    traces = [seen.trace()] if seen else []
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, trace_configs=traces
    ) as session:
        return await asyncio.gather(
            *(
                pull(
                    session,
                    f"{servers[number % len(servers)].url}/v2/{cache.name}/{path}",
                    cache.token,
                    random.Random(number).randrange(SIZE) if number < leaving else None,
                )
                for number in range(clients)
            )
        )


def test_two_hundred_clients_on_two_nodes_cost_one_get(stand, second, cache, upstream, layer):
    upstream.brake.rate = 4_000_000

    answers = asyncio.run(herd(cache, f"blobs/{layer}", [stand.registry.server, second]))

    assert set(answers) == {(200, layer)}
    assert upstream.log.count(kind="blob", method="GET") == 1
    assert upstream.log.sent(kind="blob") == SIZE


def test_those_who_leave_cost_nothing_and_stop_nobody(stand, second, cache, upstream, layer):
    upstream.brake.rate = 4_000_000

    answers = asyncio.run(
        herd(cache, f"blobs/{layer}", [stand.registry.server, second], clients=80, leaving=60)
    )

    assert answers.count((200, layer)) >= 20
    assert upstream.log.count(kind="blob", method="GET") == 1
    stand.wait_for_no_spools()


def test_the_first_who_leaves_does_not_take_the_others_along(stand, second, cache, upstream, layer):
    gate = Gate()
    upstream.script(faults.held(gate, 100_000), kind="blob", method="GET")
    with cache.opened(f"blobs/{layer}") as first:
        assert first.read(1_000)
        gate.wait_until_reached()

    async def others():
        seen, nodes = Seen(), [stand.registry.server, second]
        waiting = asyncio.create_task(herd(cache, f"blobs/{layer}", nodes, clients=10, seen=seen))
        await each_of(seen.answered, 10)
        gate.open()
        return await waiting

    assert set(asyncio.run(others())) == {(200, layer)}
    assert upstream.log.count(kind="blob", method="GET") == 1


def test_everybody_hears_of_an_error_and_nobody_remembers_it(stand, second, cache, upstream, layer):
    upstream.script(faults.wrong_bytes, kind="blob", method="GET", times=1)

    def complete(answers):
        return [answer for answer in answers if answer == (200, layer)]

    async def failing():
        try:
            return await herd(cache, f"blobs/{layer}", [stand.registry.server], clients=1)
        except aiohttp.ClientError:
            return []

    assert complete(asyncio.run(failing())) == []
    answers = asyncio.run(herd(cache, f"blobs/{layer}", [stand.registry.server, second], clients=9))

    assert set(answers) == {(200, layer)}


async def all_while_held(gate, cache, nodes):
    """What fifty get who ask for a tag before the upstream has said a word of it."""
    seen = Seen()
    waiting = asyncio.create_task(herd(cache, "manifests/1", nodes, clients=50, seen=seen))
    await asyncio.to_thread(gate.wait_until_reached)
    await each_of(seen.sent, 50)
    gate.open()
    return await waiting


def test_a_cold_tag_costs_one_get(stand, second, cache, upstream):
    nodes = [stand.registry.server, second]
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest", method="GET")

    answers = asyncio.run(all_while_held(gate, cache, nodes))

    assert {status for status, _ in answers} == {200}
    assert upstream.log.count(kind="manifest", method="GET") == 1


def test_a_tag_to_be_checked_costs_one_head_at_a_time(stand, second, cache, upstream):
    nodes = [stand.registry.server, second]
    assert cache.manifest("1").status == 200
    upstream.log.clear()
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest", method="HEAD")

    answers = asyncio.run(all_while_held(gate, cache, nodes))

    assert {status for status, _ in answers} == {200}
    # Freshness is 0: who came after the answer asks again, but never at the same time.
    assert upstream.log.count(kind="manifest", method="GET") == 0
    heads = sorted(
        (entry.began, entry.ended) for entry in upstream.log.of(kind="manifest", method="HEAD")
    )
    assert all(later[0] >= earlier[1] - 0.05 for earlier, later in pairwise(heads))


def test_a_node_that_is_killed_leaves_no_client_of_the_other_waiting(
    nodes, stand, cache, upstream, layer
):
    """Its own clients break off; the other node goes on and asks a second time at most."""
    server = stand.registry.server
    gate = Gate()
    upstream.script(faults.held(gate, 1_000_000), kind="blob", method="GET", times=1)
    with nodes.running("killed") as leader:
        there = Cache(_at(stand, leader), cache.name, cache.upstream, cache.token)
        with there.opened(f"blobs/{layer}") as first:
            assert first.read(1_000)
            gate.wait_until_reached()

            async def follow():
                seen = Seen()
                waiting = asyncio.create_task(
                    herd(cache, f"blobs/{layer}", [server], clients=5, seen=seen)
                )
                await each_of(seen.answered, 5)
                await asyncio.to_thread(leader.stop, 9)
                return await waiting

            begun = time.monotonic()
            answers = asyncio.run(follow())
            gate.open()

    assert set(answers) == {(200, layer)}
    assert upstream.log.count(kind="blob", method="GET") <= 2
    assert time.monotonic() - begun < 60  # their own patience is longer
    eventually(lambda: cache.has(layer))


def _at(stand, server):
    """The stand as seen from another node."""
    other = Stand.__new__(Stand)
    other.registry = replace(stand.registry, server=server)
    return other
