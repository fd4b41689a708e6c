"""Secrets are in the one answer that shows them, and nowhere else (T23)."""

import re

import httpx

from tests.access import table
from tests.access.requests import ask_management, ask_protocol
from tests.access.snapshot import tables_of
from tests.support.server import basic

_SECRET = re.compile(r"entrepot_(?:user|org|project|pull|invite)_[0-9A-Za-z]{36}")


def make_secrets(world):
    """One of each kind, through the API; what was answered."""
    owner, slug, found = world.ours.secrets["owner"], world.ours.slug, {}
    password = f"canary-password-{world.word()}"
    name = world.word()
    bodies = [
        ("/users", world.registry.server.token, {"name": name, "password": password}),
        ("/tokens", owner, {"name": "canary"}),
        (f"/organisations/{slug}/tokens", owner, {"kind": "org", "may_manage": True}),
        (
            f"/organisations/{slug}/tokens",
            owner,
            {"kind": "project", "project": world.ours.project},
        ),
        (f"/organisations/{slug}/tokens", owner, {"kind": "pull"}),
        (f"/organisations/{slug}/invitations", owner, {"note": "canary"}),
        ("/login", None, {"name": name, "password": password}),
    ]
    for path, token, body in bodies:
        headers = {"idempotency-key": world.word()} if token else {}
        answer = world.ask("POST", path, token, json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        shown = answer.json()
        found[path, str(body.get("kind"))] = shown.get("token") or shown.get("invitation")
    made = {secret for secret in found.values() if secret}
    assert len(made) == 6
    return made | {password}


def use(world, secret):
    """As a client would, and as clients do by mistake: in the path, the query, every field."""
    name = world.ours.names["linked"]
    statuses = [
        world.http.get("/v2/", headers=basic(secret)).status_code,
        world.http.get("/api/v1/whoami", headers={"authorization": f"Bearer {secret}"}).status_code,
        world.http.get(f"/v2/{name}/tags/list", headers=basic(secret)).status_code,
        world.ask("POST", "/invitations/accept", json={"invitation": secret}).status_code,
        world.ask("POST", "/login", json={"name": "nobody", "password": secret}).status_code,
        world.ask("POST", "/login", json={"name": secret, "password": "x"}).status_code,
        world.http.post(
            "/v2/token",
            data={"grant_type": "password", "password": secret, "scope": f"repository:{name}:pull"},
        ).status_code,
    ]
    assert all(status < 500 for status in statuses), statuses


def test_a_secret_is_in_one_answer_and_nowhere_else(world):
    secrets = make_secrets(world) | {world.registry.server.token, *world.ours.secrets.values()}
    # Used up, ended and refused ones too.
    for secret in secrets:
        use(world, secret)
    world.as_owner("GET", f"/organisations/{world.ours.slug}/audit?format=json&limit=1000")
    read = [row for row in (*table.MANAGEMENT, *table.REPOSITORIES) if row[0] == "GET"]

    answers: dict[object, httpx.Response] = {}
    for token in (world.registry.server.token, world.ours.secrets["owner"]):
        for row in read:
            answers[row] = ask_management(world, row, basic(token), is_allowed=False)
        for row in table.PROTOCOL:
            if row[0] == "GET" and "upload}" not in row[1]:
                answers[row] = ask_protocol(
                    world, row, basic(token), place="linked", is_allowed=False
                )
    answers["metrics"] = world.http.get("/metrics")

    places = {
        **{str(row): f"{answer.text}{answer.headers}" for row, answer in answers.items()},
        "log": world.registry.server.log.read_text(errors="replace"),
        **{
            table_name: repr(world.registry.rows(f"SELECT * FROM {table_name}"))
            for table_name in tables_of(world.registry)
        },
    }
    assert len(places["log"]) > 1_000  # at debug, with a line for each request
    for place, text in places.items():
        assert not [secret for secret in secrets if secret in text], place
        if "openapi" not in place and "docs" not in place:
            assert _SECRET.search(text) is None, place


def test_no_bearer_token_is_kept_or_logged(world):
    name = world.ours.names["linked"]
    issued = world.issued(world.ours.secrets["owner"], f"repository:{name}:pull,push")
    signature = issued.rpartition(".")[2]
    headers = {"authorization": f"Bearer {issued}"}

    for path in (f"/v2/{name}/tags/list", "/v2/none/tags/list", "/api/v1/whoami"):
        assert signature not in world.http.get(path, headers=headers).text

    assert signature not in world.registry.server.log.read_text(errors="replace")
    for table_name in tables_of(world.registry):
        assert signature not in repr(world.registry.rows(f"SELECT * FROM {table_name}"))


def test_what_cannot_be_read_is_not_said_back(world):
    """A body that is refused may hold a password: the answer names the field, not the value."""
    canary = f"canary-{world.word()}"
    bodies = [
        ("/login", {"name": "admin", "password": [canary]}),
        ("/login", {"name": "admin", "password": "x", "token_name": {"x": canary}}),
        ("/invitations/accept", {"invitation": canary}),
        ("/users", {"name": "x", "password": {"secret": canary}}),
    ]

    for path, body in bodies:
        answer = world.ask("POST", path, world.registry.server.token, json=body)
        assert answer.is_client_error
        assert canary not in answer.text
    assert canary not in world.registry.server.log.read_text(errors="replace")
    broken = f'{{"name": "admin", "password": "{canary}'
    for path in ("/login", "/users"):
        answer = world.http.post(
            f"/api/v1{path}",
            content=broken,
            headers={**basic(world.registry.server.token), "content-type": "application/json"},
        )
        assert answer.is_client_error
        assert canary not in answer.text
