"""Members of an organisation: roles, leaving, and the owner who stays."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.server import Client

ROLES = ("reader", "member", "admin", "owner")


@pytest.fixture
def organisation(people):
    return people.organisation()


def path_of(organisation, caller):
    return f"/organisations/{organisation}/members/{caller.name}"


def status(answer):
    return answer.status_code


def test_members_are_listed_by_name(people, organisation):
    reader, admin = people.member(organisation, "reader"), people.member(organisation, "admin")

    items = reader.items(f"/organisations/{organisation}/members")

    assert [(item["user"]["name"], item["role"]) for item in items] == sorted(
        [("admin", "owner"), (reader.name, "reader"), (admin.name, "admin")]
    )
    assert {item["expires_at"] for item in items} == {None}
    first = reader.get(f"/organisations/{organisation}/members", params={"limit": 2}).json()
    assert first["items"] == items[:2]
    more = reader.get(
        f"/organisations/{organisation}/members", params={"cursor": first["next"]}
    ).json()
    assert more == {"items": items[2:], "next": None}


def test_strangers_see_no_members(people, organisation):
    stranger = people.user()
    other = people.user(is_administrator=True)

    assert status(stranger.get(f"/organisations/{organisation}/members")) == 404
    assert status(stranger.get(f"/organisations/{organisation}/members/admin")) == 404
    assert status(stranger.delete(f"/organisations/{organisation}/members/admin")) == 404
    # A server administrator sees that the organisation is there, and not who is in it.
    assert status(other.get(f"/organisations/{organisation}/members")) == 403
    assert status(other.delete(f"/organisations/{organisation}/members/admin")) == 403
    assert status(people.nobody.get(f"/organisations/{organisation}/members")) == 401


def test_a_role_changes_at_once(people, organisation):
    member = people.member(organisation, "member")

    answer = people.admin.patch(path_of(organisation, member), {"role": "admin"})

    assert answer.status_code == 200
    assert answer.json()["role"] == "admin"
    assert answer.headers["etag"] == '"2"'
    assert status(member.get(f"/organisations/{organisation}/invitations")) == 200
    [event] = people.audit(organisation, action="member.changed")
    assert event["object"]["name"] == member.name
    assert event["details"] == {"from": "member", "to": "admin"}


@pytest.mark.parametrize("who", ROLES)
@pytest.mark.parametrize("before", ["member", "owner"])
@pytest.mark.parametrize("after", ["reader", "admin", "owner"])
def test_admins_manage_up_to_admins_and_owners_all(people, organisation, who, before, after):
    caller = people.member(organisation, who)
    target = people.member(organisation, before)
    is_about_owners = "owner" in {before, after}

    answer = caller.patch(path_of(organisation, target), {"role": after})

    may = who == "owner" or (who == "admin" and not is_about_owners)
    assert answer.status_code == (200 if may else 403)


@pytest.mark.parametrize("who", ROLES)
@pytest.mark.parametrize("target", ["reader", "admin", "owner"])
def test_admins_remove_up_to_admins_and_owners_all(people, organisation, who, target):
    caller = people.member(organisation, who)
    other = people.member(organisation, target)

    answer = caller.delete(path_of(organisation, other))

    may = who == "owner" or (who == "admin" and target != "owner")
    assert answer.status_code == (204 if may else 403)


@pytest.mark.parametrize("role", ROLES)
def test_everybody_may_leave(people, organisation, role):
    member = people.member(organisation, role)

    assert status(member.delete(path_of(organisation, member))) == 204
    assert status(member.get(f"/organisations/{organisation}")) == 404
    [event] = people.audit(organisation, action="member.removed")
    assert event["details"] == {"role": role, "left": True}


def test_a_limited_token_takes_its_user_out_of_nothing(people, organisation, registry):
    member = people.member(organisation)
    limited = registry.new_token("user", user=member.name, actions=frozenset({"pull", "manage"}))

    answer = people.caller(limited, member.name).delete(path_of(organisation, member))

    assert answer.status_code == 403


def test_a_removed_members_token_writes_nothing_from_then_on(people, organisation):
    member = people.member(organisation)
    client = Client(people.registry.server, token=member.token)
    client.push_image(f"{organisation}/app", "v1")

    people.admin.delete(path_of(organisation, member))

    begun = client.request("POST", f"/v2/{organisation}/app/blobs/uploads/")
    client.close()
    assert begun.status_code == 403
    assert status(member.post(f"/organisations/{organisation}/invitations")) == 404


def test_a_lowered_member_pushes_nothing_from_then_on(people, organisation):
    member = people.member(organisation)
    client = Client(people.registry.server, token=member.token)
    client.push_image(f"{organisation}/app", "v1")

    people.admin.patch(path_of(organisation, member), {"role": "reader"})

    begun = client.request("POST", f"/v2/{organisation}/app/blobs/uploads/")
    pulled = client.request("GET", f"/v2/{organisation}/app/manifests/v1")
    client.close()
    assert begun.status_code == 403
    assert pulled.status_code == 200


def test_the_last_owner_stays(people, organisation):
    path = f"/organisations/{organisation}/members/admin"

    lowered = people.admin.patch(path, {"role": "admin"})
    left = people.admin.delete(path)

    assert (lowered.status_code, left.status_code) == (409, 409)
    assert "entrepot member set NAME --role owner" in left.json()["detail"]
    assert status(people.admin.patch(path, {"role": "owner"})) == 200


@pytest.mark.parametrize("how", ["leave", "remove each other", "lower each other"])
def test_owners_who_go_at_once_leave_one(people, organisation, how):
    other = people.member(organisation, "owner")
    owners = [people.admin, other]
    targets = owners if how == "leave" else owners[::-1]

    def go(caller, target):
        if how == "lower each other":
            return caller.patch(path_of(organisation, target), {"role": "member"})
        return caller.delete(path_of(organisation, target))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(go, owners, targets))

    assert sum(answer.is_success for answer in answers) == 1
    assert {answer.status_code for answer in answers if not answer.is_success} <= {403, 404, 409}
    owned = people.registry.rows(
        """
        SELECT COUNT(*)
          FROM memberships AS m
          JOIN organisations AS o ON o.id = m.organisation_id
         WHERE o.slug = :slug
           AND m.role = 'owner'
        """,
        slug=organisation,
    )
    assert owned == [(1,)]


def test_a_disabled_owner_is_no_owner_to_leave_it_to(people, organisation):
    other = people.member(organisation, "owner")
    people.admin.patch(f"/users/{other.name}", {"is_disabled": True})

    assert status(people.admin.delete(path_of(organisation, people.admin))) == 409
    assert status(people.admin.delete(path_of(organisation, other))) == 204


def test_a_change_to_what_was_changed_since_is_refused(people, organisation):
    member = people.member(organisation)
    path = path_of(organisation, member)
    seen = people.admin.get(path).headers["etag"]
    people.admin.patch(path, {"role": "reader"})

    assert status(people.admin.patch(path, {"role": "admin"}, headers={"if-match": seen})) == 412
    assert status(people.admin.delete(path, headers={"if-match": seen})) == 412
    assert people.admin.get(path).json()["role"] == "reader"


def test_whoever_broke_the_glass_is_shown_with_the_end_and_is_no_last_owner(people, organisation):
    breaker = people.user(is_administrator=True)

    broken = breaker.post(
        f"/organisations/{organisation}/break-glass", {"reason": "nobody answers"}
    )

    assert broken.status_code == 200
    shown = breaker.get(path_of(organisation, breaker)).json()
    assert shown["role"] == "owner"
    assert shown["expires_at"] == broken.json()["expires_at"]
    assert status(people.admin.delete(path_of(organisation, people.admin))) == 409
    people.registry.change(
        "UPDATE memberships SET expires_at = 1 WHERE user_id = (SELECT id FROM users WHERE name = :n)",
        n=breaker.name,
    )
    assert status(people.admin.get(path_of(organisation, breaker))) == 404
    names = [
        item["user"]["name"]
        for item in people.admin.items(f"/organisations/{organisation}/members")
    ]
    assert breaker.name not in names
    people.admin.patch(f"/users/{breaker.name}", {"is_administrator": False})


def test_who_is_no_member_cannot_be_changed(people, organisation):
    stranger = people.user()

    assert status(people.admin.patch(path_of(organisation, stranger), {"role": "owner"})) == 404
    assert status(people.admin.delete(path_of(organisation, stranger))) == 404


@pytest.mark.parametrize("body", [{}, {"role": "king"}, {"role": None}, {"role": "admin", "x": 1}])
def test_what_is_no_role_is_refused(people, organisation, body):
    member = people.member(organisation)

    assert status(people.admin.patch(path_of(organisation, member), body)) == 422


def test_who_broke_the_glass_does_not_stay(people, organisation):
    administrator = people.user(is_administrator=True)
    broken = administrator.post(
        f"/organisations/{organisation}/break-glass", {"reason": "a pull fails in production"}
    )
    assert broken.status_code == 200, broken.text

    stayed = administrator.patch(
        f"/organisations/{organisation}/members/{administrator.name}", {"role": "owner"}
    )

    assert stayed.status_code == 403, stayed.text
    assert people.admin.get(path_of(organisation, administrator)).json()["expires_at"]
    people.admin.patch(f"/users/{administrator.name}", {"is_administrator": False})


def test_an_organisation_token_that_ends_gives_nobody_what_does_not(people, organisation):
    body = {"kind": "org", "name": "hour", "may_manage": True, "expires_in": 3600}
    token = people.admin.made(f"/organisations/{organisation}/tokens", body)

    refused = people.caller(token["token"]).post(f"/organisations/{organisation}/invitations")

    assert refused.status_code == 403, refused.text
