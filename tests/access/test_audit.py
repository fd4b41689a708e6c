"""Every change has its line in the log, by the right actor, without a secret (T74)."""

import json
from contextlib import contextmanager

import pytest

from entrepot.model.clock import DAY, SystemClock
from entrepot.model.ids import from_text, to_text
from tests.access import table
from tests.access.requests import (
    MANAGEMENT,
    Ask,
    ask_protocol,
    fill_again,
    prepare_management,
    prepare_protocol,
    sent,
)
from tests.access.snapshot import difference, snapshot
from tests.access.world import PASSWORD
from tests.support.eventually import eventually
from tests.support.server import Client, basic

# They ask with a body, and change nothing.
_QUESTIONS = {("POST", "/repositories/{repository}/retention/preview")}
CHANGES = [
    row
    for row in (*table.MANAGEMENT, *table.REPOSITORIES)
    if row[0] != "GET" and row not in _QUESTIONS
]
# The precondition that stops these in the matrix is left out here, and a thing of their own is
# ended instead; or what is asked for there changes nothing.
OTHERWISE = {
    ("PATCH", "/users/{user}"): Ask(
        {"is_administrator": False}, fresh=lambda world: {"user": new_user(world)}
    ),
    ("DELETE", "/organisations/{organisation}"): Ask(
        fresh=lambda world: {"organisation": world.new_organisation()}
    ),
    ("PATCH", "/organisations/{organisation}/members/{user}#owner"): Ask(
        {"role": "owner"}, fresh=lambda world: {"user": new_member(world)}
    ),
    ("DELETE", "/organisations/{organisation}/members/{user}"): Ask(
        fresh=lambda world: {"user": new_member(world)}
    ),
    ("DELETE", "/organisations/{organisation}/members/{user}#owner"): Ask(
        fresh=lambda world: {"user": new_member(world, "owner")}
    ),
    ("DELETE", "/projects/{project}"): Ask(fresh=lambda world: {"project": new_project(world)}),
    ("POST", "/projects/{project}/transfer"): Ask(
        lambda world: {"organisation": world.theirs.slug},
        fresh=lambda world: {"project": new_project(world)},
    ),
    ("POST", "/projects/{project}/restore"): Ask(
        fresh=lambda world: {"project": deleted(world, "projects", new_project(world))}
    ),
    ("PUT", "/projects/{project}/repositories/{repository}"): Ask(
        fresh=lambda world: {"repository": new_repository(world)}
    ),
    ("POST", "/repositories/{repository}/restore"): Ask(
        fresh=lambda world: {"repository": deleted(world, "repositories", new_repository(world))}
    ),
    ("POST", "/repositories/{repository}/retention/run"): Ask(
        fresh=lambda world: {"repository": untidy_repository(world)}
    ),
    ("POST", "/repositories/{repository}/tags/{tag}/restore"): Ask(
        {}, fresh=lambda world: without(world, "tags", "tag")
    ),
    ("POST", "/repositories/{repository}/retention/restore"): Ask(
        {"since": "2026-01-01T00:00:00Z"},
        fresh=lambda world: {"repository": tidied_repository(world)},
    ),
    ("POST", "/repositories/{repository}/manifests/{digest}/restore"): Ask(
        fresh=lambda world: without(world, "manifests", "digest")
    ),
    ("DELETE", "/repositories/{repository}"): Ask(
        fresh=lambda world: {"repository": new_repository(world)}
    ),
    ("POST", "/repositories/{repository}/sync"): Ask(
        {}, fresh=lambda world: {"repository": new_mirrored_repository(world)}
    ),
    ("PATCH", "/settings"): Ask({"is_read_only": True}),
    ("PUT", "/password"): Ask({"current": PASSWORD, "new": PASSWORD}),
}
# Done by who made both organisations, and owns them.
OPERATORS = {("PUT", "/password"), ("POST", "/projects/{project}/transfer")}
# What /v2/ changes that somebody sees. An upload is seen when a manifest names it, or by whoever
# has its digest, and is no line of its own: a push has hundreds.
CONTENT = [
    ("PUT", "/v2/{name}/manifests/{reference}"),
    ("DELETE", "/v2/{name}/manifests/{reference}"),
    ("DELETE", "/v2/{name}/manifests/{reference}#digest"),
    ("DELETE", "/v2/{name}/blobs/{digest}"),
]
UPLOADS = {
    ("POST", "/v2/{name}/blobs/uploads[/]"),
    *((method, "/v2/{name}/blobs/uploads/{upload}") for method in ("PATCH", "PUT", "DELETE")),
}


@pytest.fixture(autouse=True)
def writable(world):
    """Whatever a test switches off is on again, and what it began behind its answer has ended."""
    yield
    world.registry.change("DELETE FROM installation WHERE name = 'read_only'")
    open_runs = "SELECT 1 FROM sync_runs WHERE ended_at IS NULL"
    eventually(lambda: not world.registry.rows(open_runs))


def new_user(world):
    return world.as_operator("POST", "/users", {"name": world.word()})["name"]


def new_member(world, role="reader"):
    name = new_user(world)
    token = world.registry.new_token("user", user=name)
    invited = world.as_owner(
        "POST", f"/organisations/{world.ours.slug}/invitations", {"role": role}
    )
    body = {"invitation": invited["invitation"]}
    assert world.ask("POST", "/invitations/accept", token, json=body).status_code == 201
    return name


def new_project(world):
    path = f"/organisations/{world.ours.slug}/projects"
    return world.as_owner("POST", path, {"name": "new"})["id"]


def new_repository(world):
    path = f"/organisations/{world.ours.slug}/repositories"
    return world.as_owner("POST", path, {"path": f"team/{world.word()}"})["id"]


def deleted(world, kind, id):  # noqa: A002
    """It is gone again, and can be restored."""
    world.as_owner("DELETE", f"/{kind}/{id}")
    return id


def without(world, kind, word):
    """A tag or a manifest of the repository at hand that is gone, and can be restored."""
    made = fill_again(world, "other", world.word())
    world.as_owner(
        "DELETE", f"/repositories/{world.ours.repositories['other']}/{kind}/{made[word]}"
    )
    return {word: made[word]}


def untidy_repository(world):
    """It has one tag more than its policy keeps, and its turn is not near."""
    path = f"team/{world.word()}"
    made = world.as_owner("POST", f"/organisations/{world.ours.slug}/repositories", {"path": path})
    world.as_owner("PUT", f"/repositories/{made['id']}/retention", {"tags": 1})
    world.registry.change(
        "UPDATE repositories SET retention_due_at = :later WHERE id = :id",
        later=SystemClock().now() + DAY,
        id=from_text(made["id"]),
    )
    for tag in ("v1", "v2"):
        world.pusher.push_image(f"{world.ours.slug}/{path}", tag)
    return made["id"]


def tidied_repository(world):
    """Retention has just removed a tag of it."""
    repository = untidy_repository(world)
    world.as_owner("POST", f"/repositories/{repository}/retention/run")
    return repository


def new_mirrored_repository(world):
    world.upstream.put_image("library/app", "v1")
    body = {
        "path": f"team/{world.word()}",
        "upstream": {"name": "members", "path": "library/app"},
    }
    return world.as_owner("POST", f"/organisations/{world.ours.slug}/repositories", body)["id"]


def newest(world):
    return world.registry.rows("SELECT COALESCE(MAX(id), 0) FROM audit_events")[0][0]


def events_after(world, before):
    return world.registry.rows(
        """
        SELECT actor_kind, actor_name, token_id, address, request_id, action, object_name, details
          FROM audit_events
         WHERE id > :before
         ORDER BY id
        """,
        before=before,
    )


def doer_of(world, row):
    """Whoever may: the owner, or a server administrator where it is about the server."""
    lines = table.MANAGEMENT.get(row) or table.REPOSITORIES[row]["other"]
    if table.outcome(lines, "owner") == "+" and "break-glass" not in row[1]:
        # Leaving the second administrator of the server alone: what ends something of ours does it.
        is_of_all = row == ("DELETE", "/organisations/{organisation}")
        return world.registry.server.token if is_of_all else world.ours.secrets["owner"]
    return world.principals["administrator"]


def prepare(world, row):
    """Somebody who may, and a change that really changes something."""
    token = doer_of(world, row)
    if row in OPERATORS:
        token = world.registry.server.token
    return token, prepare_management(
        world, row, place="other", is_allowed=True, ask=OTHERWISE.get(row)
    )


@pytest.mark.parametrize("row", CHANGES, ids=" ".join)
def test_every_change_is_logged_with_who_made_it(world, row):
    token, request = prepare(world, row)
    before = newest(world)

    answer = sent(world, request, basic(token) if row[1] != "/login" else {})

    assert answer.is_success, answer.text
    rows = events_after(world, before)
    request_id = answer.headers["x-request-id"]
    ours = [event for event in rows if event[4] == request_id]
    assert ours, (row, rows)
    for kind, name, token_id, address, _, action, _, _ in ours:
        assert (kind, address) == ("user", "127.0.0.1")
        assert name
        assert "." in action
        if row[1] != "/login":
            assert token_id == world.token_id(token)
    text = json.dumps([list(map(str, event)) for event in rows])
    assert token not in text
    assert "entrepot_" not in text
    assert PASSWORD not in text


def test_every_change_of_the_management_api_is_tried():
    assert {row for row in CHANGES if MANAGEMENT.get(row, Ask()).only_allowed == {412}} <= set(
        OTHERWISE
    )


def test_every_route_of_the_protocol_that_changes_something_is_tried():
    changing = {row for row in table.PROTOCOL if row[0] not in {"GET", "HEAD"}}

    assert changing == set(CONTENT) | UPLOADS


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize("row", CONTENT, ids=" ".join)
def test_every_change_of_content_is_logged_with_who_made_it(world, row, scheme):
    name, token = world.ours.names["other"], world.principals["organisation"]
    headers = basic(token)
    if scheme == "bearer":
        headers = {
            "authorization": f"Bearer {world.issued(token, f'repository:{name}:pull,push,delete')}"
        }
    before = newest(world)

    answer = ask_protocol(world, row, headers, place="other", is_allowed=True)

    assert answer.is_success, answer.text
    ours = [event for event in events_after(world, before) if event[2] == world.token_id(token)]
    [(kind, _, _, address, request_id, action, object_name, details)] = ours
    assert (kind, address, object_name) == ("org", "127.0.0.1", "team/web")
    assert action.partition(".")[2] in {"pushed", "deleted"}
    assert request_id
    assert "sha256:" in details
    assert headers["authorization"].partition(" ")[2] not in repr(ours)


def test_a_push_that_makes_a_repository_says_so(world):
    name = f"{world.ours.slug}/team/{world.word()}"
    before = newest(world)

    client = Client(world.registry.server, token=world.principals["organisation"])
    client.push_image(name, "v1")
    client.close()

    actions = [event[5] for event in events_after(world, before)]
    assert actions.count("repository.created") == 1
    assert actions.count("manifest.pushed") == 1


def test_a_refused_login_is_logged_without_what_was_typed(world):
    before = newest(world)

    for name in ("admin", "no-such-name", "my password, typed into the wrong field"):
        body = {"name": name, "password": "wrong-password-of-nobody"}
        assert world.ask("POST", "/login", json=body).status_code == 401

    found = events_after(world, before)
    assert [event[5] for event in found] == ["user.login-refused"] * 3
    assert "wrong" not in repr(found)
    assert "my password" not in repr(found)


def test_the_logs_of_an_organisation_are_its_own(world):
    """Nothing of theirs is in ours, but that a project went there, and who pulled in public."""
    theirs = {
        str(value) for value in (world.theirs.id, world.theirs.slug, *world.theirs.users.values())
    }
    items = world.as_owner("GET", f"/organisations/{world.ours.slug}/audit?limit=1000")["items"]

    for item in items:
        is_public = (item["object"]["name"] or "").startswith("opened/")
        if item["action"] != "project.transferred" and not is_public:
            assert not any(value in json.dumps(item) for value in theirs), item
    assert to_text(1)  # ids of the wire have a form of their own


@contextmanager
def without_a_log(registry):
    """The table of the log cannot be written: it is not there."""
    registry.change("ALTER TABLE audit_events RENAME TO audit_events_away")
    try:
        yield
    finally:
        registry.change("ALTER TABLE audit_events_away RENAME TO audit_events")


@pytest.mark.parametrize("row", CHANGES, ids=" ".join)
def test_what_cannot_be_logged_is_not_done(world, row):
    token, request = prepare(world, row)
    before = snapshot(world.registry)

    with without_a_log(world.registry):
        answer = sent(world, request, basic(token) if row[1] != "/login" else {})

    assert answer.status_code in {500, 503}, answer.text
    assert difference(before, snapshot(world.registry)) == {}


@pytest.mark.parametrize("row", CONTENT, ids=" ".join)
def test_content_whose_change_cannot_be_logged_stays(world, row):
    token = world.principals["organisation"]
    request = prepare_protocol(world, row, place="other", is_allowed=True)
    before = snapshot(world.registry)

    with without_a_log(world.registry):
        answer = sent(world, request, basic(token))

    assert answer.status_code in {500, 503}, answer.text
    assert difference(before, snapshot(world.registry)) == {}
