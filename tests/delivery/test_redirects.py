"""Blobs that a client is sent to the object store for (end-2, "Pulling blobs"; RFC 9110, 15.4.8)."""

import secrets
import urllib.parse

import httpx
import pytest

from tests.support.server import digest_of

SIZE = 200_000


@pytest.fixture(scope="module")
def server(start, new_place, clients_way):
    redirecting = {
        "ENTREPOT_DELIVERY__MODE": "redirect",
        "ENTREPOT_DELIVERY__ENDPOINT": clients_way.origin,
        "ENTREPOT_DELIVERY__STREAM_TO": "192.0.2.0/24",
        "ENTREPOT_TRUSTED_PROXIES": "127.0.0.1,::1",
        "ENTREPOT_LOG__REQUESTS": "true",
        "ENTREPOT_LOG__LEVEL": "debug",
    }
    with start({**new_place(), **redirecting}) as server:
        yield server


@pytest.fixture
def client(server, client_of):
    return client_of(server)


@pytest.fixture
def content():
    return secrets.token_bytes(SIZE)


@pytest.fixture
def blob(client, name, content):
    return f"/v2/{name}/blobs/{client.push_blob(name, content)}"


def test_a_blob_is_fetched_from_the_store(client, blob, content, clients_way):
    answer = client.request("GET", blob)

    assert answer.status_code == 307
    assert answer.content == b""
    assert answer.headers["docker-content-digest"] == digest_of(content)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["location"].startswith(f"{clients_way.origin}/")
    assert httpx.get(answer.headers["location"]).content == content


def test_the_address_is_good_for_as_long_as_the_settings_say(client, blob):
    location = urllib.parse.urlsplit(client.request("GET", blob).headers["location"])

    assert urllib.parse.parse_qs(location.query)["X-Amz-Expires"] == ["3000"]


def test_the_address_is_of_this_object_and_method_alone(client, blob):
    location = client.request("GET", blob).headers["location"]
    other = location.replace("?", "0?", 1)

    assert httpx.get(other).status_code in {403, 404}
    assert httpx.put(location, content=b"else").status_code == 403
    assert httpx.delete(location).status_code == 403


def test_head_is_answered_here(client, blob, content):
    answer = client.request("HEAD", blob)

    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["docker-content-digest"] == digest_of(content)


def test_what_the_client_has_is_not_sent_again(client, blob, content):
    etag = {"if-none-match": f'"{digest_of(content)}"'}

    assert client.request("GET", blob, headers=etag).status_code == 304


def test_a_range_is_fetched_from_the_store(client, blob, content):
    wanted = {"range": "bytes=100000-"}

    answer = client.request("GET", blob, headers=wanted)
    there = httpx.get(answer.headers["location"], headers=wanted)

    assert answer.status_code == 307
    assert there.status_code == 206
    assert there.headers["content-range"] == f"bytes 100000-{SIZE - 1}/{SIZE}"
    assert there.content == content[100_000:]


def test_several_ranges_are_answered_here(client, blob, content):
    answer = client.request("GET", blob, headers={"range": "bytes=0-9,50-59"})

    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert content[50:60] in answer.content


def test_a_small_blob_is_answered_here(client, name):
    content = secrets.token_bytes(65_536)
    digest = client.push_blob(name, content)

    answer = client.request("GET", f"/v2/{name}/blobs/{digest}")

    assert (answer.status_code, answer.content) == (200, content)


def test_a_client_of_a_network_that_cannot_reach_the_store_gets_the_bytes(client, blob, content):
    answer = client.request("GET", blob, headers={"x-forwarded-for": "192.0.2.9"})

    assert (answer.status_code, answer.content) == (200, content)


def test_a_client_whose_token_would_follow_gets_the_bytes(server, client, blob, content):
    """It calls us by the store's name, and clients send their credential to any port of that."""
    same = str(httpx.URL(server.url).copy_with(host="127.0.0.1"))

    answer = client.request("GET", f"{same}{blob}")

    assert (answer.status_code, answer.content) == (200, content)


def test_nobody_is_sent_anywhere_without_the_right(client, blob):
    for caller in ({}, {"authorization": "Bearer nonsense"}):
        answer = client.http.get(blob, headers=caller)

        assert answer.status_code == 401
        assert "location" not in answer.headers


def test_a_blob_in_segments_is_answered_here_until_they_are_joined(client, name, content):
    place = client.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    for half in (content[: SIZE // 2], content[SIZE // 2 :]):
        place = client.request("PATCH", place, content=half).headers["location"]
    digest = digest_of(content)
    assert client.request("PUT", f"{place}?digest={digest}").status_code == 201

    answer = client.request("GET", f"/v2/{name}/blobs/{digest}")

    assert answer.status_code in {200, 307}  # joined by now
    there = answer if answer.status_code == 200 else httpx.get(answer.headers["location"])
    assert there.content == content


def test_a_redirect_asks_the_store_nothing(client, blob, servers_way):
    key = httpx.URL(client.request("GET", blob).headers["location"]).path.rpartition("/")[2]
    pushed = len(asked_of(servers_way, key))

    for _ in range(20):
        assert client.request("GET", blob).status_code == 307

    assert pushed
    assert len(asked_of(servers_way, key)) == pushed


def asked_of(servers_way, key):
    """What was asked of one object; jobs ask of others."""
    return [one for one in list(servers_way.log) if one.asked.key.endswith(key)]


def test_redirects_are_counted_and_no_log_has_their_signature(server, client, blob):
    location = client.request("GET", blob).headers["location"]
    signature = location.rpartition("X-Amz-Signature=")[2]

    metrics = httpx.get(f"{server.url}/metrics").text
    assert any(
        line.startswith("entrepot_redirects_total") and float(line.split()[-1]) >= 1
        for line in metrics.splitlines()
    )
    log = server.log.read_text()
    assert "request.answered" in log
    assert signature not in log
    assert "X-Amz-Signature" not in log
