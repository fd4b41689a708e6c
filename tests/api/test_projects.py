"""Projects: who may see and change them, their links, and what a move or an end leaves behind."""

import secrets

import pytest

from tests.api.caller import pull
from tests.support.eventually import REVOKED_WITHIN, eventually

ALPHABET = "0123456789bcdfghjklmnpqrstvwxz"


def new_public_id():
    return "".join(secrets.choice(ALPHABET) for _ in range(10))


def test_a_project_is_made_listed_shown_and_renamed(people, slug, owner):
    made = owner.made(f"/organisations/{slug}/projects", {"name": "site"})
    ours = made["id"]

    assert made["name"] == "site"
    assert made["organisation"]["slug"] == slug
    assert owner.get(f"/projects/{ours}").json() == made
    assert owner.items(f"/organisations/{slug}/projects") == [made]
    assert owner.patch(f"/projects/{ours}", {"name": "shop"}).json()["name"] == "shop"
    assert owner.get(f"/projects/{ours}").json() == {**made, "name": "shop"}
    assert people.actions(slug)[:2] == ["project.renamed", "project.created"]


def test_projects_are_listed_in_parts(slug, owner):
    made = sorted(
        owner.made(f"/organisations/{slug}/projects", {"name": str(n)})["id"] for n in range(5)
    )

    found, cursor = [], ""
    while cursor is not None:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = owner.get(f"/organisations/{slug}/projects", params=params).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next"]

    assert found == made


def test_an_id_can_be_given_and_is_never_given_twice(people, slug, owner):
    ours = new_public_id()
    path = f"/organisations/{slug}/projects"

    assert owner.made(path, {"name": "moved", "id": ours})["id"] == ours
    taken = owner.post(path, {"name": "again", "id": ours})
    assert (taken.status_code, taken.json()["errors"][0]["field"]) == (409, "id")
    assert owner.delete(f"/projects/{ours}").status_code == 204
    assert owner.post(path, {"name": "again", "id": ours}).status_code == 409
    for wrong in ("short", "aeiouaeiou", ours.upper() + "x"):
        assert owner.post(path, {"name": "no", "id": wrong}).status_code == 422


@pytest.mark.parametrize("organisation", ["main", "own"])
def test_a_given_id_hides_no_repository(people, slug, owner, protocol, organisation):
    ours = new_public_id()
    if organisation == "main":
        protocol(people.admin).push_image(f"{ours}/app", "v1")
    else:
        protocol(owner).push_image(f"{slug}/{ours}", "v1")

    answer = owner.post(f"/organisations/{slug}/projects", {"name": "no", "id": ours})

    assert answer.status_code == 409


def test_roles_decide_who_may_do_what(people, slug, project):
    path, ours = f"/organisations/{slug}/projects", f"/projects/{project['id']}"
    can = {"reader": (200, 403, 403), "member": (200, 201, 403), "admin": (200, 201, 200)}

    for role, expected in can.items():
        somebody = people.member(slug, role)
        assert (
            somebody.get(ours).status_code,
            somebody.post(path, {"name": "new"}).status_code,
            somebody.patch(ours, {"name": "other"}).status_code,
        ) == expected, role


def test_whoever_may_not_see_a_project_hears_what_an_unknown_id_hears(people, registry, project):
    nowhere = new_public_id()
    strangers = [
        people.user(),
        people.user(is_administrator=True),
        people.member(people.organisation(), "admin"),
        people.nobody,
        people.caller(registry.new_token("project", project["organisation"]["slug"],
                                         project=project["id"])),
    ]  # fmt: skip
    requests = [
        ("GET", "", None),
        ("PATCH", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("POST", "/transfer", {"organisation": "main"}),
        ("GET", "/repositories", None),
        ("PUT", "/repositories/0000000000000", None),
        ("DELETE", "/repositories/0000000000000", None),
    ]

    for stranger in strangers:
        for method, path, body in requests:
            there = stranger.request(method, f"/projects/{project['id']}{path}", body)
            not_there = stranger.request(method, f"/projects/{nowhere}{path}", body)
            said = [{**answer.json(), "request_id": ""} for answer in (there, not_there)]
            assert said[0] == said[1]
            assert there.status_code in {401, 404}


def test_a_change_that_rests_on_an_old_version_is_refused(owner, project):
    path = f"/projects/{project['id']}"
    etag = owner.get(path).headers["etag"]

    first = owner.patch(path, {"name": "one"}, headers={"if-match": etag})
    second = owner.patch(path, {"name": "two"}, headers={"if-match": etag})

    assert (first.status_code, second.status_code) == (200, 412)
    assert first.headers["etag"] == owner.get(path).headers["etag"] != etag
    assert owner.delete(path, headers={"if-match": etag}).status_code == 412
    assert owner.delete(path, headers={"if-match": first.headers["etag"]}).status_code == 204


def test_a_linked_repository_is_open_to_the_projects_tokens(
    people, registry, slug, owner, project, protocol
):
    name = f"{slug}/team/app"
    protocol(owner).push_image(name, "v1")
    (app,) = owner.items(f"/organisations/{slug}/repositories")
    link = f"/projects/{project['id']}/repositories/{app['id']}"
    builder = protocol(registry.new_token("project", slug, project=project["id"]))
    assert pull(builder, name) == 404

    assert [owner.put(link).status_code for _ in range(2)] == [204, 204]

    assert owner.items(f"/projects/{project['id']}/repositories") == [app]
    assert pull(builder, name) == 200
    builder.push_image(name, "v2")
    assert owner.delete(link).status_code == 204
    assert owner.delete(link).status_code == 404
    assert owner.items(f"/projects/{project['id']}/repositories") == []
    assert builder.request("POST", f"/v2/{name}/blobs/uploads/").status_code == 403
    eventually(lambda: pull(builder, name) == 404, within=REVOKED_WITHIN)
    done = [action for action in people.actions(slug) if "linked" in action]
    assert done == ["project.unlinked", "project.linked"]


def test_links_stay_in_the_organisation_and_are_a_hundred_at_most(people, slug, owner, project):
    elsewhere = people.organisation()
    people.admin.made(f"/organisations/{elsewhere}/repositories", {"path": "app"})
    (foreign,) = people.admin.items(f"/organisations/{elsewhere}/repositories")
    links = f"/projects/{project['id']}/repositories"
    ids = [
        owner.made(f"/organisations/{slug}/repositories", {"path": f"app-{n}"})["id"]
        for n in range(101)
    ]

    assert owner.put(f"{links}/{foreign['id']}").status_code == 404
    answers = [owner.put(f"{links}/{id_}") for id_ in ids]

    assert [answer.status_code for answer in answers] == [204] * 100 + [422]
    assert owner.put(f"{links}/{ids[0]}").status_code == 204
    page = owner.get(links, params={"limit": 60}).json()
    rest = owner.get(links, params={"limit": 60, "cursor": page["next"]}).json()
    assert [len(page["items"]), len(rest["items"]), rest["next"]] == [60, 40, None]


def test_a_deleted_project_leaves_nothing_that_works(
    people, registry, slug, owner, project, protocol
):
    ours = project["id"]
    token = registry.new_token("project", slug, project=ours)
    pulling = registry.new_token("pull", slug, project=ours)
    builder = protocol(token)
    builder.push_image(ours, "v1")
    app = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})
    owner.put(f"/projects/{ours}/repositories/{app['id']}")

    assert owner.delete(f"/projects/{ours}").status_code == 204

    assert owner.get(f"/projects/{ours}").status_code == 404
    assert owner.items(f"/organisations/{slug}/projects") == []
    assert [item["path"] for item in owner.items(f"/organisations/{slug}/repositories")] == ["app"]
    assert builder.request("POST", f"/v2/{ours}/blobs/uploads/").status_code == 401
    for gone in (builder, protocol(pulling)):
        eventually(lambda gone=gone: pull(gone, ours) == 401, within=REVOKED_WITHIN)
    eventually(lambda: pull(protocol(owner), f"{slug}/{ours}") == 404, within=REVOKED_WITHIN)
    assert registry.rows("SELECT 1 FROM project_links WHERE repository_id IN "
                         "(SELECT id FROM repositories WHERE path = :path)", path=ours) == []  # fmt: skip
    done = people.actions(slug)
    assert done[:2] == ["project.deleted", "repository.deleted"]


@pytest.mark.parametrize("policy", [{"is_read_only": True}, {"protected_tags": ["v*"]}])
def test_builds_that_are_kept_keep_their_project(registry, slug, owner, project, protocol, policy):
    ours = project["id"]
    protocol(registry.new_token("project", slug, project=ours)).push_image(ours, "v1")
    (builds,) = owner.items(f"/organisations/{slug}/repositories")
    assert builds["project"] == {"id": ours, "name": "site"}
    assert owner.patch(f"/repositories/{builds['id']}", policy).status_code == 200

    assert owner.delete(f"/projects/{ours}").status_code == 403

    assert owner.get(f"/projects/{ours}").status_code == 200
    assert pull(protocol(owner), ours) == 200
