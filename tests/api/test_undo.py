"""Undoing over HTTP: tags, manifests, repositories and projects, by whom, and what stands in the way."""

import json
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.caller import pull
from tests.api.test_contents import walk
from tests.protocol.documents import child, index
from tests.support.server import OCI_INDEX, digest_of


@pytest.fixture
def client(protocol, owner):
    return protocol(owner)


@pytest.fixture
def name(slug):
    return f"{slug}/app"


@pytest.fixture
def repository(owner, slug):
    """Its path in the API."""
    made = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})
    return f"/repositories/{made['id']}"


def done(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def history(caller, repository, tag="v1"):
    return caller.items(f"{repository}/tags/{tag}/history")


def moment(text):
    return datetime.fromisoformat(text)


def test_a_deleted_tag_comes_back_as_it_was(client, owner, name, repository, people, slug):
    digest = client.push_image(name, "v1")
    deleted = owner.delete(f"{repository}/tags/v1")
    assert pull(client, name) == 404

    found = done(owner.post(f"{repository}/tags/v1/restore"))

    assert deleted.status_code == 204
    until = moment(deleted.headers["restorable-until"])
    assert timedelta(hours=23) < until - datetime.now(UTC) < timedelta(hours=25)
    assert found == {"name": "v1", "digest": digest, "version": 2, "before": None}
    assert pull(client, name) == 200
    assert owner.get(f"{repository}/tags/v1").json()["digest"] == digest
    assert people.audit(slug)[0]["action"] == "tag.restored"
    assert people.audit(slug)[0]["details"] == {
        "tag": "v1",
        "digest": digest,
        "from_version": 1,
    }


def test_the_history_says_what_a_tag_was_when_and_what_ended_it(client, owner, name, repository):
    first = client.push_image(name, "v1")
    second = client.push_image(name, "v1")
    owner.delete(f"{repository}/tags/v1")
    owner.post(f"{repository}/tags/v1/restore", {"version": 1})
    third = client.push_image(name, "v1")

    versions = history(owner, repository)

    assert [version["version"] for version in versions] == [4, 3, 2, 1]
    assert [version["digest"] for version in versions] == [third, first, second, first]
    assert [version["ended_by"] for version in versions] == [None, "push", "delete", "push"]
    assert [version["ended_who"] for version in versions] == [None, *[owner.name] * 3]
    assert versions[0]["until"] is None
    assert versions[1]["until"] == versions[0]["from"]
    assert versions[3]["until"] == versions[2]["from"]
    assert all(version["is_restorable"] for version in versions)
    assert versions[2]["restorable_until"] is not None  # it lost its last tag
    assert versions[3]["restorable_until"] is None  # it has one again, or lost it to a push
    assert walk(owner, f"{repository}/tags/v1/history", 3, "version") == [[4, 3, 2], [1]]


def test_a_tag_becomes_what_it_was_on_a_date(client, owner, name, repository):
    first = client.push_image(name, "v1")
    second = client.push_image(name, "v1")
    begin = moment(history(owner, repository)[1]["from"])

    before = owner.post(
        f"{repository}/tags/v1/restore", {"at": (begin - timedelta(seconds=1)).isoformat()}
    )
    found = done(owner.post(f"{repository}/tags/v1/restore", {"at": begin.isoformat()}))
    again = done(owner.post(f"{repository}/tags/v1/restore", {"at": begin.isoformat()}))

    assert before.status_code == 404
    assert "was not there at" in before.json()["detail"]
    assert (found["digest"], found["before"], found["version"]) == (first, second, 3)
    assert again == {**found, "before": first}, "it is that already"
    assert history(owner, repository)[1]["ended_by"] == "restore"


def test_what_cannot_be_restored_is_refused_with_the_reason(client, owner, name, repository):
    digest = client.push_image(name, "v1")
    path = f"{repository}/tags/v1/restore"

    there = owner.post(path)
    no_version = owner.post(path, {"version": 7})
    never = owner.post(f"{repository}/tags/none/restore")
    both = owner.post(path, {"version": 1, "at": "2026-01-01T00:00:00Z"})

    assert there.status_code == 409
    assert digest in there.json()["detail"]
    assert no_version.status_code == 404
    assert "the last is 1" in no_version.json()["detail"]
    assert never.status_code == 404
    assert owner.get(f"{repository}/tags/none/history").status_code == 404
    assert both.status_code == 422
    for wrong in ({"version": 0}, {"at": "yesterday"}, {"at": "2026-01-01"}, {"at": 12}, {"x": 1}):
        assert owner.post(path, wrong).status_code == 422, wrong
    assert owner.post(f"{repository}/manifests/{digest_of(b'none')}/restore").status_code == 404
    assert done(owner.post(path, {"version": 1}))["before"] == digest  # it is that: nothing changed
    assert len(history(owner, repository)) == 1


def test_an_immutable_tag_moves_for_nobody_and_comes_back_for_who_may(
    client, owner, name, repository
):
    client.push_image(name, "v1")
    client.push_image(name, "v1")
    client.push_image(name, "gone")
    owner.delete(f"{repository}/tags/gone")
    owner.patch(repository, {"immutable_tags": ["*"]})

    assert owner.post(f"{repository}/tags/v1/restore", {"version": 1}).status_code == 403
    assert len(history(owner, repository)) == 2
    assert owner.post(f"{repository}/tags/gone/restore").status_code == 200


def test_a_manifest_comes_back_with_its_children_blobs_and_the_tags_of_its_deletion(
    client, owner, name, repository
):
    part = client.make_image(name)
    inner = client.push_manifest(name, "part", part)
    document = index([child(inner, len(json.dumps(part)))])
    digest = client.push_manifest(name, "v1", document, OCI_INDEX)
    for tag in ("v2", "v3", "v4"):
        client.push_manifest(name, tag, document, OCI_INDEX)
    owner.delete(f"{repository}/tags/v4")
    owner.delete(f"{repository}/tags/part")
    owner.delete(f"{repository}/manifests/{digest}")
    assert owner.delete(f"{repository}/manifests/{inner}").status_code == 204
    blob = part["layers"][0]["digest"]
    assert client.request("DELETE", f"/v2/{name}/blobs/{blob}").status_code == 202
    other = client.push_image(name, "v2")

    found = done(owner.post(f"{repository}/manifests/{digest}/restore"))
    again = done(owner.post(f"{repository}/manifests/{digest}/restore"))

    assert found == {"digest": digest, "restored": ["v1", "v3"], "left": ["v2"]}
    assert again == {"digest": digest, "restored": [], "left": []}
    assert [owner.get(f"{repository}/tags/{tag}").json().get("digest") for tag in ("v1", "v2")] == [
        digest,
        other,
    ]
    assert pull(client, name, "v4") == 404
    assert pull(client, name, inner) == 200
    assert client.request("GET", f"/v2/{name}/blobs/{blob}").status_code == 200


def test_who_ended_it_is_shown_to_who_may_push_and_a_reader_restores_nothing(
    client, owner, name, repository, people, slug
):
    client.push_image(name, "v1")
    owner.delete(f"{repository}/tags/v1")
    reader, member = people.member(slug, "reader"), people.member(slug, "member")

    assert history(member, repository)[0]["ended_who"] == owner.name
    assert history(reader, repository)[0]["ended_who"] is None
    assert reader.post(f"{repository}/tags/v1/restore").status_code == 403
    assert member.post(f"{repository}/tags/v1/restore").status_code == 200
    digest = owner.get(f"{repository}/tags/v1").json()["digest"]
    owner.delete(f"{repository}/manifests/{digest}")
    assert member.post(f"{repository}/manifests/{digest}/restore").status_code == 403


def test_a_token_that_only_deletes_restores_nothing(client, owner, name, repository, slug):
    client.push_image(name, "v1")
    owner.delete(f"{repository}/tags/v1")
    body = {"kind": "org", "scope": {"actions": ["pull", "delete"]}}
    made = owner.post(f"/organisations/{slug}/tokens", body)
    if made.status_code == 422:  # the form of a scope
        made = owner.post(
            f"/organisations/{slug}/tokens", {"kind": "org", "actions": ["pull", "delete"]}
        )
    token = done(made, 201)["token"]

    answer = owner.http.post(
        f"{repository}/tags/v1/restore", json={}, headers={"authorization": f"Bearer {token}"}
    )

    assert answer.status_code == 403


def test_a_restored_tag_counts_for_the_quota(client, owner, name, repository, people, slug):
    client.push_image(name, "v1")
    owner.delete(f"{repository}/tags/v1")
    client.push_image(name, "v2")
    people.admin.patch(f"/organisations/{slug}", {"quota": {"tags": 1}})

    refused = owner.post(f"{repository}/tags/v1/restore")
    owner.delete(f"{repository}/tags/v2")
    restored = owner.post(f"{repository}/tags/v1/restore")

    assert refused.status_code == 403
    assert "quota" in refused.json()["detail"]
    assert restored.status_code == 200


def test_a_repository_comes_back_with_its_tags_and_policies(
    client, owner, name, repository, people, slug
):
    digests = {tag: client.push_image(name, tag) for tag in ("v1", "v2", "gone")}
    owner.delete(f"{repository}/tags/gone")
    owner.patch(repository, {"immutable_tags": ["x*"]})
    deleted = owner.delete(repository)
    listed = owner.items(f"/organisations/{slug}/deleted")

    found = done(owner.post(f"{repository}/restore"))

    assert deleted.headers["restorable-until"]
    assert [(item["kind"], item["name"]) for item in listed] == [("repository", "app")]
    assert f"/repositories/{listed[0]['id']}" == repository
    assert found["immutable_tags"] == ["x*"]
    assert owner.items(f"/organisations/{slug}/deleted") == []
    tags = {tag["name"]: tag["digest"] for tag in owner.items(f"{repository}/tags")}
    assert tags == {tag: digests[tag] for tag in ("v1", "v2")}
    assert pull(client, name, "v2") == 200
    assert [version["ended_by"] for version in history(owner, repository)] == [None, "repository"]
    assert done(owner.post(f"{repository}/restore"))["path"] == "app"  # again changes nothing
    event = people.audit(slug)[0]
    assert (event["action"], event["details"]) == ("repository.restored", {"tags": 2})


def test_a_repository_stays_away_while_another_has_its_path(client, owner, name, repository, slug):
    client.push_image(name, "v1")
    owner.delete(repository)
    other = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})

    refused = owner.post(f"{repository}/restore")
    owner.delete(f"/repositories/{other['id']}")
    found = owner.post(f"{repository}/restore")

    assert refused.status_code == 409
    assert f"another repository is at {slug}/app" in refused.json()["detail"]
    assert found.status_code == 200


def test_who_could_not_delete_a_repository_cannot_restore_it(people, owner, repository, slug):
    owner.patch(repository, {"is_public": True})
    owner.delete(repository)

    assert people.member(slug).post(f"{repository}/restore").status_code == 403
    assert people.user().post(f"{repository}/restore").status_code == 404
    assert people.nobody.post(f"{repository}/restore").status_code == 401
    assert people.member(slug).get(f"/organisations/{slug}/deleted").status_code == 403
    assert owner.post(f"/repositories/{'0' * 13}/restore").status_code == 404


def test_a_repository_counts_for_the_quotas_when_it_returns(
    client, owner, name, repository, people, slug
):
    client.push_image(name, "v1")
    owner.delete(repository)
    owner.made(f"/organisations/{slug}/repositories", {"path": "other"})
    people.admin.patch(f"/organisations/{slug}", {"quota": {"repositories": 1}})
    refused = owner.post(f"{repository}/restore")
    people.admin.patch(f"/organisations/{slug}", {"quota": {"repositories": 2, "tags": 0}})
    no_tags = owner.post(f"{repository}/restore")

    assert (refused.status_code, no_tags.status_code) == (403, 403)
    assert owner.get(repository).status_code == 404


def test_a_project_comes_back_with_its_builds_and_without_its_tokens_and_links(
    people, slug, owner, protocol
):
    client = protocol(owner)
    ours = owner.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    other = owner.made(f"/organisations/{slug}/repositories", {"path": "linked"})["id"]
    owner.put(f"/projects/{ours}/repositories/{other}")
    client.push_image(ours, "v1")
    deleted = owner.delete(f"/projects/{ours}")
    (listed,) = owner.items(f"/organisations/{slug}/deleted")
    (builds,) = [
        event["object"]["id"] if isinstance(event.get("object"), dict) else event["object_id"]
        for event in people.audit(slug)
        if event["action"] == "repository.deleted"
    ]
    alone = owner.post(f"/repositories/{builds}/restore")

    found = done(owner.post(f"/projects/{ours}/restore"))

    assert deleted.headers["restorable-until"]
    assert (listed["kind"], listed["id"], listed["name"]) == ("project", ours, "site")
    assert alone.status_code == 409
    assert f"entrepot project restore {ours}" in alone.json()["detail"]
    assert (found["id"], found["name"]) == (ours, "site")
    assert pull(client, ours) == 200
    assert owner.items(f"/projects/{ours}/repositories") == []
    assert done(owner.post(f"/projects/{ours}/restore"))["id"] == ours
    assert owner.get(f"/projects/{ours}").status_code == 200


def test_builds_that_went_before_their_project_stay_away(people, slug, owner, protocol):
    client = protocol(owner)
    ours = owner.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    client.push_image(ours, "v1")
    (builds,) = owner.items(f"/organisations/{slug}/repositories")
    owner.delete(f"/repositories/{builds['id']}")
    owner.delete(f"/projects/{ours}")

    owner.post(f"/projects/{ours}/restore")

    assert pull(client, ours) == 404
    assert owner.post(f"/repositories/{builds['id']}/restore").status_code == 200
    assert pull(client, ours) == 200


def test_a_project_stays_away_while_a_repository_has_its_address(slug, owner):
    ours = owner.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    owner.delete(f"/projects/{ours}")
    made = owner.post(f"/organisations/{slug}/repositories", {"path": ours})
    assert made.status_code == 201, made.text

    assert owner.post(f"/projects/{ours}/restore").status_code == 409


def test_what_was_deleted_is_listed_in_parts(slug, owner):
    names = [f"app-{secrets.token_hex(3)}" for _ in range(5)]
    for each in names:
        made = owner.made(f"/organisations/{slug}/repositories", {"path": each})
        owner.delete(f"/repositories/{made['id']}")

    pages = walk(owner, f"/organisations/{slug}/deleted", 2, "name")

    assert [each for page in pages for each in page] == names[::-1]
    assert len(pages) == 3
