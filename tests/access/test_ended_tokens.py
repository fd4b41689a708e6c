"""A token that ended, or that is narrower than its owner, says and repeats nothing."""

import hashlib
import secrets

import pytest

from entrepot.identity.tokens import hash_token
from tests.support.server import basic


def bearer_of(world, token, access=None):
    return {"authorization": f"Bearer {world.signed(token, access or {})}"}


@pytest.mark.parametrize("how", ["expired", "bearer", "revoked"])
def test_a_creation_is_not_repeated_to_a_credential_that_makes_nothing(world, how):
    token = world.registry.new_token("user", user=world.ours.users["owner"])
    key = {"idempotency-key": secrets.token_hex(8)}
    made = world.ask("POST", "/tokens", token, json={"name": "once"}, headers=key)
    assert made.status_code == 201
    headers = basic(token)
    if how == "bearer":
        headers = bearer_of(world, token)
    column = "revoked_at" if how == "revoked" else "expires_at"
    if how != "bearer":
        world.registry.change(
            f"UPDATE tokens SET {column} = 1 WHERE hash = :hash", hash=hash_token(token)
        )

    again = world.ask("POST", "/tokens", json={"name": "once"}, headers=headers | key)

    assert again.status_code == 401
    assert made.json()["token"] not in again.text


@pytest.mark.parametrize("limits", [{"actions": frozenset({"push"})}, {"patterns": ("x/**",)}])
def test_a_limited_administrator_lists_what_that_token_may_see_one_by_one(world, limits):
    name = world.registry.rows(
        "SELECT name FROM users WHERE is_administrator = 1 AND name <> 'admin'"
    )[0][0]
    token = world.registry.new_token("user", user=name, **limits)

    listed = world.ask("GET", "/organisations", token, params={"limit": 1000}).json()["items"]

    seen = world.ask("GET", f"/organisations/{world.ours.slug}", token).status_code
    assert (world.ours.slug in {item["slug"] for item in listed}) == (seen == 200)


def test_a_bearer_token_tells_nothing_of_repositories_that_it_was_not_asked_for(world):
    owner, project = world.ours.secrets["owner"], world.principals["project"]
    names = [*world.ours.names.values(), *world.theirs.names.values(), "no/such", "none-at-all"]

    for token in (owner, project):
        issued = world.issued(token, "repository:some/other:pull")
        answers = {
            name: world.http.get(
                f"/v2/{name}/tags/list", headers={"authorization": f"Bearer {issued}"}
            ).status_code
            for name in names
            if name != world.ours.names["public"] and name != world.theirs.names["public"]
        }
        assert set(answers.values()) == {401}


def test_a_bearer_token_that_was_asked_for_what_is_not_allowed_says_so(world):
    name = world.ours.names["other"]
    issued = world.issued(world.principals["reader"], f"repository:{name}:pull,push")
    headers = {"authorization": f"Bearer {issued}"}

    assert world.http.get(f"/v2/{name}/tags/list", headers=headers).status_code == 200
    assert world.http.post(f"/v2/{name}/blobs/uploads/", headers=headers).status_code == 403


def test_a_refused_body_does_not_end_the_connection(world):
    """What is refused before its body is read would otherwise lose the request behind it."""
    headers = basic("entrepot_user_none")

    for _ in range(3):
        answer = world.ask("POST", "/organisations", json={"slug": "x" * 1_000}, headers=headers)
        assert answer.status_code == 401
        assert world.ask("GET", "/whoami", world.ours.secrets["owner"]).status_code == 200


def test_what_is_kept_of_a_request_cannot_be_guessed_at(world):
    """It may hold a password: a plain hash of it would be easier to guess at than argon2."""
    operator = world.registry.server.token
    body = {"name": world.word(), "password": "correct horse battery"}

    made = world.ask(
        "POST", "/users", operator, json=body, headers={"idempotency-key": world.word()}
    )

    assert made.status_code == 201
    sent = b"\n".join((b"/api/v1/users", b"", made.request.content))
    kept = repr(world.registry.rows("SELECT * FROM idempotency_keys"))
    for text in (made.request.content, sent):
        assert hashlib.sha256(text).hexdigest() not in kept
