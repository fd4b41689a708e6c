"""Limited tokens, switches and old names let through no more than they say."""

import pytest

from tests.api.caller import People


@pytest.fixture
def people(world):
    found = People(world.registry, [])
    yield found
    for caller in found.callers:
        caller.close()


def narrowed(people, caller, **limits):
    return people.caller(caller.made("/tokens", limits)["token"])


def test_an_administrator_sees_every_organisation(people):
    slug = people.organisation()
    administrator = people.user(is_administrator=True)

    assert slug in [found["slug"] for found in administrator.items("/organisations?limit=1000")]


@pytest.mark.parametrize("limits", [{"actions": ["pull"]}, {"patterns": ["team/**"]}])
def test_a_limited_token_tells_of_no_other(people, limits):
    user = people.user()
    user.made("/tokens", {"name": "a secret project"})

    answer = narrowed(people, user, **limits).get("/tokens")

    assert answer.status_code == 403
    assert "a secret project" not in answer.text


def test_an_organisation_that_is_read_only_is_not_deleted(people):
    slug = people.organisation()
    owner = people.member(slug, "owner")
    assert owner.patch(f"/organisations/{slug}", {"is_read_only": True}).status_code == 200

    refused = owner.delete(f"/organisations/{slug}")

    assert refused.status_code == 403
    owner.patch(f"/organisations/{slug}", {"is_read_only": False})
    assert owner.delete(f"/organisations/{slug}").status_code == 204


def test_no_organisation_is_deleted_while_the_server_is_read_only(people):
    slug = people.organisation()
    owner = people.member(slug, "owner")
    people.admin.patch("/settings", {"is_read_only": True})
    try:
        refused = owner.delete(f"/organisations/{slug}")
    finally:
        people.admin.patch("/settings", {"is_read_only": False})

    assert refused.status_code == 403
    assert owner.get(f"/organisations/{slug}").status_code == 200


def test_what_was_pulled_from_a_deleted_organisation_is_nobody_elses_to_push(people, world):
    slug = people.organisation()
    people.admin.delete(f"/organisations/{slug}")
    client = world.registry.client(people.admin.token)

    answer = client.request("POST", f"/v2/{slug}/app/blobs/uploads/")

    assert answer.status_code == 403
    made = people.admin.post("/organisations/main/repositories", {"path": f"{slug}/app"})
    assert made.status_code == 409
    client.close()
