"""The token service, as all clients together need it."""

import base64
import calendar
import json
import time

import httpx
import pytest

from tests.support.server import basic


@pytest.fixture
def ask(closed):
    """GET the token endpoint."""

    def ask(token=None, headers=None, **params):
        headers = headers or (basic(token) if token else {})
        return httpx.get(
            f"{closed.url}/v2/token",
            params={"service": closed.host, **params},
            headers=headers,
            verify=closed.server.trust,
        )

    return ask


@pytest.fixture
def post(closed):
    def post(**form):
        return httpx.post(
            f"{closed.url}/v2/token",
            data={"service": closed.host, **form},
            verify=closed.server.trust,
        )

    return post


def access_of(answer):
    """What the token inside covers, as sets; it also names what was asked for in vain."""
    payload = answer.json()["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {name: set(actions) for name, actions in claims["access"].items() if actions}


def test_a_token_comes_with_all_that_clients_read(closed, ask, name):
    answer = ask(closed.server.token, scope=f"repository:{name}:pull,push")

    assert answer.status_code == 200
    body = answer.json()
    assert body["token"] == body["access_token"]
    assert 900 <= body["expires_in"] <= 3600
    issued = calendar.timegm(time.strptime(body["issued_at"], "%Y-%m-%dT%H:%M:%SZ"))
    assert abs(issued - time.time()) < 60
    assert body["scope"] == f"repository:{name}:pull,push"
    assert "refresh_token" not in body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.content) < 64 * 1024


def test_scopes_come_repeated_or_parted_by_spaces(closed, ask, name):
    expected = {name: {"pull", "push"}, f"{name}-b": {"pull"}}

    for scope in (
        [f"repository:{name}:pull,push", f"repository:{name}-b:pull"],
        f"repository:{name}:pull,push repository:{name}-b:pull",
        [f"repository:{name}:pull", f"repository:{name}:push repository:{name}-b:pull"],
    ):
        assert access_of(ask(closed.server.token, scope=scope)) == expected


def test_login_asks_for_no_scope(closed, ask):
    for params in (
        {},
        {"scope": ""},
        {"account": "x", "client_id": "docker", "offline_token": "true"},
    ):
        answer = ask(closed.server.token, **params)

        assert answer.status_code == 200
        assert access_of(answer) == {}


def test_docker_keeps_a_refresh_token_when_it_asks(closed, ask, post, name):
    refresh = ask(closed.server.token, offline_token="true").json()["refresh_token"]

    answer = post(
        grant_type="refresh_token", refresh_token=refresh, scope=f"repository:{name}:pull"
    )

    assert answer.status_code == 200
    assert access_of(answer) == {name: {"pull"}}


def test_a_password_grant_by_form_works(closed, post, name):
    answer = post(
        grant_type="password",
        username="x-token",
        password=closed.server.token,
        client_id="containerd-client",
        access_type="offline",
        scope=f"repository:{name}:pull,push repository:{name}-b:pull",
    )

    assert answer.status_code == 200
    assert answer.json()["access_token"] == answer.json()["token"]
    assert answer.json()["refresh_token"]
    assert set(access_of(answer)) == {name, f"{name}-b"}


def test_a_form_may_repeat_its_scope_or_have_none(closed, post, name):
    secret = {"grant_type": "password", "username": "x", "password": closed.server.token}
    scopes = [f"repository:{name}:pull", f"repository:{name}-b:pull"]

    assert set(access_of(post(**secret, scope=scopes))) == {name, f"{name}-b"}
    assert post(**secret).status_code == 200


def test_a_wrong_password_is_refused(closed, ask, post):
    token = closed.server.token
    for wrong in (
        "nonsense",
        token[:-1] + ("y" if token.endswith("x") else "x"),
        token.upper(),
        token + "x",
        "",
    ):
        for answer in (
            ask(headers=basic(wrong)),
            post(grant_type="password", username="x-token", password=wrong),
            post(grant_type="refresh_token", refresh_token=wrong),
        ):
            assert answer.status_code == 401, wrong
            assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
            assert answer.headers["www-authenticate"].startswith("Basic ")


def test_an_unknown_grant_is_refused(post):
    for grant in ("authorization_code", ""):
        assert post(grant_type=grant).status_code == 400


def test_what_is_not_granted_is_left_out_and_no_error(closed, ask, name, slug):
    closed.new_organisation(slug)
    token = closed.new_token("org", slug)

    for scope, expected in (
        (f"repository:{slug}/app:pull,push,delete", {f"{slug}/app": {"pull", "push", "delete"}}),
        (f"repository:{name}:pull,push", {}),
        (f"repository:{slug}/app:pull repository:{name}:pull", {f"{slug}/app": {"pull"}}),
        ("repository:NOT/VALID:pull", {}),
        ("what is this", {}),
        (":::", {}),
    ):
        answer = ask(token, scope=scope)

        assert answer.status_code == 200, scope
        assert access_of(answer) == expected


def test_actions_are_read_generously(closed, ask, name):
    for actions, expected in (
        ("*", {"pull", "push", "delete"}),
        ("pull,*", {"pull", "push", "delete"}),
        ("pull,metadata_read", {"pull"}),
        ("delete", {"delete"}),
        ("admin", None),
    ):
        answer = ask(closed.server.token, scope=f"repository:{name}:{actions}")

        assert access_of(answer) == ({name: expected} if expected else {}), actions


def test_a_class_of_resource_is_ignored(closed, ask, name):
    answer = ask(closed.server.token, scope=f"repository(plugin):{name}:pull")

    assert access_of(answer) == {name: {"pull"}}


def test_a_name_with_a_port_is_taken_apart_at_the_outer_colons(ask, closed):
    answer = ask(closed.server.token, scope="repository:localhost:5000/app:pull")

    assert answer.status_code == 200
    assert access_of(answer) == {}


def test_too_many_scopes_are_refused(closed, ask):
    answer = ask(closed.server.token, scope=" ".join(["repository:a:pull"] * 65))

    assert answer.status_code == 400


def test_nobody_gets_a_token_that_covers_nothing_where_nobody_may_read(ask, name):
    """Docker asks for one before it pulls what is public, and elsewhere it is no error either."""
    answer = ask(scope=f"repository:{name}:pull")

    assert answer.status_code == 200
    assert access_of(answer) == {}


def test_nobody_gets_a_token_to_pull_where_everybody_may(readable, name):
    answer = httpx.get(
        f"{readable.url}/v2/token",
        params={"service": readable.host, "scope": f"repository:{name}:pull,push"},
    )

    assert answer.status_code == 200
    assert access_of(answer) == {name: {"pull"}}


def test_a_token_for_another_host_is_refused(closed, owner, name):
    owner.push_image(name, "v1")
    audience = f"main.{closed.public_host}"
    token = httpx.get(
        f"{closed.url}/v2/token",
        params={"scope": f"repository:{name}:pull"},
        headers={**basic(owner.token), "host": audience},
    ).json()["token"]
    bearer = {"authorization": f"Bearer {token}"}
    path = f"{closed.url}/v2/{name}/manifests/v1"

    assert httpx.get(path, headers={**bearer, "host": audience}).status_code == 200
    refused = httpx.get(path, headers=bearer)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_an_opaque_token_is_a_bearer_token_too(closed, owner, name):
    owner.push_image(name, "v1")

    answer = httpx.get(
        f"{closed.url}/v2/{name}/manifests/v1",
        headers={"authorization": f"Bearer {closed.server.token}"},
    )

    assert answer.status_code == 200


def test_any_user_name_will_do(closed):
    for user in ("x-token", "admin", "", "<token>", "ä", "AWS"):
        pair = base64.b64encode(f"{user}:{closed.server.token}".encode()).decode()
        answer = httpx.get(f"{closed.url}/v2/", headers={"authorization": f"Basic {pair}"})

        assert answer.status_code == 200, user


def test_other_methods_are_refused(closed):
    answer = httpx.put(f"{closed.url}/v2/token")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
