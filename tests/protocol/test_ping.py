"""The ping (end-1), where clients learn how to log in."""

import re

import pytest

from tests.protocol.wire import send
from tests.support.server import basic


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_registry_says_that_it_is_one(client, path, method):
    answer = client.request(method, path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert answer.headers["content-length"] == "2"
    assert answer.content == (b"{}" if method == "GET" else b"")


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_is_unknown_is_told_how_to_log_in(closed, path, method):
    answer = send(closed.server, method, path)

    assert answer.status == 401
    challenge = answer.headers.get_all("www-authenticate")
    assert challenge == [f'Bearer realm="{closed.url}/v2/token",service="{closed.host}"']
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_the_ping_asks_even_where_everybody_may_pull(readable):
    answer = send(readable.server, "GET", "/v2/")

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def test_an_open_registry_asks_nobody(registries):
    answer = send(registries.get("open").server, "GET", "/v2/")

    assert answer.status == 200
    assert "www-authenticate" not in answer.headers


def test_a_token_without_any_scope_passes(closed):
    answer = send(closed.server, "GET", "/v2/", closed.bearer(closed.server.token))

    assert answer.status == 200


def test_basic_passes(closed):
    assert send(closed.server, "GET", "/v2/", basic(closed.server.token)).status == 200


def test_a_wrong_credential_never_passes(registries):
    for mode in ("open", "basic", "readable"):
        server = registries.get(mode).server
        for header in ("Basic !!!", "Basic eDp5", "Bearer x.y.z", "Digest a", "Bearer", ""):
            answer = send(server, "GET", "/v2/", {"Authorization": header})

            assert answer.status == 401, (mode, header)


def test_no_signature_extension_is_announced(client):
    headers = client.request("GET", "/v2/").headers

    assert "x-registry-supports-signatures" not in headers


def test_neither_realm_nor_service_could_be_taken_for_a_scheme(closed):
    challenge = send(closed.server, "GET", "/v2/").headers["www-authenticate"]

    assert len(re.findall("(?i)bearer|basic", challenge)) == 1


def test_older_protocols_and_extensions_are_not_here(client, name):
    client.push_image(name)

    for path in (
        "/v1/search?q=x",
        "/v1/_ping",
        f"/extensions/v2/{name}/signatures/sha256:{'a' * 64}",
        "/v2/_oci/ext/discover",
        f"/v2/{name}/_oci/ext/discover",
    ):
        answer = client.request("GET", path)

        assert answer.status_code == 404, path
