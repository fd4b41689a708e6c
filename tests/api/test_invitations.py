"""Invitations: a link that works once, and gives no more than its maker may give."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import httpx
import pytest

PASSWORD = "correct horse battery"
RANK = ("reader", "member", "admin", "owner")


@pytest.fixture
def organisation(people):
    return people.organisation()


@pytest.fixture
def invite(people, organisation):
    def make(caller=None, **body):
        return (caller or people.admin).made(f"/organisations/{organisation}/invitations", body)

    return make


def newcomer(people, invitation, name, password=PASSWORD):
    body = {"invitation": invitation, "name": name, "password": password}
    return people.nobody.post("/invitations/accept", body)


def role_of(people, organisation, name):
    answer = people.admin.get(f"/organisations/{organisation}/members/{name}")
    return answer.json().get("role")


def test_an_invitation_is_a_link_with_its_secret_behind_the_hash(people, organisation, invite):
    made = invite(note="for Ada", expires_in=3_600)

    assert re.fullmatch(r"entrepot_invite_[0-9A-Za-z]{36}", made["invitation"])
    assert made["link"] == f"{people.registry.url}/join#{made['invitation']}"
    assert (made["role"], made["note"], made["created_by"]) == ("member", "for Ada", "admin")
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == timedelta(hours=1)
    [listed] = people.admin.items(f"/organisations/{organisation}/invitations")
    assert listed == {
        key: value for key, value in made.items() if key not in {"invitation", "link"}
    }
    assert made["invitation"] not in people.registry.server.log.read_text()


def test_the_link_leads_to_a_page_that_says_what_to_run(people, invite):
    answer = httpx.get(invite()["link"])

    assert answer.status_code == 200
    assert "entrepot join" in answer.text
    assert "pipx install ." in answer.text
    assert "<script" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_an_invitation_is_no_credential(people, invite):
    secret = invite(role="owner")["invitation"]

    assert people.caller(secret).get("/whoami").status_code == 401


def test_somebody_new_joins_by_a_name_and_a_password(people, organisation, invite):
    made = invite(role="admin", note="for Eve")
    name = f"eve-{organisation}"

    answer = newcomer(people, made["invitation"], name)

    assert answer.status_code == 201
    joined = answer.json()
    assert joined["organisation"]["slug"] == organisation
    assert joined["user"]["name"] == name
    assert joined["role"] == "admin"
    who = people.caller(joined["token"]).get("/whoami").json()
    assert who["user"]["name"] == name
    assert [found["role"] for found in who["organisations"]] == ["admin"]
    login = {"name": name, "password": PASSWORD}
    assert people.nobody.post("/login", login).status_code == 201
    assert people.admin.items(f"/organisations/{organisation}/invitations") == []
    accepted, created = people.audit(organisation)[:2]
    assert created["action"] == "invitation.created"
    assert accepted["action"] == "invitation.accepted"
    assert accepted["actor"]["name"] == name
    assert accepted["details"]["invited_by"] == "admin"
    [made_user] = people.audit(action="user.created", object=name)
    assert made_user["details"] == {"invited": True}


def test_a_user_joins_by_a_token(people, organisation, invite):
    user = people.user()

    joined = user.made("/invitations/accept", {"invitation": invite(role="reader")["invitation"]})

    assert joined["token"] is None
    assert joined["user"]["name"] == user.name
    assert role_of(people, organisation, user.name) == "reader"


@pytest.mark.parametrize("before", RANK)
@pytest.mark.parametrize("offered", RANK)
def test_an_invitation_never_lowers(people, organisation, invite, before, offered):
    user = people.member(organisation, before)

    joined = user.made("/invitations/accept", {"invitation": invite(role=offered)["invitation"]})

    assert joined["role"] == max(before, offered, key=RANK.index)
    assert role_of(people, organisation, user.name) == joined["role"]


def test_an_invitation_makes_whoever_broke_the_glass_a_member_for_good(
    people, organisation, invite
):
    breaker = people.user(is_administrator=True)
    breaker.post(f"/organisations/{organisation}/break-glass", {"reason": "nobody answers"})

    breaker.made("/invitations/accept", {"invitation": invite()["invitation"]})

    shown = people.admin.get(f"/organisations/{organisation}/members/{breaker.name}").json()
    assert (shown["role"], shown["expires_at"]) == ("member", None)
    people.admin.patch(f"/users/{breaker.name}", {"is_administrator": False})


def test_an_invitation_is_used_once(people, invite):
    secret = invite()["invitation"]
    first, second = people.user(), people.user()

    assert first.post("/invitations/accept", {"invitation": secret}).status_code == 201
    assert second.post("/invitations/accept", {"invitation": secret}).status_code == 404
    assert first.post("/invitations/accept", {"invitation": secret}).status_code == 404
    assert newcomer(people, secret, f"{second.name}-x").status_code == 404


def test_of_twenty_who_accept_at_once_one_joins(people, organisation, invite):
    secret = invite()["invitation"]
    users = [people.user() for _ in range(10)]

    def accept(number):
        if number < 10:
            return users[number].post("/invitations/accept", {"invitation": secret})
        return newcomer(people, secret, f"{organisation}-{number}")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(accept, range(20)))

    assert sorted(answer.status_code for answer in answers) == [201] + [404] * 19
    members = people.admin.items(f"/organisations/{organisation}/members")
    assert len(members) == 2
    made = people.registry.rows(
        "SELECT name FROM users WHERE name LIKE :pattern", pattern=f"{organisation}-%"
    )
    assert len(made) <= 1
    assert {name for (name,) in made} <= {member["user"]["name"] for member in members}


@pytest.mark.parametrize(
    "secret",
    ["", "x", "entrepot_invite_x", "entrepot_user_" + "0" * 36, "entrepot_invite_" + "0" * 36],
)
def test_what_is_no_invitation_is_not_found(people, secret):
    user = people.user()

    assert user.post("/invitations/accept", {"invitation": secret}).status_code == 404
    assert newcomer(people, secret, "never-made").status_code == 404


def test_expired_and_revoked_invitations_are_answered_like_none(people, organisation, invite):
    user = people.user()
    expired, revoked = invite(), invite()
    path = f"/organisations/{organisation}/invitations"
    assert people.admin.delete(f"{path}/{revoked['id']}").status_code == 204
    people.registry.change(
        "UPDATE invitations SET expires_at = created_at WHERE revoked_at IS NULL AND note = ''"
    )

    secrets = [expired["invitation"], revoked["invitation"], "entrepot_invite_" + "0" * 36]
    answers = [user.post("/invitations/accept", {"invitation": secret}) for secret in secrets]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert people.admin.items(path) == []
    assert people.admin.delete(f"{path}/{revoked['id']}").status_code == 404
    assert [event["action"] for event in people.audit(organisation)][:1] == ["invitation.revoked"]


def test_a_name_that_is_taken_leaves_the_invitation_open(people, invite):
    secret = invite()["invitation"]
    taken = people.user()

    refused = newcomer(people, secret, taken.name)

    assert refused.status_code == 409
    assert newcomer(people, secret, f"{taken.name}-2").status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "ada"}, "password"),
        ({"password": PASSWORD}, "name"),
        ({"name": "Ada", "password": PASSWORD}, "name"),
    ],
)
def test_somebody_new_needs_a_name_and_a_password(people, invite, body, field):
    answer = people.nobody.post(
        "/invitations/accept", {"invitation": invite()["invitation"], **body}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_who_is_logged_in_chooses_no_name(people, invite):
    user = people.user()
    body = {"invitation": invite()["invitation"]}

    answers = [
        user.post("/invitations/accept", {**body, "name": "other"}),
        user.post("/invitations/accept", {**body, "password": PASSWORD}),
    ]

    assert {answer.status_code for answer in answers} == {422}


def test_only_people_with_a_whole_token_join(people, organisation, registry, invite):
    user = people.user()
    secret = invite()["invitation"]
    tokens = [
        registry.new_token("user", user=user.name, actions=frozenset({"pull"})),
        registry.new_token("user", user=user.name, patterns=("a/**",)),
        registry.new_token("org", organisation=organisation),
    ]

    for token in tokens:
        answer = people.caller(token).post("/invitations/accept", {"invitation": secret})
        assert answer.status_code == 403
    assert user.post("/invitations/accept", {"invitation": secret}).status_code == 201


@pytest.mark.parametrize("who", RANK)
@pytest.mark.parametrize("role", RANK)
def test_admins_invite_up_to_admins_and_owners_all(people, organisation, who, role):
    caller = people.member(organisation, who)
    path = f"/organisations/{organisation}/invitations"

    answer = caller.post(path, {"role": role})

    may = who == "owner" or (who == "admin" and role != "owner")
    assert answer.status_code == (201 if may else 403)
    assert caller.get(path).status_code == (200 if who in {"admin", "owner"} else 403)


def test_an_admin_revokes_no_invitation_of_an_owner(people, organisation, invite):
    admin = people.member(organisation, "admin")
    path = f"/organisations/{organisation}/invitations"

    assert admin.delete(f"{path}/{invite(role='owner')['id']}").status_code == 403
    assert admin.delete(f"{path}/{invite(role='admin')['id']}").status_code == 204
    elsewhere = people.organisation()
    other = people.admin.made(f"/organisations/{elsewhere}/invitations", {})
    assert admin.delete(f"{path}/{other['id']}").status_code == 404
    assert admin.delete(f"{path}/x").status_code == 404


@pytest.mark.parametrize("change", ["removed", "disabled", "member", "reader"])
def test_an_invitation_of_who_may_invite_no_more_is_void(people, organisation, invite, change):
    inviter = people.member(organisation, "owner")
    secret = invite(inviter, role="reader")["invitation"]
    user = people.user()
    member = f"/organisations/{organisation}/members/{inviter.name}"
    match change:
        case "removed":
            people.admin.delete(member)
        case "disabled":
            people.admin.patch(f"/users/{inviter.name}", {"is_disabled": True})
        case role:
            people.admin.patch(member, {"role": role})

    answers = [
        user.post("/invitations/accept", {"invitation": secret}),
        newcomer(people, secret, f"{user.name}-x"),
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert role_of(people, organisation, user.name) is None
    assert people.admin.get(f"/users/{user.name}-x").status_code == 404


def test_an_owner_who_became_an_admin_gives_no_more_than_an_admin(people, organisation, invite):
    inviter = people.member(organisation, "owner")
    secret = invite(inviter, role="owner")["invitation"]
    people.admin.patch(f"/organisations/{organisation}/members/{inviter.name}", {"role": "admin"})
    user = people.user()

    joined = user.made("/invitations/accept", {"invitation": secret})

    assert joined["role"] == "admin"
    [event] = people.audit(organisation, action="invitation.accepted", actor=user.name)
    assert (event["details"]["role"], event["details"]["given"]) == ("owner", "admin")


def test_a_managing_token_invites_until_it_is_revoked(people, organisation):
    path = f"/organisations/{organisation}/tokens"
    token = people.admin.made(path, {"kind": "org", "name": "terraform", "may_manage": True})
    manager = people.caller(token["token"])
    first, second = (
        manager.made(f"/organisations/{organisation}/invitations", {}) for _ in range(2)
    )

    used = people.user().post("/invitations/accept", {"invitation": first["invitation"]})
    people.admin.delete(f"/tokens/{token['id']}")
    late = people.user().post("/invitations/accept", {"invitation": second["invitation"]})

    assert first["created_by"] == "terraform"
    assert (used.status_code, late.status_code) == (201, 404)


@pytest.mark.parametrize(
    "body",
    [
        {"role": "king"},
        {"expires_in": 3_599},
        {"expires_in": 30 * 86_400 + 1},
        {"expires_in": None},
        {"note": "x" * 201},
        {"email": "ada@example.com"},
    ],
)
def test_what_is_no_invitation_to_make_is_refused(people, organisation, body):
    answer = people.admin.post(f"/organisations/{organisation}/invitations", body)

    assert answer.status_code == 422


def test_open_invitations_are_listed_newest_first_in_parts(people, organisation, invite):
    made = [invite(note=str(number))["id"] for number in range(3)]
    path = f"/organisations/{organisation}/invitations"

    first = people.admin.get(path, params={"limit": 2}).json()
    rest = people.admin.get(path, params={"cursor": first["next"]}).json()

    assert [item["id"] for item in first["items"] + rest["items"]] == made[::-1]
    assert rest["next"] is None


def test_strangers_see_no_invitations(people, organisation, invite):
    made = invite()
    stranger = people.user()
    path = f"/organisations/{organisation}/invitations"

    assert stranger.get(path).status_code == 404
    assert stranger.post(path).status_code == 404
    assert stranger.delete(f"{path}/{made['id']}").status_code == 404


@pytest.mark.parametrize("words", [["pull", "manage"], ["pull", "push", "manage"]])
def test_a_token_that_lacks_a_word_invites_nobody(people, organisation, words):
    owner = people.member(organisation, "owner")
    narrow = people.caller(owner.made("/tokens", {"actions": words})["token"])

    refused = narrow.post(f"/organisations/{organisation}/invitations")

    assert refused.status_code == 403, refused.text
