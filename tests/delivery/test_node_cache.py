"""A node's copies, through HTTP: what a popular image costs the object store."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.server import basic

PULLS = 1_000
AT_ONCE = 16
SIZES = (500, 100_000, 1_000_000)


_COPIES = {"ENTREPOT_BLOBS__CACHE_BYTES": "64MiB"}


@pytest.fixture(scope="module")
def node(start, new_place):
    with start(new_place() | _COPIES, workers=3) as server:
        yield server


@pytest.fixture
def client(node, client_of):
    return client_of(node)


@pytest.fixture
def contents():
    return [secrets.token_bytes(size) for size in SIZES]


def copies(server):
    return {path for path in (server.data / "cache/objects").iterdir() if path.is_file()}


def asked_for(servers_way):
    return [one.asked.key for one in list(servers_way.log) if one.operation == "GetObject"]


def test_a_thousand_pulls_of_an_image_cost_one_request_for_each_blob_and_node(
    start, new_place, postgres_url, client_of, name, contents, servers_way
):
    """The crowd begins at once on both nodes; their workers share what comes."""
    shared = new_place() | _COPIES | {"ENTREPOT_SECRET_KEY": secrets.token_hex(32)}
    with (
        start(shared, database_url=postgres_url, workers=3) as first,
        start(shared, database_url=postgres_url, workers=2) as second,
    ):
        client, headers = client_of(first), basic(first.token)
        paths = [f"/v2/{name}/blobs/{client.push_blob(name, content)}" for content in contents]
        servers_way.log.clear()
        begin = threading.Barrier(AT_ONCE)

        def pull(number):
            server = (first, second)[number % 2]
            if number < AT_ONCE:
                begin.wait(30)
            return [
                crowd.get(f"{server.url}{path}", headers=headers).content for path in paths
            ] == contents

        with httpx.Client(timeout=60) as crowd, ThreadPoolExecutor(AT_ONCE) as threads:
            assert all(threads.map(pull, range(PULLS)))

        asked = asked_for(servers_way)
        assert len(asked) == 2 * len(contents)
        assert len(set(asked)) == len(contents)


def test_a_deleted_blob_is_out_of_reach_although_its_copy_is_here(node, client, name):
    content = secrets.token_bytes(200_000)
    path = f"/v2/{name}/blobs/{client.push_blob(name, content)}"
    before = copies(node)
    assert client.request("GET", path).content == content
    eventually(lambda: len(copies(node)) > len(before))

    assert client.request("DELETE", path).status_code == 202

    assert client.request("GET", path).status_code == 404
    assert client.request("HEAD", path).status_code == 404


def test_the_copy_of_one_repository_is_nothing_to_another(node, client, name):
    content = secrets.token_bytes(200_000)
    digest = client.push_blob(name, content)
    assert client.request("GET", f"/v2/{name}/blobs/{digest}").content == content
    client.push_blob(f"{name}/other", b"else")

    assert client.request("GET", f"/v2/{name}/other/blobs/{digest}").status_code == 404


def test_ranges_and_heads_of_a_copied_blob_are_right(node, client, name, servers_way):
    content = secrets.token_bytes(1_000_000)
    path = f"/v2/{name}/blobs/{client.push_blob(name, content)}"
    before = copies(node)
    assert client.request("GET", path).content == content
    eventually(lambda: len(copies(node)) > len(before))
    servers_way.log.clear()

    part = client.request("GET", path, headers={"range": "bytes=999000-"})
    head = client.request("HEAD", path)

    assert (part.status_code, part.content) == (206, content[999_000:])
    assert head.headers["content-length"] == "1000000"
    assert asked_for(servers_way) == []


def test_hits_and_misses_are_counted(node, client, name):
    def counted(metric):
        lines = httpx.get(f"{node.url}/metrics").text.splitlines()
        start = f"entrepot_cache_{metric}_total "
        return sum(float(line.split()[1]) for line in lines if line.startswith(start))

    metrics = ("hits", "misses", "filled_bytes")
    before = {metric: counted(metric) for metric in metrics}
    path = f"/v2/{name}/blobs/{client.push_blob(name, secrets.token_bytes(5_000))}"
    client.request("GET", path)
    client.request("GET", path)

    for metric in metrics:
        eventually(lambda metric=metric: counted(metric) > before[metric])
