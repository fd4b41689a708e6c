"""Users of the server, and what its administrators do with them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import NameInvalid
from entrepot.model.names import UserName

PASSWORD = "correct horse battery"


def test_an_administrator_makes_lists_and_shows_users(people):
    one = people.user()

    shown = people.admin.get(f"/users/{one.name}")
    first = people.admin.get("/users", params={"limit": 1}).json()
    rest = people.admin.get("/users", params={"limit": 1_000, "cursor": first["next"]}).json()

    assert shown.status_code == 200
    assert shown.headers["etag"] == '"1"'
    user = shown.json()
    assert {key: user[key] for key in ("name", "is_administrator", "is_disabled")} == {
        "name": one.name,
        "is_administrator": False,
        "is_disabled": False,
    }
    assert user["has_password"] is False
    names = [found["name"] for found in first["items"] + rest["items"]]
    assert names == sorted(names)
    assert one.name in names
    [event] = people.audit(action="user.created", object=one.name)
    assert event["actor"]["name"] == "admin"


def test_only_administrators_with_a_whole_token_see_users(people, registry):
    user = people.user()
    limited = registry.new_token("user", actions=frozenset({"pull", "push", "delete", "manage"}))
    callers = [user, people.caller(limited), people.caller(registry.new_token("org"))]

    for caller in callers:
        assert caller.get("/users").status_code == 403
        assert caller.post("/users", {"name": "eve"}).status_code == 403
        assert caller.get(f"/users/{user.name}").status_code == 403
        assert caller.get("/users/nobody-of-this-name").status_code == 403
        assert caller.patch(f"/users/{user.name}", {"is_administrator": True}).status_code == 403
    assert people.nobody.get("/users").status_code == 401
    assert people.admin.get("/users/eve").status_code == 404


def test_a_name_is_given_once(people):
    user = people.user()

    with ThreadPoolExecutor(5) as pool:
        body = {"name": f"{user.name}-x"}
        answers = list(pool.map(lambda _: people.admin.post("/users", body), range(5)))
    again = people.admin.post("/users", {"name": user.name})

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert again.status_code == 409
    assert again.json()["errors"][0]["field"] == "name"


@pytest.mark.parametrize(
    "name", ["", "Ada", "-ada", ".ada", "a/b", "a b", "@b", "a@", "a@b@c", "é"]
)
def test_what_is_no_name_is_refused(people, name):
    answer = people.admin.post("/users", {"name": name})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "name"


@pytest.mark.parametrize("password", ["short", "x" * 1_025, ""])
def test_what_is_no_password_is_refused(people, password):
    answer = people.admin.post("/users", {"name": "never-made", "password": password})

    assert answer.status_code == 422
    assert people.admin.get("/users/never-made").status_code == 404


def test_an_email_address_is_a_name(people):
    name = f"ada.l+x@{people.organisation()}.example"

    assert people.admin.post("/users", {"name": name}).status_code == 201
    assert people.admin.get(f"/users/{name}").json()["name"] == name


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True))
def test_every_name_within_the_grammar_is_taken(name):
    assert str(UserName.parse(name)) == name


@given(st.text(max_size=70))
def test_a_name_is_taken_or_refused_and_then_safe(text):
    try:
        name = UserName.parse(text).text
    except NameInvalid:
        return

    assert name == text == text.lower()
    assert 1 <= len(name) <= 64
    assert name.isascii()
    assert set("/ %?#\\\"'<>").isdisjoint(name)
    assert name[0].isalnum()
    assert name.count("@") <= 1


def test_a_disabled_user_is_out_and_comes_back(people):
    organisation = people.organisation()
    user = people.member(organisation)
    people.admin.patch(f"/users/{user.name}", {"password": PASSWORD})

    answer = people.admin.patch(f"/users/{user.name}", {"is_disabled": True})

    assert answer.status_code == 200
    assert answer.json()["is_disabled"] is True
    assert answer.json()["disabled_at"] is not None
    assert user.get("/whoami").status_code == 401
    assert user.delete(f"/organisations/{organisation}/members/{user.name}").status_code == 401
    login = {"name": user.name, "password": PASSWORD}
    assert people.nobody.post("/login", login).status_code == 401
    people.admin.patch(f"/users/{user.name}", {"is_disabled": False})
    assert user.get("/whoami").status_code == 200
    assert people.nobody.post("/login", login).status_code == 201


def test_an_administrator_sets_a_password_which_ends_logins(people):
    user = people.user(password=PASSWORD)
    login = people.nobody.made("/login", {"name": user.name, "password": PASSWORD})

    answer = people.admin.patch(f"/users/{user.name}", {"password": "staple battery horse"})

    assert answer.status_code == 200
    assert answer.headers["etag"] == '"2"'
    assert people.caller(login["token"]).get("/whoami").status_code == 401
    assert user.get("/whoami").status_code == 200
    body = {"name": user.name, "password": "staple battery horse"}
    assert people.nobody.post("/login", body).status_code == 201


def test_administrators_are_made_and_unmade_at_once(people):
    user = people.user()

    people.admin.patch(f"/users/{user.name}", {"is_administrator": True})
    assert user.get("/users").status_code == 200
    people.admin.patch(f"/users/{user.name}", {"is_administrator": False})
    assert user.get("/users").status_code == 403
    [unmade, made] = people.audit(action="user.changed", object=user.name)
    assert made["details"] == {"is_disabled": False, "is_administrator": True}
    assert unmade["details"] == {"is_disabled": False, "is_administrator": False}


def test_a_change_to_what_was_changed_since_is_refused(people):
    user = people.user()
    path = f"/users/{user.name}"
    people.admin.patch(path, {"is_administrator": True})

    stale = people.admin.patch(path, {"is_disabled": True}, headers={"if-match": '"1"'})
    fresh = people.admin.patch(path, {"is_disabled": True}, headers={"if-match": '"2"'})

    assert stale.status_code == 412
    assert fresh.status_code == 200


@pytest.mark.parametrize("change", [{"is_disabled": True}, {"is_administrator": False}])
def test_the_last_administrator_stays(people, change):
    others = [
        user["name"]
        for user in people.admin.get("/users", params={"limit": 1_000}).json()["items"]
        if user["is_administrator"] and not user["is_disabled"] and user["name"] != "admin"
    ]
    for name in others:
        people.admin.patch(f"/users/{name}", {"is_administrator": False})

    answer = people.admin.patch("/users/admin", change)

    assert answer.status_code == 403
    assert "last administrator" in answer.json()["detail"]


def test_administrators_who_unmake_each_other_at_once_leave_one(people):
    pair = [people.user(is_administrator=True) for _ in range(2)]
    people.admin.patch(f"/users/{pair[0].name}", {"is_administrator": True})
    # Only these two are left, and each goes for the other; the first of the server comes back.
    others = [
        user["name"]
        for user in people.admin.get("/users", params={"limit": 1_000}).json()["items"]
        if user["is_administrator"] and user["name"] not in {each.name for each in pair}
    ]
    for name in others:
        assert pair[0].patch(f"/users/{name}", {"is_administrator": False}).status_code == 200

    try:
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(
                    lambda mine, other: mine.patch(
                        f"/users/{other.name}", {"is_administrator": False}
                    ),
                    pair,
                    pair[::-1],
                )
            )
    finally:
        people.registry.change("UPDATE users SET is_administrator = 1 WHERE name = 'admin'")

    assert sorted(answer.status_code for answer in answers) == [200, 403]
    for user in pair:
        people.admin.patch(f"/users/{user.name}", {"is_administrator": False})
