"""Pull-through repositories: making them, what can be set, and who may push to one."""

import pytest

from tests.support.upstreams import BasicLogin, ScriptedUpstream, faults
from tests.support.upstreams.fixtures import upstream

__all__ = ["upstream"]


@pytest.fixture
def slug(people):
    return people.organisation()


@pytest.fixture
def admin(people, slug):
    return people.member(slug, "admin")


@pytest.fixture
def base(slug):
    return f"/organisations/{slug}/repositories"


@pytest.fixture
def added(slug, admin, upstream):
    """The name of an upstream with the image library/redis:7."""
    upstream.put_image("library/redis", "7")
    admin.made(f"/organisations/{slug}/upstreams", {"name": "up", "url": upstream.origin})
    return "up"


def new(path, name="up", remote="library/redis", **fields):
    return {"path": path, "upstream": {"name": name, "path": remote, **fields}}


def refused(answer, status, field=None):
    """The sentence of a problem, which names this field."""
    assert answer.status_code == status, answer.text
    problem = answer.json()
    if field is not None:
        assert [error["field"] for error in problem["errors"]] == [field], problem
    return problem["detail"]


def test_a_repository_comes_from_an_upstream(people, slug, admin, base, added, protocol):
    made = admin.made(base, new("cache/redis"))

    assert made["upstream"] == {
        "id": made["upstream"]["id"],
        "name": added,
        "path": "library/redis",
        "freshness": 60,
        "accepts_push": False,
        "may_shadow": False,
        "sync": None,
        "keeps_deleted": False,
        "warm_tags": [],
        "warm_platforms": [],
        "accessed_at": None,
        "last_synced_at": None,
        "last_sync_error": None,
    }
    assert admin.get(f"/repositories/{made['id']}").json() == made
    assert admin.items(base) == [made]
    (event,) = people.audit(slug, action="repository.created")
    assert event["details"] == {"by": "api", "upstream": "up", "upstream_path": "library/redis"}
    pulled = protocol(admin).request("GET", f"/v2/{slug}/cache/redis/manifests/7")
    assert pulled.status_code == 200, pulled.text


def test_everything_but_where_it_comes_from_can_be_set(people, slug, admin, base, added):
    del added
    made = admin.made(base, new("cache/redis", freshness=5, accepts_push=True, warm_tags=["7*"]))
    url = f"/repositories/{made['id']}"
    changes = {"sync": "newest:3", "freshness": None, "keeps_deleted": True, "may_shadow": True}

    changed = admin.patch(url, {"upstream": changes, "is_public": False})

    assert made["upstream"]["freshness"] == 5
    assert changed.status_code == 200, changed.text
    upstream = changed.json()["upstream"]
    assert (upstream["freshness"], upstream["sync"]) == ("sync", "newest:3")
    assert (upstream["accepts_push"], upstream["may_shadow"]) == (True, True)
    assert (upstream["keeps_deleted"], upstream["warm_tags"]) == (True, ["7*"])
    assert admin.get(url).json()["upstream"] == upstream
    (event,) = people.audit(slug, action="repository.changed")
    assert event["details"] == {"upstream": changes, "is_public": False}
    unsynced = admin.patch(url, {"upstream": {"sync": None, "accepts_push": False}}).json()
    assert unsynced["upstream"]["freshness"] == 60
    assert unsynced["upstream"]["may_shadow"] is False


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"freshness": "sync"}, "upstream.freshness"),
        ({"may_shadow": True}, "upstream.may_shadow"),
        ({"sync": "newest:0"}, "upstream.sync"),
        ({"warm_tags": ["a b"]}, "upstream.warm_tags"),
        ({"warm_platforms": ["linux"]}, "upstream.warm_platforms"),
        ({"name": "up"}, "upstream.name"),
        ({"path": "library/redis"}, "upstream.path"),
    ],
)
def test_what_cannot_be_set_is_refused(admin, base, added, fields, field):
    del added
    url = f"/repositories/{admin.made(base, new('cache/redis'))['id']}"
    before = admin.get(url).json()

    answer = admin.patch(url, {"upstream": fields})

    assert "pattern '^" not in refused(answer, 422, field)  # a sentence, no expression
    assert admin.get(url).json() == before


def test_a_path_with_a_tag_is_told_from_one_that_is_no_name(admin, base, added):
    answer = admin.post(base, new("cache/redis", added, "library/redis:7"))

    assert "leave the tag or digest out" in refused(answer, 422, "upstream.path")


def test_an_upstream_is_not_added_to_a_repository(admin, base, added):
    hosted = admin.made(base, {"path": "team/app"})

    set_later = admin.patch(f"/repositories/{hosted['id']}", {"upstream": {"freshness": 60}})
    made_again = admin.post(base, new("team/app", added))

    assert "make a new repository" in refused(set_later, 422, "upstream")
    assert "choose another path" in refused(made_again, 409, "path")


def test_builds_of_a_project_come_from_no_upstream(slug, admin, base, added):
    project = admin.made(f"/organisations/{slug}/projects", {"name": "app"})

    answer = admin.post(base, new(project["id"], added))

    assert "builds" in refused(answer, 422, "path")


def test_what_cannot_be_read_is_not_made(admin, base, added, upstream):
    del added
    upstream.script(faults.status(503), kind="tags", name="library/down")

    missing = admin.post(base, new("cache/none", remote="library/none"))
    down = admin.post(base, new("cache/down", remote="library/down"))

    assert "up has no library/none" in refused(missing, 422, "upstream.path")
    refused(down, 502)
    assert admin.items(base) == []


def test_an_upstream_that_lists_no_tags_may_be_read(admin, base, added, upstream):
    del added
    upstream.script(faults.status(403), kind="tags")

    admin.made(base, new("cache/redis"))


def test_a_path_is_what_the_upstream_calls_it(slug, admin, base, upstream):
    upstream.put_image("library/redis", "7")
    body = {"name": "hub", "preset": "docker-hub", "url": upstream.origin, "is_anonymous": True}
    admin.made(f"/organisations/{slug}/upstreams", body)

    made = [
        admin.made(base, new(f"cache/r{number}", "hub", path))
        for number, path in enumerate(("redis", "docker.io/library/redis", "library/redis"))
    ]

    assert {each["upstream"]["path"] for each in made} == {"library/redis"}


def test_a_full_reference_is_enough(slug, admin, base, upstream):
    upstream.put_image("team/app", "1")
    reference = f"{upstream.origin}/team/app"

    first = admin.made(base, {"path": "cache/one", "upstream": {"url": reference}})
    second = admin.made(base, {"path": "cache/two", "upstream": {"url": reference}})

    (made,) = admin.items(f"/organisations/{slug}/upstreams")
    assert made["url"] == upstream.origin
    assert first["upstream"]["id"] == second["upstream"]["id"] == made["id"]
    assert first["upstream"]["path"] == "team/app"


def test_a_reference_to_docker_hub_finds_the_upstream_of_that_preset(slug, admin, base, upstream):
    upstream.put_image("library/redis", "7")
    body = {"name": "hub", "preset": "docker-hub", "url": upstream.origin, "is_anonymous": True}
    admin.made(f"/organisations/{slug}/upstreams", body)

    made = [
        admin.made(base, {"path": f"cache/r{number}", "upstream": {"url": url}})["upstream"]
        for number, url in enumerate(("docker.io/library/redis", "docker.io/redis", "redis"))
    ]

    assert {(each["name"], each["path"]) for each in made} == {("hub", "library/redis")}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("docker.io", "namespace mirror"),
        ("https://registry.example.com/", "namespace mirror"),
        ("docker.io/library/redis", "100 pulls"),
        ("registry.example.com/team/app:7", "leave the tag"),
        ("registry.example.com/Team/app", "lower-case"),
    ],
)
def test_a_reference_that_will_not_do_says_why(slug, admin, base, url, said):
    answer = admin.post(base, {"path": "cache/redis", "upstream": {"url": url}})

    assert said in refused(answer, 422)
    assert admin.items(f"/organisations/{slug}/upstreams") == []


def test_members_use_what_an_upstream_opens_to_them(people, slug, admin, base, upstream):
    upstream.put_image("library/redis", "7")
    upstream.put_image("secret/app", "1")
    body = {"name": "open", "url": upstream.origin, "member_patterns": ["library/*"]}
    admin.made(f"/organisations/{slug}/upstreams", body)
    admin.made(f"/organisations/{slug}/upstreams", {"name": "shut", "url": upstream.origin})
    member, reader = people.member(slug, "member"), people.member(slug, "reader")

    member.made(base, new("cache/redis", "open"))
    secret = member.post(base, new("cache/app", "open", "secret/app"))
    shut = member.post(base, new("cache/app", "shut"))
    absent = member.post(base, new("cache/app", "none"))
    set_too = member.post(base, new("cache/other", "open", freshness=1))

    assert "library/*" in refused(secret, 403)
    assert refused(shut, 422, "upstream.name").replace("shut", "none") == refused(absent, 422)
    refused(set_too, 403)
    refused(reader.post(base, new("cache/app", "open")), 403)


def test_a_push_is_refused_with_the_reason_until_it_is_accepted(slug, admin, base, added, protocol):
    del added
    made = admin.made(base, new("cache/redis"))
    client, name = protocol(admin), f"{slug}/cache/redis"

    upload = client.request("POST", f"/v2/{name}/blobs/uploads/")
    manifest = client.request("PUT", f"/v2/{name}/manifests/1", content=b"{}")
    admin.patch(f"/repositories/{made['id']}", {"upstream": {"accepts_push": True}})

    for answer in (upload, manifest):
        assert answer.status_code == 403, answer.text
        assert "library/redis" in answer.text
        assert f"entrepot repository set {name} --accept-push" in answer.text
    client.push_image(name, "ours")


def test_a_tag_of_the_upstream_is_pushed_over_only_where_that_is_allowed(
    slug, admin, base, added, protocol
):
    del added
    made = admin.made(base, new("cache/redis", accepts_push=True))
    client, name = protocol(admin), f"{slug}/cache/redis"
    theirs = client.request("GET", f"/v2/{name}/manifests/7").headers["docker-content-digest"]
    ours = client.push_image(name, "ours")
    body = client.request("GET", f"/v2/{name}/manifests/ours")
    headers = {"content-type": body.headers["content-type"]}

    refusal = client.request(
        "PUT", f"/v2/{name}/manifests/7", content=body.content, headers=headers
    )
    kept = client.request("GET", f"/v2/{name}/manifests/7").headers["docker-content-digest"]
    admin.patch(f"/repositories/{made['id']}", {"upstream": {"may_shadow": True}})
    accepted = client.request(
        "PUT", f"/v2/{name}/manifests/7", content=body.content, headers=headers
    )

    assert refusal.status_code == 403
    assert "--may-shadow" in refusal.text
    assert kept == theirs
    assert accepted.status_code == 201, accepted.text
    shadowed = client.request("GET", f"/v2/{name}/manifests/7").headers["docker-content-digest"]
    assert shadowed == accepted.headers["docker-content-digest"] != theirs
    assert ours is not None


def test_a_tag_that_the_upstream_only_lists_is_its_own_too(
    slug, admin, base, added, upstream, protocol
):
    upstream.put_image("library/redis", "8")
    admin.made(base, new("cache/redis", added, accepts_push=True))
    client, name = protocol(admin), f"{slug}/cache/redis"
    listed = client.request("GET", f"/v2/{name}/tags/list").json()["tags"]
    client.push_image(name, "ours")
    ours = client.request("GET", f"/v2/{name}/manifests/ours")
    headers = {"content-type": ours.headers["content-type"]}

    over = client.request("PUT", f"/v2/{name}/manifests/8", content=ours.content, headers=headers)
    beside = client.request("PUT", f"/v2/{name}/manifests/9", content=ours.content, headers=headers)

    assert listed == ["7", "8"]
    assert over.status_code == 403
    assert beside.status_code == 201, beside.text


def test_an_upstream_in_use_stays(slug, admin, base, added):
    made = admin.made(base, new("cache/redis", added))

    answer = admin.delete(f"/upstreams/{made['upstream']['id']}")

    assert "cache/redis" in refused(answer, 409)


def test_a_path_behind_a_login_is_read_with_the_upstreams_credential(slug, admin, base):
    closed = ScriptedUpstream(BasicLogin({"robot": "s3cret"}))
    with closed.running():
        closed.put_image("team/app", "1")
        auth = {"kind": "basic", "username": "robot", "password": "s3cret"}
        body = {"name": "closed", "url": closed.origin, "credential": auth}
        admin.made(f"/organisations/{slug}/upstreams", body)

        admin.made(base, new("cache/app", "closed", "team/app"))
