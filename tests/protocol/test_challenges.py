"""The challenge of a 401: what a client needs to know to come again."""

import dataclasses

import pytest

from entrepot.identity.bearer import BearerClaims, BearerKey
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.model.clock import SECOND, SystemClock
from tests.protocol.wire import send
from tests.support.server import basic, digest_of

DIGEST = digest_of(b"x")
SCOPES = {
    ("GET", "manifests/v1"): "pull",
    ("HEAD", "manifests/v1"): "pull",
    ("PUT", "manifests/v1"): "pull,push",
    ("DELETE", "manifests/v1"): "delete",
    ("GET", f"blobs/{DIGEST}"): "pull",
    ("DELETE", f"blobs/{DIGEST}"): "delete",
    ("POST", "blobs/uploads/"): "pull,push",
    ("GET", "blobs/uploads/x"): "pull",
    ("PATCH", "blobs/uploads/x"): "pull,push",
    ("PUT", "blobs/uploads/x"): "pull,push",
    ("DELETE", "blobs/uploads/x"): "pull,push",
    ("GET", "tags/list"): "pull",
    ("GET", f"referrers/{DIGEST}"): "pull",
}


def test_the_challenge_names_the_scope_that_the_request_needs(closed, name):
    for (method, path), actions in SCOPES.items():
        answer = send(
            closed.server, method, f"/v2/{name}/{path}", {}, b"" if method[0] == "P" else None
        )

        assert answer.status == 401, path
        assert answer.headers.get_all("www-authenticate") == [
            (
                f'Bearer realm="{closed.url}/v2/token",service="{closed.host}"'
                f',scope="repository:{name}:{actions}"'
            )
        ]
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.body)) or method == "HEAD"


@pytest.mark.parametrize("host", ["registry", "tenant", "localhost", "unknown"])
def test_realm_and_service_are_of_a_host_that_is_ours(closed, host):
    port = closed.server.port
    asked, answered = {
        "registry": (closed.public_host, closed.public_host),
        "tenant": (f"main.{closed.public_host}",) * 2,
        "localhost": (f"localhost:{port}",) * 2,
        "unknown": ("evil.example.com", closed.public_host),
    }[host]

    challenge = send(closed.server, "GET", "/v2/", {"Host": asked}).headers["www-authenticate"]

    assert challenge == f'Bearer realm="http://{answered}/v2/token",service="{answered}"'


def test_a_bearer_token_that_covers_too_little_says_so(closed, owner, name):
    owner.push_image(name, "v1")
    pull = closed.bearer(owner.token, f"repository:{name}:pull")

    assert send(closed.server, "GET", f"/v2/{name}/manifests/v1", pull).status == 200
    for method, path in (("POST", "blobs/uploads/"), ("DELETE", "manifests/v1")):
        answer = send(closed.server, method, f"/v2/{name}/{path}", pull)

        assert answer.status == 401
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    other = send(closed.server, "GET", f"/v2/{name}-other/manifests/v1", pull)
    assert other.status == 401


def test_only_bearer_tokens_that_we_signed_and_that_live_are_taken(closed, owner, name):
    owner.push_image(name, "v1")
    now = SystemClock().now()
    good = BearerClaims(0, closed.host, {name: frozenset({"pull"})}, now, now + 3600 * SECOND)
    token_id = closed.rows("SELECT id FROM tokens WHERE name = 'first start'")[0][0]
    good = dataclasses.replace(good, token_id=token_id)
    old = dataclasses.replace(good, issued_at=now - 7200 * SECOND, expires_at=now - 3600 * SECOND)
    tokens = {
        "good": closed.key.sign(good),
        "expired": closed.key.sign(old),
        "of another key": BearerKey(KeyRing(SecretKey.of(b"x" * 32))).sign(good),
        "of nobody": closed.key.sign(dataclasses.replace(good, token_id=1)),
        "for another host": closed.key.sign(dataclasses.replace(good, audience="example.com")),
        "unsigned": closed.key.sign(good).rpartition(".")[0] + ".",
        "garbage": "a.b.c",
    }

    answers = {
        kind: send(
            closed.server, "GET", f"/v2/{name}/manifests/v1", {"Authorization": f"Bearer {token}"}
        )
        for kind, token in tokens.items()
    }

    assert answers.pop("good").status == 200
    for kind, answer in answers.items():
        assert answer.status == 401, kind
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_known_caller_without_the_right_is_denied_not_asked_again(closed, name, scheme):
    """A token that leaves out what its owner may not do would leave it out again."""
    reader = closed.new_token("user", actions=frozenset({"pull"}))
    headers = basic(reader)
    if scheme == "bearer":
        headers = closed.bearer(reader, f"repository:{name}:pull,push")

    answer = send(closed.server, "POST", f"/v2/{name}/blobs/uploads/", headers, b"")

    assert answer.status == 403
    assert b"DENIED" in answer.body
    assert b"this credential may not push here" in answer.body
    assert "www-authenticate" not in answer.headers


def test_nobody_with_a_bearer_token_is_asked_to_log_in(closed, name):
    nobody = closed.bearer(None, f"repository:{name}:pull,push")

    for method, path in (("GET", "tags/list"), ("POST", "blobs/uploads/")):
        answer = send(closed.server, method, f"/v2/{name}/{path}", nobody, b"")

        assert answer.status == 401
        assert b"log in first" in answer.body
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
