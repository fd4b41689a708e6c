"""Repositories: who sees which, making them, their policies, and that a name inherits nothing."""

import pytest

from tests.protocol.documents import code_of
from tests.support.server import digest_of


@pytest.fixture
def base(slug):
    return f"/organisations/{slug}/repositories"


def paths(answer):
    return [item["path"] for item in answer.json()["items"]]


def walk(caller, url, limit, **params):
    """Every page of a list, as paths."""
    pages, cursor = [], ""
    while cursor is not None:
        query = {"limit": limit, **params} | ({"cursor": cursor} if cursor else {})
        answer = caller.get(url, params=query)
        assert answer.status_code == 200, answer.text
        pages.append(paths(answer))
        cursor = answer.json()["next"]
    return pages


def test_a_repository_is_made_before_its_first_push(people, slug, owner, base, protocol):
    made = owner.made(base, {"path": "team/app"})

    assert made == {
        "id": made["id"],
        "path": "team/app",
        "organisation": {"id": made["organisation"]["id"], "slug": slug},
        "project": None,
        "is_public": False,
        "is_read_only": False,
        "immutable_tags": [],
        "protected_tags": [],
        "upstream": None,
        "created_at": made["created_at"],
    }
    assert owner.get(f"/repositories/{made['id']}").json() == made
    assert owner.items(base) == [made]
    protocol(owner).push_image(f"{slug}/team/app", "v1")
    assert owner.items(base) == [made]
    (event,) = people.audit(slug, action="repository.created")
    assert (event["object"]["name"], event["details"]) == ("team/app", {"by": "api"})


def test_a_path_is_given_once(owner, base, slug, protocol):
    owner.made(base, {"path": "app"})
    protocol(owner).push_image(f"{slug}/pushed", "v1")

    for path in ("app", "pushed"):
        answer = owner.post(base, {"path": path})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "path")


@pytest.mark.parametrize("path", ["", "App", "a//b", "/a", "a/", "a" * 256, "a:b", "../a"])
def test_a_path_that_is_no_repository_name_is_refused(owner, base, path):
    assert owner.post(base, {"path": path}).status_code == 422


def test_the_default_organisation_hides_nobody_elses_names(people, slug):
    project = people.admin.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    (organisation,) = {people.admin.get(f"/organisations/{slug}").json()["id"]}
    main = "/organisations/main/repositories"

    for path in (slug, f"{slug}/app", organisation, f"{organisation}/app", project, f"{project}/a"):
        refused = people.admin.post(main, {"path": path})
        assert refused.status_code == 409, path
        first = path.partition("/")[0]
        assert "lead to the organisation or project of that name" in refused.json()["detail"]
        assert f"entrepot repository create {first}/NAME" in refused.json()["detail"]
    assert people.admin.post(main, {"path": f"{slug}x/app"}).status_code == 201


def test_whoever_may_create_is_up_to_the_organisation(people, slug, base):
    member, admin = people.member(slug), people.member(slug, "admin")
    reader = people.member(slug, "reader")
    assert member.post(base, {"path": "one"}).status_code == 201
    assert reader.post(base, {"path": "two"}).status_code == 403

    people.admin.patch(f"/organisations/{slug}", {"repository_creation": "admin"})

    assert member.post(base, {"path": "three"}).status_code == 403
    assert admin.post(base, {"path": "four"}).status_code == 201


def test_policies_of_a_new_repository_take_an_administrator(people, slug, base):
    member, admin = people.member(slug), people.member(slug, "admin")
    policies = {"is_public": True, "protected_tags": ["v*"], "immutable_tags": ["r-*", "latest"]}

    assert member.post(base, {"path": "one", **policies}).status_code == 403
    assert member.post(base, {"path": "two", "is_public": False}).status_code == 201
    made = admin.made(base, {"path": "one", **policies})

    assert {key: made[key] for key in policies} == policies


def test_a_narrow_token_makes_and_sees_only_what_it_covers(people, registry, slug, base, owner):
    for path in ("a/one", "b/one", "b/two", "c/one"):
        owner.made(base, {"path": path})
    narrow = people.caller(registry.new_token("org", slug, patterns=("b/**",)))

    assert paths(narrow.get(base)) == ["b/one", "b/two"]
    assert narrow.post(base, {"path": "b/three"}).status_code == 201
    assert narrow.post(base, {"path": "c/three"}).status_code == 403
    assert narrow.post(base, {"path": "c/one"}).status_code == 403
    (hidden,) = owner.items(f"{base}?path=c/one")
    assert narrow.get(f"/repositories/{hidden['id']}").status_code == 404
    assert narrow.items(f"{base}?path=c/one") == []


def test_pages_stay_full_for_whoever_may_see_few(people, registry, slug, base, owner):
    for n in range(4):
        for team in "abc":
            owner.made(base, {"path": f"{n}/{team}"})
    narrow = people.caller(registry.new_token("org", slug, patterns=("*/b",)))

    assert walk(narrow, base, 2) == [["0/b", "1/b"], ["2/b", "3/b"]]
    assert [len(page) for page in walk(owner, base, 5)] == [5, 5, 2]
    assert walk(owner, base, 3, query="B") == [["0/b", "1/b", "2/b"], ["3/b"]]


def test_a_part_of_a_path_is_found_whatever_it_holds(owner, base):
    for path in ("a_b", "axb", "team/a_b/c"):
        owner.made(base, {"path": path})

    assert walk(owner, base, 10, query="a_b") == [["a_b", "team/a_b/c"]]
    assert walk(owner, base, 10, query="%") == [[]]
    assert walk(owner, base, 10, path="axb") == [["axb"]]
    assert owner.get(base, params={"cursor": "nonsense!"}).status_code == 422


def test_whoever_may_not_see_a_repository_hears_what_an_unknown_id_hears(people, base, owner):
    made = owner.made(base, {"path": "app"})
    strangers = [
        people.user(),
        people.user(is_administrator=True),
        people.member(people.organisation(), "admin"),
        people.nobody,
    ]

    for stranger in strangers:
        for method, body in (("GET", None), ("PATCH", {"is_public": True}), ("DELETE", None)):
            answers = [
                stranger.request(method, f"/repositories/{id_}", body)
                for id_ in (made["id"], "0" * 13)
            ]
            assert len({answer.status_code for answer in answers}) == 1
            assert answers[0].status_code in {401, 404}
            assert answers[0].json()["detail"] == answers[1].json()["detail"]


def test_policies_take_an_administrator_and_are_kept(people, slug, base, owner):
    made = owner.made(base, {"path": "app"})
    path = f"/repositories/{made['id']}"

    for role in ("reader", "member"):
        somebody = people.member(slug, role)
        assert somebody.get(path).status_code == 200
        assert somebody.patch(path, {"is_read_only": True}).status_code == 403
        assert somebody.delete(path).status_code == 403
    changed = owner.patch(path, {"is_read_only": True, "immutable_tags": ["v*"]}).json()

    assert changed == {**made, "is_read_only": True, "immutable_tags": ["v*"]}
    assert owner.patch(path, {"immutable_tags": []}).json() == {**made, "is_read_only": True}
    newest = people.audit(slug, action="repository.changed")[0]
    assert newest["details"] == {"immutable_tags": []}


@pytest.mark.parametrize(
    "changes",
    [
        {"immutable_tags": ["v*"] * 51},
        {"protected_tags": ["x" * 129]},
        {"protected_tags": [""]},
        {"protected_tags": ["a/b"]},
        {"protected_tags": ["a\n"]},
        {"protected_tags": "v*"},
        {"is_public": 1},
        {"is_public": None},
        {"path": "other"},
    ],
)
def test_a_policy_outside_its_limits_is_refused(owner, base, changes):
    made = owner.made(base, {"path": "app"})

    assert owner.patch(f"/repositories/{made['id']}", changes).status_code == 422


def test_the_largest_policies_are_taken(owner, base):
    patterns = [f"{n:02}-{'x' * 124}*" for n in range(50)]

    made = owner.made(base, {"path": "app", "immutable_tags": patterns, "protected_tags": patterns})

    assert made["immutable_tags"] == made["protected_tags"] == patterns


def test_an_organisation_without_public_repositories_takes_none(people, slug, base, owner):
    made = owner.made(base, {"path": "app"})
    people.admin.patch(f"/organisations/{slug}", {"allows_public": False})

    for answer in (
        owner.patch(f"/repositories/{made['id']}", {"is_public": True}),
        owner.post(base, {"path": "other", "is_public": True}),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (403, "is_public")
    assert owner.patch(f"/repositories/{made['id']}", {"is_public": False}).status_code == 200


def test_a_change_that_rests_on_an_old_version_is_refused(owner, base):
    path = f"/repositories/{owner.made(base, {'path': 'app'})['id']}"
    etag = owner.get(path).headers["etag"]
    old = {"if-match": etag}

    assert owner.patch(path, {"is_read_only": True}, headers=old).status_code == 200
    assert owner.patch(path, {"is_read_only": False}, headers=old).status_code == 412
    assert owner.delete(path, headers=old).status_code == 412


def test_a_name_that_is_made_again_inherits_nothing(people, registry, slug, base, owner, protocol):
    client, name = protocol(owner), f"{slug}/app"
    digest = client.push_image(name, "v1")
    layer = client.push_blob(name, b"a layer of its own")
    upload = client.request("POST", f"/v2/{name}/blobs/uploads/").headers["location"]
    (before,) = owner.items(base)
    path = f"/repositories/{before['id']}"
    owner.patch(path, {"is_public": True})
    project = owner.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    owner.put(f"/projects/{project}/repositories/{before['id']}")
    builder = protocol(registry.new_token("project", slug, project=project))

    assert owner.delete(path).status_code == 204
    after = owner.made(base, {"path": "app"})

    assert owner.get(path).status_code == 404
    assert after["id"] != before["id"]
    assert after["is_public"] is False
    assert client.request("PATCH", upload, content=b"x").status_code == 404
    mount = {"mount": layer, "from": name}
    assert client.request(
        "POST", f"/v2/{slug}/other/blobs/uploads/", params=mount
    ).status_code == 202  # fmt: skip
    assert builder.request("POST", f"/v2/{name}/blobs/uploads/").status_code == 403
    assert owner.items(f"/projects/{project}/repositories") == []
    assert owner.items(f"/repositories/{after['id']}/tags") == []
    assert owner.items(f"/repositories/{after['id']}/manifests") == []
    missing = client.request(
        "PUT",
        f"/v2/{name}/manifests/v2",
        json={
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "a/b", "digest": layer, "size": 18},
            "layers": [],
        },
        headers={"content-type": "application/vnd.oci.image.manifest.v1+json"},
    )
    assert code_of(missing) == "MANIFEST_BLOB_UNKNOWN"
    ended = registry.rows(
        "SELECT h.ended_at IS NULL FROM tag_history AS h WHERE h.digest = :digest", digest=digest
    )
    assert ended == [(0,)]
    queued = registry.rows(
        """
        SELECT q.kind
          FROM review_queue AS q
          JOIN repositories AS r ON r.id = q.repository_id
         WHERE r.deleted_at IS NOT NULL
           AND q.kind = 'repository'
           AND r.id IN (SELECT repository_id FROM manifests WHERE digest = :digest)
        """,
        digest=digest,
    )
    assert queued == [("repository",)]
    assert people.audit(slug, action="repository.deleted")[0]["object"]["name"] == "app"


@pytest.mark.parametrize(
    ("policy", "is_kept"),
    [
        ({"is_read_only": True}, True),
        ({"immutable_tags": ["v1"]}, True),
        ({"immutable_tags": ["*1"]}, True),
        ({"protected_tags": ["x", "v*"]}, True),
        ({"protected_tags": ["*"]}, True),
        ({"protected_tags": ["V*", "w*", "v", "v_", "*2"]}, False),
    ],
)
def test_what_is_kept_keeps_its_repository(slug, base, owner, protocol, policy, is_kept):
    protocol(owner).push_image(f"{slug}/app", "v1")
    (made,) = owner.items(base)
    path = f"/repositories/{made['id']}"
    owner.patch(path, policy)

    answer = owner.delete(path)

    assert answer.status_code == (403 if is_kept else 204), answer.text
    if is_kept:
        assert "read-only" in answer.json()["detail"] or "v1" in answer.json()["detail"]
        assert owner.items(f"/repositories/{made['id']}/tags")[0]["name"] == "v1"
        owner.patch(path, {"is_read_only": False, "immutable_tags": [], "protected_tags": []})
        assert owner.delete(path).status_code == 204


def test_a_deleted_repositorys_content_is_counted_until_it_is_collected(
    registry, slug, base, owner, protocol
):
    client = protocol(owner)
    digest = digest_of(b"content")
    client.push_blob(f"{slug}/app", b"content")
    (made,) = owner.items(base)

    owner.delete(f"/repositories/{made['id']}")

    assert registry.rows(
        """
        SELECT c.holders
          FROM organisation_content AS c
          JOIN organisations AS o ON o.id = c.organisation_id
         WHERE o.slug = :slug
           AND c.digest = :digest
        """,
        slug=slug,
        digest=digest,
    ) == [(1,)]


def test_no_text_holds_a_nul(owner, slug, base):
    answers = [
        owner.post(f"/organisations/{slug}/projects", {"name": "a\0b"}),
        owner.get(f"{base}?query=%00"),
        owner.get(f"{base}?path=a%00"),
        owner.get(f"{base}?cursor=AA=="),
        owner.get("/projects/%00"),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 404]
    assert owner.post(f"/organisations/{slug}/projects", {"name": "\\u0000"}).status_code == 201
