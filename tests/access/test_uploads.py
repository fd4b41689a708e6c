"""An upload session is its repository's and its credential's, whoever knows its id (T05)."""

import pytest

from tests.access import table
from tests.access.world import PLACES, random_id
from tests.support.server import Client, basic, digest_of

SENT = b"0123456789"
METHODS = ("GET", "PATCH", "PUT", "DELETE")


@pytest.fixture
def session(world):
    """A session of the owner's with some bytes: its id, and the check that it is as it was."""
    name = world.ours.names["linked"]
    location = world.pusher.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    world.pusher.request("PATCH", location, content=SENT)
    yield location.rpartition("/")[2]
    assert world.pusher.request("GET", location).headers["range"] == "0-9"
    done = world.pusher.request("PUT", location, params={"digest": digest_of(SENT)})
    assert done.status_code == 201


def use(world, name, upload, headers):
    """Every method on a session; the statuses."""
    return {
        world.http.request(
            method,
            f"/v2/{name}/blobs/uploads/{upload}",
            params={"digest": digest_of(SENT)} if method == "PUT" else None,
            content=b"xx" if method in {"PATCH", "PUT"} else None,
            headers=headers,
        ).status_code
        for method in METHODS
    }


def test_nobody_else_uses_an_upload(world, session):
    """At its own address and at every other, by Basic and by a bearer token that says all."""
    for principal in table.PRINCIPALS:
        token = world.principals[principal]
        if principal in {"bearer", "owner"}:
            continue  # the owner's own token, whose session it is
        for place in PLACES:
            name = world.ours.names[place]
            signed = world.signed(token, {name: frozenset({"pull", "push", "delete"})})
            ways = [basic(token) if token else {}, {"authorization": f"Bearer {signed}"}]
            for headers in ways:
                assert use(world, name, session, headers) <= {401, 403, 404}


def test_another_token_of_the_same_user_is_another_credential(world, session):
    token = world.registry.new_token("user", user=world.ours.users["owner"])

    assert use(world, world.ours.names["linked"], session, basic(token)) == {404}


def test_its_owner_uses_it_at_its_own_address_alone(world, session):
    owner = basic(world.ours.secrets["owner"])

    for place in ("other", "builds", "public", "spare"):
        assert use(world, world.ours.names[place], session, owner) == {404}
    assert use(world, random_id(world.ours.names["linked"]), session, owner) <= {403, 404}


@pytest.mark.parametrize("how", ["revoked", "removed", "lowered", "disabled", "unlinked"])
def test_a_right_that_was_taken_away_finishes_no_upload(world, how):
    """Not even the one that it began: a right that expired would."""
    name, kind = world.ours.names["linked"], "project" if how == "unlinked" else "user"
    user = world.word()
    world.as_operator("POST", "/users", {"name": user})
    world.registry.change(
        """
        INSERT INTO memberships (organisation_id, user_id, role, created_at)
        SELECT o.id, u.id, 'member', 0
          FROM organisations AS o
         CROSS JOIN users AS u
         WHERE o.slug = :slug
           AND u.name = :name
        """,
        slug=world.ours.slug,
        name=user,
    )
    token = world.registry.new_token("user", user=user)
    project = f"/projects/{world.ours.project}/repositories/{world.ours.repositories['linked']}"
    if kind == "project":
        token = world.registry.new_token("project", world.ours.slug, project=world.ours.project)
    client = Client(world.registry.server, token=token)
    location = client.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    client.request("PATCH", location, content=SENT)
    member = f"/organisations/{world.ours.slug}/members/{user}"
    match how:
        case "revoked":
            world.registry.revoke(token)
        case "removed":
            world.as_owner("DELETE", member)
        case "lowered":
            world.as_owner("PATCH", member, {"role": "reader"})
        case "disabled":
            world.as_operator("PATCH", f"/users/{user}", {"is_disabled": True})
        case _:
            world.as_owner("DELETE", project)

    done = client.request("PUT", location, params={"digest": digest_of(SENT)})

    client.close()
    if how == "unlinked":
        world.as_owner("PUT", project)
    assert done.status_code in {401, 403}
