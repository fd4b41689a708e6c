"""Namespace mirrors: what is below a prefix comes from an upstream, also when `?ns=` asks."""

import pytest

from tests.api.test_pull_through import refused
from tests.support.server import basic
from tests.support.upstreams import ScriptedUpstream
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
    return f"/organisations/{slug}/mirrors"


@pytest.fixture
def hub(slug, admin, upstream):
    """An upstream that stands for Docker Hub, with the images library/redis:7 and team/app:1."""
    upstream.put_image("library/redis", "7")
    upstream.put_image("team/app", "1")
    body = {
        "name": "hub",
        "preset": "docker-hub",
        "url": upstream.origin,
        "is_anonymous": True,
    }
    admin.made(f"/organisations/{slug}/upstreams", body)
    return upstream


@pytest.fixture
def other(slug, admin):
    """Another upstream, with another image library/redis:7."""
    server = ScriptedUpstream()
    with server.running():
        server.put_image("library/redis", "7")
        admin.made(f"/organisations/{slug}/upstreams", {"name": "other", "url": server.origin})
        yield server


@pytest.fixture
def pull(registry, slug, admin):
    """Pull a manifest of the organisation, by its sub-domain."""

    def get(name, reference="7", caller=admin, method="GET", **params):
        host = f"{slug}.{registry.public_host}"
        return caller.http.request(
            method,
            f"{registry.url}/v2/{name}/manifests/{reference}",
            params=params,
            headers={"host": host} | basic(caller.token),
        )

    return get


def digest_at(server, name, tag):
    return server.repositories[name].tags[tag]


def repositories(caller, slug):
    found = caller.items(f"/organisations/{slug}/repositories")
    return {each["path"]: each["upstream"] and each["upstream"]["path"] for each in found}


def test_repositories_appear_as_they_are_pulled(people, slug, admin, base, hub, pull):
    mirror = admin.made(base, {"prefix": "hub", "upstream": "hub", "freshness": 5})

    missing = pull("hub/none")
    before = repositories(admin, slug)
    found = pull("hub/redis")
    again = pull("hub/redis")

    assert missing.status_code == 404, missing.text
    assert before == {}
    assert found.status_code == again.status_code == 200, found.text
    assert found.headers["docker-content-digest"] == digest_at(hub, "library/redis", "7")
    assert repositories(admin, slug) == {"hub/redis": "library/redis"}
    (made,) = admin.items(f"/organisations/{slug}/repositories")
    assert made["upstream"]["freshness"] == mirror["freshness"] == 5
    (event,) = people.audit(slug, action="repository.created")
    assert event["details"]["by"] == "pull"
    assert hub.log.count(kind="manifest", method="GET", name="library/redis") == 1


def test_readers_and_pull_tokens_pull_through_a_mirror(people, slug, admin, base, hub, pull):
    del hub
    admin.made(base, {"prefix": "hub", "upstream": "hub"})
    reader = people.member(slug, "reader")
    body = {"kind": "pull", "patterns": ["hub/team/*"], "expires_in": 3_600}
    token = admin.made(f"/organisations/{slug}/tokens", body)["token"]
    narrow, stranger = people.caller(token), people.user()

    assert pull("hub/redis", caller=reader).status_code == 200
    assert pull("hub/team/app", "1", caller=narrow).status_code == 200
    assert pull("hub/redis", caller=narrow).status_code == 404
    assert pull("hub/redis", caller=stranger).status_code == 404


def test_patterns_say_what_a_mirror_lets_through(admin, base, hub, pull):
    del hub
    body = {"prefix": "hub", "upstream": "hub", "allow": ["library/**"]}
    mirror = admin.made(base, body)
    url = f"/mirrors/{mirror['id']}"

    assert pull("hub/redis").status_code == 200
    assert pull("hub/team/app", "1").status_code == 404
    changed = admin.patch(url, {"allow": [], "deny": ["library/*"]})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["allow"], changed.json()["deny"]) == ([], ["library/*"])
    assert pull("hub/team/app", "1").status_code == 200
    assert pull("hub/library/redis").status_code == 404
    assert pull("hub/redis").status_code == 200  # it is a repository now


def test_the_longest_prefix_leads(admin, base, hub, other, pull):
    admin.made(base, {"prefix": "a", "upstream": "hub"})
    admin.made(base, {"prefix": "a/b", "upstream": "other", "upstream_prefix": "library"})

    by_long, by_short = pull("a/b/redis"), pull("a/library/redis")

    theirs = digest_at(other, "library/redis", "7")
    assert by_long.headers["docker-content-digest"] == theirs
    ours = digest_at(hub, "library/redis", "7")
    assert by_short.headers["docker-content-digest"] == ours


def test_all_names_of_an_organisation_can_be_a_mirror(slug, admin, base, hub, pull, protocol):
    mirror = admin.made(base, {"prefix": "/", "upstream": "hub"})
    admin.made(f"/organisations/{slug}/repositories", {"path": "team/own"})
    protocol(admin).push_image(f"{slug}/team/own", "v1")

    assert mirror["prefix"] == "/"
    assert pull("library/redis").status_code == 200
    assert pull("team/own", "v1").status_code == 200
    assert hub.log.count(name="team/own") == 0


def test_nothing_is_pushed_below_a_mirror_but_to_what_was_made_for_it(
    slug, admin, base, hub, protocol
):
    del hub
    admin.made(base, {"prefix": "hub", "upstream": "hub"})
    client = protocol(admin)

    refusal = client.request("POST", f"/v2/{slug}/hub/mine/blobs/uploads/")
    admin.made(f"/organisations/{slug}/repositories", {"path": "hub/mine"})
    client.push_image(f"{slug}/hub/mine", "v1")

    assert refusal.status_code == 403, refusal.text
    assert f"entrepot repository create {slug}/hub/mine" in refusal.text


def test_ns_is_a_key_to_the_mirror_of_that_registry(admin, base, hub, other, pull):
    admin.made(base, {"prefix": "hub", "upstream": "hub"})
    admin.made(base, {"prefix": "corp", "upstream": "other"})
    ours, theirs = (digest_at(server, "library/redis", "7") for server in (hub, other))
    wanted = [("docker.io", ours), ("DOCKER.IO", ours), (other.address, theirs)]

    for ns, digest in wanted:
        answer = pull("library/redis", ns=ns)
        assert answer.status_code == 200, answer.text
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["oci-namespace"] == ns.lower()
    # With the prefix in the path too, as by containerd's override_path.
    assert pull("hub/library/redis", ns="docker.io").headers["docker-content-digest"] == ours


@pytest.mark.parametrize("ns", ["quay.io", "127.0.0.1:1", "no host/at all", "a" * 400])
def test_another_registrys_name_gets_nothing_of_a_mirror_of_all_names(admin, base, hub, pull, ns):
    admin.made(base, {"prefix": "/", "upstream": "hub"})
    assert pull("library/redis", ns="docker.io").status_code == 200
    hub.log.clear()

    known, unknown = pull("library/redis", ns=ns), pull("team/app", "1", ns=ns)

    assert known.status_code == unknown.status_code == 404
    assert hub.log.entries == []


def test_an_unknown_ns_is_ignored_where_the_path_leads_somewhere(
    slug, admin, base, hub, pull, protocol
):
    del hub
    admin.made(base, {"prefix": "hub", "upstream": "hub"})
    protocol(admin).push_image(f"{slug}/team/own", "v1")

    assert pull("team/own", "v1", ns="quay.io").status_code == 200
    assert pull("hub/redis", ns="quay.io").status_code == 200


def test_a_token_is_asked_for_in_the_same_registrys_name(registry, slug, admin, base, hub):
    admin.made(base, {"prefix": "hub", "upstream": "hub"})
    body = {"kind": "pull", "patterns": ["hub/**"], "expires_in": 3_600}
    token = admin.made(f"/organisations/{slug}/tokens", body)["token"]
    host = {"host": f"{slug}.{registry.public_host}"}
    url = f"{registry.url}/v2/library/redis/manifests/7?ns=docker.io"

    challenge = admin.http.get(url, headers=host).headers["www-authenticate"]
    issued = admin.http.get(
        f"{registry.url}/v2/token",
        params={"ns": "docker.io", "scope": "repository:library/redis:pull"},
        headers=host | basic(token),
    ).json()["token"]
    answer = admin.http.get(url, headers=host | {"authorization": f"Bearer {issued}"})

    assert "/v2/token?ns=docker.io" in challenge
    assert "hub" not in challenge.replace("docker", "")
    assert answer.status_code == 200, answer.text
    assert answer.headers["docker-content-digest"] == digest_at(hub, "library/redis", "7")


def test_a_mirror_is_listed_changed_and_ended(people, slug, admin, base, hub, pull):
    del hub
    mirror = admin.made(base, {"prefix": "hub/", "upstream": "hub", "deny": ["x/*"]})
    url = f"/mirrors/{mirror['id']}"
    assert mirror == {
        "id": mirror["id"],
        "organisation": slug,
        "prefix": "hub",
        "upstream": {"id": mirror["upstream"]["id"], "name": "hub"},
        "upstream_prefix": "",
        "allow": [],
        "deny": ["x/*"],
        "freshness": 60,
        "is_public": False,
        "created_at": mirror["created_at"],
    }
    assert people.member(slug, "reader").items(base) == [mirror]
    assert pull("hub/redis").status_code == 200
    etag = admin.get(url).headers["etag"]

    changed = admin.patch(url, {"freshness": 5}, headers={"if-match": etag})
    stale = admin.patch(url, {"freshness": 6}, headers={"if-match": etag})
    used = admin.delete(f"/upstreams/{mirror['upstream']['id']}")
    ended = admin.delete(url)

    assert changed.json()["freshness"] == 5
    assert stale.status_code == 412
    assert "mirror hub" in refused(used, 409)
    assert ended.status_code == 204
    assert admin.items(base) == []
    assert pull("hub/redis").status_code == 200
    assert pull("hub/team/app", "1").status_code == 404
    actions = [event["action"] for event in people.audit(slug)]
    assert [action for action in actions if action.startswith("mirror.")] == [
        "mirror.deleted",
        "mirror.changed",
        "mirror.created",
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prefix": "Hub", "upstream": "hub"}, "prefix"),
        ({"prefix": "a" * 200, "upstream": "hub"}, "prefix"),
        ({"prefix": "hub", "upstream": "none"}, "upstream"),
        ({"prefix": "hub", "upstream": "hub", "upstream_prefix": "//x//y"}, "upstream_prefix"),
        ({"prefix": "hub", "upstream": "hub", "allow": ["UPPER"]}, "allow"),
        ({"prefix": "hub", "upstream": "hub", "allow": ["library/"]}, "allow"),
        ({"prefix": "hub", "upstream": "hub", "deny": ["/library/*"]}, "deny"),
    ],
)
def test_a_mirror_that_will_not_do_is_refused(admin, base, hub, body, field):
    del hub
    answer = admin.post(base, body)

    refused(answer, 422, field)
    assert admin.items(base) == []


def test_one_prefix_has_one_mirror(admin, base, hub, other):
    del hub, other
    admin.made(base, {"prefix": "/", "upstream": "hub"})

    answer = admin.post(base, {"prefix": "", "upstream": "other"})

    message = refused(answer, 409, "prefix")
    assert "mirrors hub already" in message
    assert "entrepot mirror set /" in message


def test_a_prefix_of_the_default_organisation_hides_behind_no_other(people, registry, upstream):
    admin, name = people.admin, f"up-{people.organisation()}"
    admin.made("/organisations/main/upstreams", {"name": name, "url": upstream.origin})
    taken, free = people.organisation(), f"free{people.organisation()[4:]}"
    base = "/organisations/main/mirrors"

    hidden = admin.post(base, {"prefix": f"{taken}/hub", "upstream": name})
    admin.made(base, {"prefix": f"{free}/hub", "upstream": name})
    hiding = admin.post("/organisations", {"slug": free})

    assert taken in refused(hidden, 409, "prefix")
    refused(hiding, 409, "slug")


def test_the_public_gitlab_is_not_somebodys_own(slug, admin, base, other, pull):
    """Nor does `gitlab` at another address stand for it in full references."""
    body = {"name": "gitlab", "url": other.origin}
    own = admin.made(f"/organisations/{slug}/upstreams", body)
    admin.made(base, {"prefix": "gitlab", "upstream": "gitlab"})

    assert own["preset"] == "gitlab"
    assert pull("library/redis", ns="registry.gitlab.com").status_code == 404
    assert pull("library/redis", ns=other.address).status_code == 200
    made = admin.post(
        f"/organisations/{slug}/repositories",
        {"path": "tool", "upstream": {"url": "registry.gitlab.com/library/redis"}},
    )
    assert made.status_code != 201, made.text
