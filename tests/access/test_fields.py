"""Bodies take what they describe and no more; answers and filters give no secret away (T52)."""

import re

import pytest

from entrepot.api import application
from tests.access import routes, table
from tests.access.requests import ask_management
from tests.support.server import basic

SCHEMA = routes.schema()
# What an attacker would like to set. None of them is a field anywhere but where it is described.
WISHES = {
    "is_administrator": True,
    "organisation_id": 1,
    "user_id": 1,
    "role": "owner",
    "hash": "0" * 64,
    "password_hash": "x",
    "created_by": 1,
    "may_manage": True,
    "id_": 1,
    "version": 1,
    "deleted_at": None,
    "expires_at": None,
    "kind_": "user",
    "anything": {},
}
# The names of columns that hold secrets, or what secrets are looked up by.
SECRETS = ("hash", "password_hash", "sealed")
SHOWN_ONCE = {"token", "invitation", "link"}


def bodies():
    """Method, path and described fields of every route with a body."""
    for path, methods in SCHEMA["paths"].items():
        for method, described in methods.items():
            if "requestBody" in described:
                content = described["requestBody"]["content"]["application/json"]["schema"]
                yield method.upper(), path, content


def resolve(schema):
    name = schema.get("$ref", "").rpartition("/")[2]
    return SCHEMA["components"]["schemas"][name] if name else schema


BODIES = [(method, path, resolve(schema)) for method, path, schema in bodies()]


def test_every_body_is_described_as_closed():
    for method, path, schema in BODIES:
        assert schema["additionalProperties"] is False, (method, path)
    assert len(BODIES) > 15


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
def test_an_unknown_field_is_refused(world, method, path, schema):
    """With everything else as it should be, by somebody who may."""
    row = (method, path.removeprefix(application.PREFIX))
    token = world.ours.secrets["owner"]
    if (
        table.outcome(table.MANAGEMENT.get(row) or table.REPOSITORIES[row]["linked"], "owner")
        != "+"
    ):
        token = world.registry.server.token
    wishes = {key: value for key, value in WISHES.items() if key not in schema["properties"]}
    assert "version" in wishes or "version" in schema["properties"]

    for key, value in wishes.items():
        answer = ask_management(world, row, basic(token), is_allowed=False, extra={key: value})

        assert answer.status_code == 422, (key, answer.text)
        assert key in {error["field"] for error in answer.json()["errors"]}


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
def test_a_body_that_is_no_object_is_refused(world, method, path, schema):
    target = re.sub(r"\{(\w+)\}", lambda match: world.ours.values()[match[1]], path)
    for text in ("[]", '"x"', "1", "null", "[{}]"):
        answer = world.http.request(
            method,
            target,
            content=text,
            headers={**basic(world.registry.server.token), "content-type": "application/json"},
        )
        assert answer.status_code == 422, answer.text


def test_no_answer_is_described_with_a_secret_but_where_it_is_made():
    for name, schema in SCHEMA["components"]["schemas"].items():
        fields = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False:  # an answer, not a body
            assert not fields & set(SECRETS), name
            if name not in {"CreatedToken", "CreatedInvitation", "Joined", "Who", "AuditEvent"}:
                assert not fields & SHOWN_ONCE, name


def test_no_answer_holds_a_hash_of_a_secret(world):
    """Of no token, password or invitation that there is, whoever asks."""
    hashes = {
        str(value)
        for sql in (
            "SELECT hash FROM tokens",
            "SELECT hash FROM invitations",
            "SELECT password_hash FROM users WHERE password_hash IS NOT NULL",
        )
        for (value,) in world.registry.rows(sql)
    }
    described = {"/openapi.json", "/../docs"}  # with examples of secrets
    reads = [
        row
        for row in (*table.MANAGEMENT, *table.REPOSITORIES)
        if row[0] == "GET" and row[1] not in described
    ]

    for token in (world.registry.server.token, world.ours.secrets["owner"]):
        for row in reads:
            text = ask_management(world, row, basic(token), is_allowed=False).text
            assert not any(value in text for value in hashes), row
            assert "entrepot_user_" not in text
            assert "entrepot_invite_" not in text


@pytest.mark.parametrize(
    "query",
    [
        {"hash": "0"},
        {"password_hash": "$argon2"},
        {"sort": "hash"},
        {"order_by": "password_hash"},
        {"fields": "hash"},
        {"filter": "hash~0"},
        {"user.password_hash": "$"},
        {"q": "hash=0"},
    ],
)
def test_no_filter_looks_at_a_secret(world, query):
    """What is no parameter changes nothing in any list."""
    operator = basic(world.registry.server.token)
    for path in ("/users", f"/organisations/{world.ours.slug}/tokens", "/tokens", "/organisations"):
        plain = world.http.get(f"/api/v1{path}", headers=operator).json()
        asked = world.http.get(f"/api/v1{path}", params=query, headers=operator)
        ids = [item["id"] for item in plain["items"]]
        assert asked.status_code == 422 or [item["id"] for item in asked.json()["items"]] == ids


def test_every_parameter_is_on_the_list():
    """A filter on another column needs a second look at what it would tell."""
    names = {
        parameter["name"]
        for methods in SCHEMA["paths"].values()
        for described in methods.values()
        for parameter in described.get("parameters", ())
        if parameter["in"] == "query"
    }

    audit = {"action", "actor", "object", "since", "until", "format"}
    usage = {"month", "from", "to", "by"}
    assert names == {"limit", "cursor", "path", "query", "prefix", *audit, *usage}


@pytest.mark.parametrize("letters", ["%", "_", "te_m", "t%m", "team/%", "!", "!%", "\\", "*", "'"])
def test_wildcards_in_a_query_are_letters(world, letters):
    path = f"/organisations/{world.ours.slug}/repositories"

    found = world.ask("GET", path, world.ours.secrets["owner"], params={"query": letters})

    assert found.status_code == 200
    assert found.json()["items"] == []


@pytest.mark.parametrize("field", ["action", "actor", "object"])
@pytest.mark.parametrize("letters", ["%", "_%", "token.%", "' OR 1=1 --"])
def test_wildcards_in_the_audit_log_are_letters(world, field, letters):
    path = f"/organisations/{world.ours.slug}/audit"

    found = world.ask("GET", path, world.ours.secrets["owner"], params={field: letters})

    assert found.json()["items"] == []


def test_a_cursor_is_no_way_around_the_judge(world):
    """It holds a key of the list, not a question of its own."""
    theirs = world.as_operator("GET", f"/organisations/{world.theirs.slug}/tokens?limit=1")
    path = f"/organisations/{world.ours.slug}/tokens"

    found = world.ask(
        "GET", path, world.ours.secrets["owner"], params={"cursor": theirs["next"] or ""}
    )

    assert found.status_code in {200, 422}
    slugs = {item["organisation"] for item in found.json().get("items", ())}
    assert slugs <= {world.ours.slug}
