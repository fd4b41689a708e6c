"""Pushing blobs: one request, two, or a stream (end-4, end-5, end-6)."""

import re
import secrets

import pytest

from tests.protocol.registry import credential_of
from tests.protocol.wire import connection, head, receive, send
from tests.support.server import digest_of


@pytest.fixture
def content():
    return secrets.token_bytes(100_000)


def begin(client, name, **options):
    answer = client.request("POST", f"/v2/{name}/blobs/uploads/", **options)
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def pull(client, name, digest):
    return client.request("GET", f"/v2/{name}/blobs/{digest}").content


def test_an_upload_begins_with_a_location_of_its_own(client, name):
    answer = client.request("POST", f"/v2/{name}/blobs/uploads/")

    assert answer.status_code == 202
    assert answer.headers["range"] == "0-0"
    assert answer.headers["content-length"] == "0"
    location, upload = answer.headers["location"], answer.headers["docker-upload-uuid"]
    assert location == f"/v2/{name}/blobs/uploads/{upload}"
    assert re.fullmatch(r"[0-9a-f-]{36}", upload)
    assert begin(client, name) != location


def test_an_upload_begins_whatever_the_post_looks_like(registry, client, name):
    credential = credential_of(registry, client, name)
    path = f"/v2/{name}/blobs/uploads"

    for target, headers, body in (
        (path, {}, None),
        (f"{path}/", {}, b""),
        (f"{path}/", {"Content-Type": "application/json"}, b""),
        (f"{path}/", {"Content-Type": "what is this"}, b"ignored"),
        (f"{path}/?ns=docker.io", {}, b""),
        (f"{path}/?unknown=1&empty=", {}, b""),
    ):
        answer = send(registry.server, "POST", target, {**credential, **headers}, body)

        assert answer.status == 202, (target, headers)
        assert answer.headers["location"].startswith(f"{path}/")


def test_one_put_finishes_an_upload(client, name, content):
    digest = digest_of(content)

    answer = client.request("PUT", begin(client, name), params={"digest": digest}, content=content)

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v2/{name}/blobs/{digest}"
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["content-length"] == "0"
    assert client.request("GET", answer.headers["location"]).content == content


def test_a_post_may_carry_the_whole_blob(client, name, content):
    digest = digest_of(content)

    answer = client.request(
        "POST", f"/v2/{name}/blobs/uploads/", params={"digest": digest}, content=content
    )

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v2/{name}/blobs/{digest}"
    assert answer.headers["docker-content-digest"] == digest
    assert pull(client, name, digest) == content


def test_a_post_of_nothing_is_the_empty_blob_and_no_other(client, name):
    path = f"/v2/{name}/blobs/uploads/"

    empty = client.request("POST", path, params={"digest": digest_of(b"")}, content=b"")
    other = client.request("POST", path, params={"digest": digest_of(b"x")}, content=b"")

    assert empty.status_code == 201
    assert pull(client, name, digest_of(b"")) == b""
    assert other.status_code == 202


def test_a_post_with_another_digest_than_its_bytes_is_refused(client, name, content):
    path = f"/v2/{name}/blobs/uploads/"

    for digest in (digest_of(b"other"), "sha256:short", "md5:" + "a" * 32, ""):
        answer = client.request("POST", path, params={"digest": digest}, content=content)

        assert answer.status_code == 400, digest
        assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_final_digest_decides_the_algorithm(client, name, content, algorithm):
    digest = digest_of(content, algorithm)

    for announced in ("sha256", "sha512", None):
        params = {"digest-algorithm": announced} if announced else {}
        location = begin(client, name, params=params)
        client.request("PATCH", location, content=content[:50_000])
        answer = client.request(
            "PUT", location, params={"digest": digest}, content=content[50_000:]
        )

        assert answer.status_code == 201
        assert answer.headers["docker-content-digest"] == digest
    assert pull(client, name, digest) == content


def test_an_unknown_digest_algorithm_is_refused(client, name):
    for algorithm in ("md5", "sha1", "blake3", "SHA256"):
        answer = client.request(
            "POST", f"/v2/{name}/blobs/uploads/", params={"digest-algorithm": algorithm}
        )

        assert answer.status_code == 400, algorithm
        assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"


@pytest.mark.parametrize("form", ["chunked", "with a length"])
def test_a_stream_has_no_content_range(registry, client, name, content, form):
    credential = credential_of(registry, client, name)
    location = begin(client, name)
    body = {"chunks": [content[:7], content[7:]]} if form == "chunked" else {"body": content}

    patched = send(registry.server, "PATCH", location, credential, **body)
    done = send(registry.server, "PUT", f"{location}?digest={digest_of(content)}", credential, b"")

    assert patched.status == 202
    assert patched.headers["location"] == location
    assert patched.headers["range"] == f"0-{len(content) - 1}"
    assert patched.headers["docker-upload-uuid"] == location.rpartition("/")[2]
    assert done.status == 201
    assert pull(client, name, digest_of(content)) == content


def test_a_put_may_be_chunked_too(registry, client, name, content):
    answer = send(
        registry.server,
        "PUT",
        f"{begin(client, name)}?digest={digest_of(content)}",
        credential_of(registry, client, name),
        chunks=[content],
    )

    assert answer.status == 201
    assert pull(client, name, digest_of(content)) == content


def test_an_empty_patch_changes_nothing(client, name, content):
    location = begin(client, name)

    empty = client.request("PATCH", location, content=b"")
    full = client.request("PATCH", location, content=content)
    again = client.request("PATCH", location, content=b"")

    assert (empty.status_code, empty.headers["range"]) == (202, "0-0")
    assert full.headers["range"] == again.headers["range"] == "0-99999"
    done = client.request("PUT", location, params={"digest": digest_of(content)})
    assert done.status_code == 201


def test_the_digest_may_come_percent_encoded_and_after_other_fields(
    registry, client, name, content
):
    credential = credential_of(registry, client, name)
    encoded = digest_of(content).replace(":", "%3A")

    for query in (f"?digest={encoded}", f"?_state=abc&digest={encoded}", f"?digest={encoded}&x"):
        answer = send(registry.server, "PUT", begin(client, name) + query, credential, content)

        assert answer.status == 201, query


def test_a_put_with_a_wrong_digest_is_refused_and_says_what_came(client, name, content):
    location = begin(client, name)

    wrong = client.request("PUT", location, params={"digest": digest_of(b"x")}, content=content)
    invalid = client.request("PUT", begin(client, name), params={"digest": "sha256:1"})
    missing = client.request("PUT", begin(client, name))

    for answer in (wrong, invalid, missing):
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"
    assert digest_of(content) in wrong.json()["errors"][0]["message"]
    missing = client.request("GET", f"/v2/{name}/blobs/{digest_of(content)}")
    assert missing.status_code == 404


def test_a_put_that_is_repeated_succeeds_again(client, name, content):
    location, params = begin(client, name), {"digest": digest_of(content)}
    client.request("PATCH", location, content=content)

    first = client.request("PUT", location, params=params)
    second = client.request("PUT", location, params=params)
    other = client.request("PUT", location, params={"digest": digest_of(b"other")})

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["location"] == first.headers["location"]
    assert other.status_code == 404


def test_two_clients_may_push_the_same_blob_at_once(client, name, content):
    params = {"digest": digest_of(content)}
    locations = [begin(client, name) for _ in range(3)]
    for location in locations:
        client.request("PATCH", location, content=content)

    answers = [client.request("PUT", location, params=params) for location in locations]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert pull(client, name, digest_of(content)) == content


def test_expect_100_continue_is_answered_before_the_body(registry, client, name, content):
    target = f"{begin(client, name)}?digest={digest_of(content)}"
    headers = {
        **credential_of(registry, client, name),
        "Expect": "100-continue",
        "Content-Length": str(len(content)),
    }

    with connection(registry.server) as sock:
        sock.sendall(head(registry.server, "PUT", target, headers))
        interim = sock.recv(1_000)
        sock.sendall(content)
        answer = receive(sock)

    assert interim.startswith(b"HTTP/1.1 100 ")
    assert answer.status == 201


def test_a_body_that_breaks_off_keeps_what_came(registry, client, name, content):
    location = begin(client, name)
    headers = {
        **credential_of(registry, client, name),
        "Expect": "100-continue",
        "Content-Length": str(len(content)),
    }
    with connection(registry.server) as sock:
        sock.sendall(head(registry.server, "PATCH", location, headers))
        # Once the server asks for the body it has the upload, and nobody else writes before it ends.
        assert sock.recv(1_000).startswith(b"HTTP/1.1 100 ")
        sock.sendall(content[:60_000])

    # In an object store nothing is locked: what came may count only once it was asked for.
    size, rest = -1, None
    while rest is None or rest.status_code == 416:
        size = _settled_size(client, location)
        rest = client.request(
            "PATCH",
            location,
            content=content[size:],
            headers={"content-range": f"{size}-{len(content) - 1}"},
        )

    assert 0 <= size <= 60_000
    assert rest.status_code == 202
    done = client.request("PUT", location, params={"digest": digest_of(content)})
    assert done.status_code == 201


def _settled_size(client, location):
    """How much the server keeps, once it has noticed that nobody sends any more."""
    while True:
        answer = client.request("PATCH", location, content=b"")
        if answer.status_code == 202:
            end = int(answer.headers["range"].partition("-")[2])
            return end + 1 if end else 0
