"""Logging in, asking who one is, and changing one's password."""

from datetime import datetime, timedelta

import pytest

from entrepot.model.clock import SystemClock

PASSWORD = "correct horse battery"


@pytest.fixture
def ada(people):
    return people.user(password=PASSWORD)


def log_in(people, name, password=PASSWORD, **fields):
    return people.nobody.post("/login", {"name": name, "password": password, **fields})


def test_a_password_gives_a_token_of_ninety_days(people, ada):
    answer = log_in(people, ada.name)

    assert answer.status_code == 201
    token = answer.json()
    assert token["kind"] == "user"
    assert token["user"] == ada.name
    assert token["name"] == "login from 127.0.0.1"
    assert (token["patterns"], token["actions"]) == (None, None)
    lasts = datetime.fromisoformat(token["expires_at"]) - datetime.fromisoformat(
        token["created_at"]
    )
    assert lasts == timedelta(days=90)
    assert answer.headers["cache-control"] == "no-store"
    who = people.caller(token["token"]).get("/whoami").json()
    assert who["user"]["name"] == ada.name


def test_a_login_can_be_named_and_shortened(people, ada):
    token = log_in(people, ada.name, token_name="laptop", expires_in=60).json()

    assert token["name"] == "login: laptop"


@pytest.mark.parametrize("expires_in", [None, 0, 59, 366 * 86_400 + 1, "60", 1.5])
def test_a_login_ends_within_a_year(people, ada, expires_in):
    answer = log_in(people, ada.name, expires_in=expires_in)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "expires_in"


def test_whoever_is_refused_learns_nothing(people, ada):
    gone = people.user(password=PASSWORD)
    people.admin.patch(f"/users/{gone.name}", {"is_disabled": True})
    without = people.user()

    answers = [
        log_in(people, ada.name, "wrong horse battery"),
        log_in(people, gone.name),
        log_in(people, without.name),
        log_in(people, "nobody-of-this-name"),
        log_in(people, "Nobody Of This Form"),
    ]

    assert {answer.status_code for answer in answers} == {401}
    seen = set()
    for answer in answers:
        document = answer.json()
        document.pop("request_id")
        headers = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "date"}}
        seen.add((str(document), str(headers)))
    assert len(seen) == 1


def test_logins_and_refusals_are_in_the_log_without_passwords(people, ada):
    log_in(people, ada.name, "wrong horse battery")
    log_in(people, "secret typed as a name", "wrong horse battery")
    log_in(people, ada.name)

    made, unknown, refused = people.audit()[:3]
    assert made["action"] == "user.logged-in"
    assert made["actor"]["name"] == ada.name
    assert made["address"] == "127.0.0.1"
    assert unknown["action"] == refused["action"] == "user.login-refused"
    assert refused["object"]["name"] == ada.name
    assert refused["actor"]["kind"] == "anonymous"
    assert unknown["object"]["name"] == ""
    kept = str(people.registry.rows("SELECT * FROM audit_events"))
    assert "horse" not in kept
    assert "secret typed as a name" not in kept


def test_guesses_are_slowed_and_then_refused(people):
    guesses = [log_in(people, f"guess-{people.registry.host}") for _ in range(11)]

    assert {guess.status_code for guess in guesses[:10]} == {401}
    assert guesses[10].status_code == 429
    assert 0 < int(guesses[10].headers["retry-after"]) <= 300


def test_everybody_can_ask_who_they_are(people, registry):
    organisation = people.organisation()
    member = people.member(organisation, "reader")
    registry_token = registry.new_token("org", organisation=organisation)
    project = registry.new_project(organisation)
    project_token = registry.new_token("project", organisation=organisation, project=project)
    pull_token = registry.new_token("pull", organisation=organisation)

    user = member.get("/whoami").json()
    others = [
        people.caller(token).get("/whoami").json()
        for token in (registry_token, project_token, pull_token)
    ]

    assert user["kind"] == "user"
    assert user["user"] == {
        "id": user["user"]["id"],
        "name": member.name,
        "is_administrator": False,
    }
    assert [(found["slug"], found["role"]) for found in user["organisations"]] == [
        (organisation, "reader")
    ]
    assert [other["kind"] for other in others] == ["org", "project", "pull"]
    assert [other["user"] for other in others] == [None, None, None]
    assert [found["role"] for found in others[0]["organisations"]] == [None]
    assert others[1]["token"]["project"] == project
    assert people.nobody.get("/whoami").status_code == 401


def test_a_bearer_token_of_the_protocol_manages_nothing(people, registry):
    bearer = registry.bearer(registry.server.token, "repository:a/b:pull")

    answers = [
        people.nobody.get("/whoami", headers=bearer),
        people.nobody.get("/users", headers=bearer),
        people.nobody.get("/organisations/main", headers=bearer),
    ]

    assert {answer.status_code for answer in answers} == {401}


def test_a_new_password_ends_other_logins_and_nothing_else(people, ada):
    here = people.caller(log_in(people, ada.name).json()["token"])
    there = people.caller(log_in(people, ada.name, token_name="laptop").json()["token"])

    answer = here.put("/password", {"current": PASSWORD, "new": "staple battery horse"})

    assert answer.status_code == 204
    assert here.get("/whoami").status_code == 200
    assert ada.get("/whoami").status_code == 200
    assert there.get("/whoami").status_code == 401
    assert log_in(people, ada.name).status_code == 401
    assert log_in(people, ada.name, "staple battery horse").status_code == 201
    [event] = people.audit(action="user.password-changed", object=ada.name)
    assert event["details"] == {"ended_logins": 1}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"current": "wrong horse battery", "new": "staple battery horse"}, 403),
        ({"new": "staple battery horse"}, 403),
        ({"current": PASSWORD, "new": "short"}, 422),
        ({"current": PASSWORD}, 422),
        ({"current": PASSWORD, "new": "staple battery horse", "name": "admin"}, 422),
    ],
)
def test_a_password_that_is_not_changed_stays(people, ada, body, status):
    answer = ada.put("/password", body)

    assert answer.status_code == status
    assert log_in(people, ada.name).status_code == 201


def test_who_has_no_password_chooses_one(people):
    bob = people.user()

    assert bob.put("/password", {"new": PASSWORD}).status_code == 204
    assert log_in(people, bob.name).status_code == 201


def test_a_limited_token_changes_no_password(people, registry, ada):
    limited = [
        registry.new_token("user", user=ada.name, actions=frozenset({"pull", "manage"})),
        registry.new_token("user", user=ada.name, patterns=("**",)),
        registry.new_token("org"),
    ]

    for token in limited:
        answer = people.caller(token).put("/password", {"current": PASSWORD, "new": PASSWORD + "!"})
        assert answer.status_code == 403
    assert people.nobody.put("/password", {"new": PASSWORD}).status_code == 401
    assert log_in(people, ada.name).status_code == 201


def test_a_login_that_ended_lets_nobody_in(people, ada):
    token = log_in(people, ada.name, expires_in=60).json()["token"]
    people.registry.change(
        "UPDATE tokens SET expires_at = :at WHERE name = 'login from 127.0.0.1'",
        at=SystemClock().now() - 1,
    )

    assert people.caller(token).get("/whoami").status_code == 401
