"""The scripted registry answers as the specification says, and badly where it is told to."""

import contextlib
import gc
import socket

import httpx
import pytest

from tests.support.upstreams import Gate, ScriptedUpstream, faults


@pytest.fixture
def image(upstream):
    return upstream.put_image("library/redis", "latest", layers=[100_000])


@pytest.fixture
def layer(upstream, image):
    return f"{upstream.origin}/v2/library/redis/blobs/{image.layers[0]}"


def test_a_manifest_comes_with_its_digest(upstream, image, http):
    answer = http.get(f"{upstream.origin}/v2/library/redis/manifests/latest")

    assert answer.content == image.body
    assert answer.headers["docker-content-digest"] == image.digest


def test_a_range_of_a_blob_comes_alone_and_the_log_counts_it(upstream, layer, http):
    answer = http.get(layer, headers={"range": "bytes=60000-"})

    assert answer.headers["content-range"] == "bytes 60000-99999/100000"
    assert len(answer.content) == upstream.log.sent(kind="blob") == 40_000


@pytest.mark.parametrize(
    "fault", [faults.truncated(10), faults.reset(10), faults.unfinished_chunks(10)]
)
def test_a_broken_body_breaks_for_the_client(upstream, layer, http, fault):
    upstream.script(fault, kind="blob", times=1)

    with pytest.raises(httpx.TransportError):
        http.get(layer)

    assert len(http.get(layer).content) == 100_000


@pytest.mark.parametrize("fault", [faults.chunked, faults.until_closed, faults.slow(10_000_000)])
def test_a_body_may_be_framed_in_any_way(upstream, layer, http, fault):
    upstream.script(fault, kind="blob", times=1)

    assert len(http.get(layer).content) == 100_000


@pytest.mark.parametrize("phase", ["headers", "half the headers", "body"])
def test_a_hang_lasts_until_the_client_goes(upstream, layer, http, phase):
    upstream.script(faults.hangs(phase), kind="blob", times=1)

    with pytest.raises(httpx.ReadTimeout):
        http.get(layer, timeout=0.05)

    assert len(http.get(layer).content) == 100_000


def test_a_blob_host_refuses_a_second_way_of_authentication(upstream, blob_host, layer, http):
    upstream.blob_host = blob_host
    moved = http.get(layer)

    assert moved.status_code == 307
    assert len(http.get(moved.headers["location"]).content) == 100_000
    refused = http.get(moved.headers["location"], headers={"authorization": "Bearer x"})
    assert refused.status_code == 400


def test_a_stopped_server_comes_back_at_its_address(upstream, layer, http):
    upstream.stop()
    with pytest.raises(httpx.ConnectError):
        http.get(layer)

    upstream.start()

    assert http.get(layer).status_code == 200


def test_a_token_opens_what_it_was_asked_for(token_upstream, http):
    origin = token_upstream.origin
    token_upstream.put_image("team/app", "1")
    token_upstream.put_image("team/other", "1")
    refused = http.get(f"{origin}/v2/team/app/manifests/1")

    asked = {"service": "registry.test", "scope": "repository:team/app:pull"}
    token = http.get(f"{origin}/token", params=asked).json()["token"]

    bearer = {"authorization": f"Bearer {token}"}
    assert refused.headers["www-authenticate"] == (
        f'Bearer realm="{origin}/token",service="registry.test",scope="repository:team/app:pull"'
    )
    assert http.get(f"{origin}/v2/team/app/manifests/1", headers=bearer).status_code == 200
    assert http.get(f"{origin}/v2/team/other/manifests/1", headers=bearer).status_code == 401


def test_tags_are_paged(upstream, http):
    for number in range(5):
        upstream.put_image("app", f"v{number}")
    upstream.manners.tags_in_a_page = 2

    first = http.get(f"{upstream.origin}/v2/app/tags/list")

    assert first.json()["tags"] == ["v0", "v1"]
    following = http.get(f"{upstream.origin}{first.links['next']['url']}")
    assert following.json()["tags"] == ["v2", "v3"]


async def test_a_gate_holds_a_body_in_the_loop_of_the_test():
    upstream, gate = ScriptedUpstream(), Gate()
    image = upstream.put_image("app", "1")
    upstream.script(faults.held(gate, 600), kind="blob")

    async with upstream.serving(), httpx.AsyncClient() as http:
        path = f"{upstream.origin}/v2/app/blobs/{image.layers[0]}"
        async with http.stream("GET", path) as answer:
            pieces = answer.aiter_raw()
            before = await anext(pieces)
            gate.open()
            after = b"".join([piece async for piece in pieces])

    assert (len(before), len(after)) == (600, 400)


def test_connections_of_the_last_moment_are_closed_by_a_stop():
    """Those that were not leave warnings behind, in whichever test comes next."""
    for _ in range(20):
        server = ScriptedUpstream()
        with server.running():
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]

        for client in clients:
            client.settimeout(5)
            with client, contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    gc.collect()
