"""Upload sessions: their status (end-13), their end (end-14), and whose they are."""

import secrets

from tests.protocol.registry import credential_of
from tests.protocol.test_uploads import begin
from tests.protocol.wire import send
from tests.support.server import Client, basic, digest_of

CONTENT = b"0123456789"
NOBODYS = "00000000-0000-4000-8000-000000000000"


def test_the_status_says_how_far_an_upload_is_and_changes_nothing(client, name):
    location = begin(client, name)

    fresh = client.request("GET", location)
    client.request("PATCH", location, content=CONTENT)
    later = [client.request("GET", location) for _ in range(3)]

    assert (fresh.status_code, fresh.headers["range"]) == (204, "0-0")
    for answer in later:
        assert answer.status_code == 204
        assert answer.headers["range"] == "0-9"
        assert answer.headers["location"] == location
        assert answer.headers["docker-upload-uuid"] == location.rpartition("/")[2]
    done = client.request("PUT", location, params={"digest": digest_of(CONTENT)})
    assert done.status_code == 201


def test_every_location_of_an_upload_stays_good(client, name):
    location = begin(client, name)

    seen = [client.request("PATCH", location, content=b"0").headers["location"] for _ in range(3)]

    assert seen == [location] * 3


def test_a_pull_scope_is_enough_to_ask_for_the_status(closed, name):
    push = closed.bearer(closed.server.token, f"repository:{name}:pull,push")
    begun = send(closed.server, "POST", f"/v2/{name}/blobs/uploads/", push)
    pull = closed.bearer(closed.server.token, f"repository:{name}:pull")

    answer = send(closed.server, "GET", begun.headers["location"], pull)

    assert answer.status == 204


def test_a_cancelled_upload_is_gone(client, name):
    location = begin(client, name)
    client.request("PATCH", location, content=CONTENT)

    cancelled = client.request("DELETE", location)

    assert cancelled.status_code == 204
    assert cancelled.content == b""
    for method in ("GET", "PATCH", "DELETE"):
        answer = client.request(method, location)

        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN"
    done = client.request("PUT", location, params={"digest": digest_of(CONTENT)})
    assert done.status_code == 404


def test_a_push_scope_is_enough_to_cancel(closed, name):
    push = closed.bearer(closed.server.token, f"repository:{name}:pull,push")
    begun = send(closed.server, "POST", f"/v2/{name}/blobs/uploads/", push)

    assert send(closed.server, "DELETE", begun.headers["location"], push).status == 204


def test_an_upload_that_never_was_is_unknown(registry, client, name):
    client.push_blob(name, b"a repository")
    credential = credential_of(registry, client, name)

    for upload in (NOBODYS, "not-a-uuid", "a" * 500, "..", "."):
        path = f"/v2/{name}/blobs/uploads/{upload}"
        for method in ("GET", "PATCH", "DELETE"):
            answer = send(registry.server, method, path, credential)

            assert answer.status == 404, (method, upload)
            assert b"BLOB_UPLOAD_UNKNOWN" in answer.body


def test_an_upload_belongs_to_its_repository(client, name):
    location = begin(client, name)
    client.request("PATCH", location, content=CONTENT)
    client.push_blob(f"{name}-other", b"a repository")
    elsewhere = location.replace(name, f"{name}-other")

    _is_out_of_reach(client, elsewhere)

    _is_untouched(client, location)


def test_an_upload_belongs_to_its_credential(closed, owner, name):
    """CVE-2026-32589: whoever knows the id of a session must not be able to use it."""
    location = begin(owner, name)
    owner.request("PATCH", location, content=CONTENT)
    other = Client(closed.server, token=closed.new_token("user"))

    _is_out_of_reach(other, location)

    _is_untouched(owner, location)
    other.close()


def test_an_upload_is_out_of_reach_of_another_organisation(closed, owner, name, slug):
    location = begin(owner, name)
    owner.request("PATCH", location, content=CONTENT)
    closed.new_organisation(slug)
    token = closed.new_token("org", slug)
    other = Client(closed.server, token=token)
    other.push_blob(f"{slug}/{name}", b"a repository")

    _is_out_of_reach(other, location.replace(name, f"{slug}/{name}"))
    refused = send(closed.server, "GET", location, basic(token))

    assert refused.status == 404
    _is_untouched(owner, location)
    other.close()


def test_many_uploads_may_be_open_at_once(client, name):
    contents = [secrets.token_bytes(100) for _ in range(20)]
    locations = [begin(client, name) for _ in contents]
    for location, content in zip(locations, contents, strict=True):
        client.request("PATCH", location, content=content)

    for location, content in reversed(list(zip(locations, contents, strict=True))):
        done = client.request("PUT", location, params={"digest": digest_of(content)})
        assert done.status_code == 201


def _is_out_of_reach(client, location):
    params = {"digest": digest_of(CONTENT)}
    answers = [
        client.request("GET", location),
        client.request("PATCH", location, content=b"evil"),
        client.request("PUT", location, params=params),
        client.request("DELETE", location),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4


def _is_untouched(client, location):
    assert client.request("GET", location).headers["range"] == "0-9"
    done = client.request("PUT", location, params={"digest": digest_of(CONTENT)})
    assert done.status_code == 201
