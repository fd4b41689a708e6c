"""A large layer goes to an object store and back through two nodes, whose memory stays as it is."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from tests.support.ceph import running_ceph
from tests.support.eventually import eventually
from tests.support.invariants import check_invariants
from tests.support.kept import KeptObjects
from tests.support.memory import watching
from tests.support.nodes import PREFIX, running_nodes
from tests.support.postgres import new_database
from tests.support.server import basic

MIB = 1 << 20
GB = 10**9
# Whatever the size: what one request may have on its way, and what reading and hashing take. Less
# than each node gets of the smallest layer.
GROWN = 96 * MIB
JOINED_WITHIN = 1_800.0


@dataclass(frozen=True, slots=True)
class Size:
    """Of a layer, and of its pieces."""

    layer: int
    patch: int
    is_joined: bool  # whether to wait for that: it begins once a minute


SIZES = [
    pytest.param(Size(200 * MIB + 1, 24 * MIB, is_joined=False), id="200 MB"),
    pytest.param(
        Size(12 * GB, 64 * MIB, is_joined=True),
        id="12 GB",
        marks=[pytest.mark.soak, pytest.mark.timeout(0)],
    ),
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=SIZES)
def size(request):
    return request.param


@pytest.fixture(scope="module")
def bucket(request, size):
    """Of a server of its own where the layer is large: its disk goes away with it."""
    if not size.is_joined:
        yield request.getfixturevalue("object_server").new_bucket()
        return
    needed = 3 * size.layer + 2 * GB  # two layers, and the segments that one was
    place = tempfile.gettempdir()
    if shutil.disk_usage(place).free < needed:
        pytest.skip(f"needs {needed // GB} GB free in {place}")
    with running_ceph() as server:
        yield server.new_bucket()


@dataclass(slots=True)
class Layer:
    """Bytes that never repeat, made when they are asked for."""

    size: int
    block: bytes

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Those between two positions, which are multiples of MiB or the end."""
        for at in range(start, stop, MIB):
            yield (at.to_bytes(8, "big") + self.block)[: stop - at]

    def digest(self) -> str:
        running = hashlib.sha256()
        for piece in self.pieces(0, self.size):
            running.update(piece)
        return f"sha256:{running.hexdigest()}"


class Registry:
    """Two nodes, and a client that asks the one that a test says."""

    def __init__(self, nodes, stack):
        self.nodes = nodes
        self.pids = [node.server.process.pid for node in nodes.nodes]
        self.clients = [
            stack.enter_context(
                httpx.Client(base_url=node.url, headers=basic(nodes.token), timeout=900)
            )
            for node in nodes.nodes
        ]

    def open(self, name):
        begun = self.clients[0].post(f"/v2/{name}/blobs/uploads/")
        assert begun.status_code == 202, begun.text
        return path_of(begun.headers["location"])

    def patch(self, number, where, layer, start, stop):
        """Send a piece to a node; where the next one goes."""
        headers = {
            "content-length": str(stop - start),
            "content-range": f"{start}-{stop - 1}",
            "content-type": "application/octet-stream",
        }
        pieces = layer.pieces(start, stop)
        sent = self.clients[number].patch(where, content=pieces, headers=headers)
        assert sent.status_code == 202, sent.text
        assert sent.headers["range"] == f"0-{stop - 1}"
        return path_of(sent.headers["location"])

    def commit(self, number, where, digest):
        done = self.clients[number].put(str(httpx.URL(where).copy_merge_params({"digest": digest})))
        assert done.status_code == 201, done.text

    def pulled(self, number, name, digest):
        """The digest of what a node sends."""
        running = hashlib.sha256()
        with self.clients[number].stream("GET", f"/v2/{name}/blobs/{digest}") as answer:
            assert answer.status_code == 200
            for piece in answer.iter_raw(MIB):
                running.update(piece)
        return f"sha256:{running.hexdigest()}"

    def is_joined(self):
        """Whether every blob is one object; the segments stay for an hour."""
        sql = "SELECT 1 FROM blobs WHERE storage_key LIKE '%.segments'"
        with psycopg.connect(self.nodes.database_url) as database:
            return database.execute(sql).fetchone() is None


def path_of(location):
    return httpx.URL(location).raw_path.decode()


@pytest.fixture(scope="module")
def registry(tmp_path_factory, postgres_server, postgres_template, bucket):
    folder = tmp_path_factory.mktemp("nodes")
    with (
        new_database(postgres_server, template=postgres_template) as database_url,
        running_nodes(folder, database_url, bucket) as nodes,
        ExitStack() as stack,
    ):
        registry = Registry(nodes, stack)
        layer = Layer(64 * MIB, os.urandom(MIB - 8))  # what the first request needs is there
        for number in range(len(nodes.nodes)):
            where = registry.patch(number, registry.open("warm/up"), layer, 0, layer.size)
            registry.commit(number, where, layer.digest())
            registry.pulled(number, "warm/up", layer.digest())
        yield registry
        check_invariants(database_url, KeptObjects(bucket, PREFIX), samples=0)


@pytest.fixture
def layer(size):
    return Layer(size.layer, os.urandom(MIB - 8))


@contextmanager
def told(what, size):
    """Say how fast something was."""
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    print(f"\n{what}: {seconds:.0f} s, {size / seconds / 1e6:.0f} MB/s", end="")


def test_a_layer_in_one_patch_goes_there_and_back(registry, layer, name):
    digest = layer.digest()

    with watching(registry.pids) as memory:
        with told("one PATCH", layer.size):
            where = registry.patch(0, registry.open(name), layer, 0, layer.size)
        with told("commit at the other node", layer.size):
            registry.commit(1, where, digest)
        with told("two pulls", 2 * layer.size):
            assert [registry.pulled(number, name, digest) for number in (0, 1)] == [digest] * 2

    print(f"\nmemory: {memory}")
    assert memory.grown <= GROWN


def test_a_layer_in_patches_over_alternating_nodes_goes_there_and_back(registry, layer, size, name):
    digest = layer.digest()

    with watching(registry.pids) as memory:
        where = registry.open(name)
        with told("PATCHes", layer.size):
            for turn, start in enumerate(range(0, layer.size, size.patch)):
                stop = min(start + size.patch, layer.size)
                where = registry.patch(turn % 2, where, layer, start, stop)
        with told("commit", layer.size):
            registry.commit(0, where, digest)
        with told("two pulls", 2 * layer.size):
            assert [registry.pulled(number, name, digest) for number in (0, 1)] == [digest] * 2
        if size.is_joined:
            eventually(registry.is_joined, within=JOINED_WITHIN)  # it began while they pulled
            with told("pull of what was joined", layer.size):
                assert registry.pulled(1, name, digest) == digest

    print(f"\nmemory: {memory}")
    assert memory.grown <= GROWN
