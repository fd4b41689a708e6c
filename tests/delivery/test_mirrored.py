"""Blobs of an upstream: streamed while they are fetched, once for a crowd; redirected from then on."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.mirror.fetching import put
from tests.support.bucket import Bucket
from tests.support.eventually import eventually
from tests.support.server import basic, free_port
from tests.support.upstreams.fixtures import upstream as upstream  # noqa: PLC0414  # a fixture

CROWD = 12


def make_cached(server, upstream, path):
    """A repository that has its blobs from the upstream's `library/app`."""
    api = f"{server.url}/api/v1/organisations/main"
    with httpx.Client(headers=basic(server.token), timeout=60) as admin:
        made = {"name": "up", "url": upstream.origin}
        assert admin.post(f"{api}/upstreams", json=made).is_success
        cached = {"path": path, "upstream": {"name": "up", "path": "library/app"}}
        assert admin.post(f"{api}/repositories", json=cached).is_success


def test_a_crowd_on_two_nodes_is_streamed_to_and_those_after_it_are_redirected(
    start, new_place, clients_way, postgres_url, upstream, name
):
    content, digest = put(upstream)
    shared = new_place() | {
        "ENTREPOT_DELIVERY__MODE": "redirect",
        "ENTREPOT_DELIVERY__ENDPOINT": clients_way.origin,
        "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.0/8",
        "ENTREPOT_SECRET_KEY": secrets.token_hex(32),
    }
    ports = free_port(), free_port()
    nodes = [shared | {"ENTREPOT_NODE__URL": f"http://127.0.0.1:{port}"} for port in ports]
    with (
        start(nodes[0], database_url=postgres_url, port=ports[0], workers=2) as first,
        start(nodes[1], database_url=postgres_url, port=ports[1], workers=2) as second,
    ):
        headers = basic(first.token)
        make_cached(first, upstream, name)

        def pull(number):
            port = (first, second)[number % 2].port
            url = f"http://localhost:{port}/v2/{name}/blobs/{digest}"
            return httpx.get(url, headers=headers, timeout=60)

        with ThreadPoolExecutor(CROWD) as threads:
            cold = list(threads.map(pull, range(CROWD)))
        eventually(lambda: pull(0).status_code == 307)
        warm = [pull(number) for number in range(4)]

    assert {answer.status_code for answer in cold} <= {200, 307}  # who comes last finds it warm
    assert all(answer.content == content for answer in cold if answer.status_code == 200)
    assert any(answer.status_code == 200 for answer in cold)
    assert {answer.status_code for answer in warm} == {307}
    assert all(httpx.get(answer.headers["location"]).content == content for answer in warm)
    assert upstream.log.count(kind="blob", method="GET") == 1


def test_the_disk_of_a_node_is_not_filled_by_what_is_fetched(
    start, new_place, upstream, client_of, name
):
    """The object store grows; the node's own disk, with the spool on it, does not."""
    _, digest = put(upstream)
    low = {
        "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.0/8",
        "ENTREPOT_BLOBS__LOW_WATER_BYTES": str(1 << 60),
    }
    with start(new_place() | low) as server:
        make_cached(server, upstream, name)
        client = client_of(server)

        refused = client.request("GET", f"/v2/{name}/blobs/{digest}")

        assert refused.status_code == 507
        assert httpx.get(f"{server.url}/readyz").json()["degraded"] == "disk"
        client.push_blob(f"{name}-pushed", b"goes to the store")


def test_a_blob_that_the_store_lost_is_fetched_again(
    start, new_place, object_server, upstream, client_of, name
):
    content, digest = put(upstream)
    place = new_place()
    bucket = Bucket(object_server, place["ENTREPOT_BLOBS__URL"].split("/")[2])
    settings = {"ENTREPOT_OUTBOUND__ALLOW": "127.0.0.0/8", "ENTREPOT_BLOBS__CACHE_BYTES": "0"}
    with start(place | settings) as server:
        make_cached(server, upstream, name)
        client, path = client_of(server), f"/v2/{name}/blobs/{digest}"
        before = bucket.objects()
        assert client.request("GET", path).content == content
        eventually(lambda: len(bucket.objects()) == len(before) + 1)
        (key,) = set(bucket.objects()) - set(before)
        # Until then who asks gets what is on its way.
        eventually(lambda: not list((server.data / "spool").iterdir()))
        bucket.client().delete_object(Bucket=bucket.name, Key=key)

        assert client.request("GET", path).status_code == 503
        eventually(lambda: client.request("GET", path).content == content)

    assert upstream.log.count(kind="blob", method="GET") == 2
