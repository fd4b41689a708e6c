"""Blobs of an upstream: streamed while they are fetched, once for a crowd; redirected from then on."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.mirror.fetching import put
from tests.support.eventually import eventually
from tests.support.server import basic, free_port
from tests.support.upstreams.fixtures import upstream as upstream  # noqa: PLC0414  # a fixture

CROWD = 12


def test_a_crowd_on_two_nodes_is_streamed_to_and_those_after_it_are_redirected(
    start, place, clients_way, postgres_url, upstream, name
):
    content, digest = put(upstream)
    shared = place | {
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
        api = f"{first.url}/api/v1/organisations/main"
        made = {"name": "up", "url": upstream.origin}
        with httpx.Client(headers=headers, timeout=60) as admin:
            assert admin.post(f"{api}/upstreams", json=made).is_success
            cached = {"path": name, "upstream": {"name": "up", "path": "library/app"}}
            assert admin.post(f"{api}/repositories", json=cached).is_success

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
    assert cold[0].status_code == 200
    assert {answer.status_code for answer in warm} == {307}
    assert all(httpx.get(answer.headers["location"]).content == content for answer in warm)
    assert upstream.log.count(kind="blob", method="GET") == 1
