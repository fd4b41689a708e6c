"""Public repositories: everybody may pull, nobody may push, and the organisation has a say."""

import secrets
from contextlib import closing

import httpx
import pytest

from entrepot.model.ids import to_text
from tests.protocol.documents import artifact, code_of
from tests.support.eventually import REVOKED_WITHIN, eventually
from tests.support.server import basic, digest_of


class Public:
    """A public repository with an image and a referrer, and its administrator."""

    def __init__(self, registry, slug):
        self.registry, self.slug, self.name = registry, slug, f"{slug}/team/app"
        registry.new_organisation(slug)
        token = registry.new_token("org", slug, may_manage=True)
        self.pusher = registry.client(token)
        self.api = httpx.Client(
            base_url=f"{registry.url}/api/v1", headers=basic(token), verify=registry.server.trust
        )
        image = self.pusher.make_image(self.name)
        self.digest = self.pusher.push_manifest(self.name, "v1", image)
        self.blob = image["layers"][0]["digest"]
        subject = {"mediaType": image["mediaType"], "digest": self.digest, "size": 1}
        self.pusher.push_manifest(
            self.name, "sbom", artifact(self.pusher, self.name, subject=subject)
        )
        self.pusher.push_image(f"{slug}/hidden", "v1")
        ((row,),) = registry.rows(
            """
            SELECT r.id
              FROM repositories AS r
              JOIN organisations AS o ON o.id = r.organisation_id
             WHERE o.slug = :slug
               AND r.path = 'team/app'
            """,
            slug=slug,
        )
        self.id = to_text(row)
        self.set(is_public=True)

    def set(self, **policies):
        answer = self.api.patch(f"/repositories/{self.id}", json=policies)
        assert answer.status_code == 200, answer.text

    def reads(self):
        return [
            f"/v2/{self.name}/{path}"
            for path in (
                "manifests/v1",
                f"manifests/{self.digest}",
                f"blobs/{self.blob}",
                "tags/list",
                f"referrers/{self.digest}",
            )
        ]

    def changes(self):
        upload = self.pusher.request("POST", f"/v2/{self.name}/blobs/uploads/")
        return [
            ("POST", f"/v2/{self.name}/blobs/uploads/"),
            ("POST", f"/v2/{self.name}/blobs/uploads/?mount={self.blob}&from={self.name}"),
            ("PATCH", upload.headers["location"]),
            ("PUT", upload.headers["location"]),
            ("DELETE", upload.headers["location"]),
            ("PUT", f"/v2/{self.name}/manifests/v2"),
            ("DELETE", f"/v2/{self.name}/manifests/v1"),
            ("DELETE", f"/v2/{self.name}/manifests/{self.digest}"),
            ("DELETE", f"/v2/{self.name}/blobs/{self.blob}"),
        ]

    def close(self):
        self.pusher.close()
        self.api.close()


@pytest.fixture
def public(closed, slug):
    made = Public(closed, slug)
    yield made
    made.close()


@pytest.fixture
def stranger(closed, slug):
    """Somebody with a token for another organisation."""
    closed.new_organisation(f"{slug}-other")
    client = closed.client(closed.new_token("org", f"{slug}-other"))
    yield client
    client.close()


@pytest.fixture
def http(closed):
    with httpx.Client(base_url=closed.url, verify=closed.server.trust) as client:
        yield client


def test_everybody_pulls_without_a_token(public, http):
    answers = [http.get(path) for path in public.reads()]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[3].json()["tags"] == ["sbom", "v1"]
    assert len(answers[4].json()["manifests"]) == 1
    assert http.head(public.reads()[0]).headers["docker-content-digest"] == public.digest


def test_everybody_pulls_with_a_bearer_token_of_nobody(closed, public, http):
    bearer = closed.bearer(None, f"repository:{public.name}:pull,push")

    answers = [http.get(path, headers=bearer) for path in public.reads()]

    assert [answer.status_code for answer in answers] == [200] * 5
    for method, path in public.changes():
        assert http.request(method, path, headers=bearer, content=b"{}").status_code == 401, path


def test_a_client_that_follows_the_challenge_of_the_ping_pulls(closed, public):
    """As docker does: it pings first, and asks for a token whatever it is about to pull."""
    client = closed.client(None, "bearer")
    pinged = client.http.get("/v2/")
    assert pinged.status_code == 401

    token = client.fetch_bearer(pinged)
    answer = client.http.get(
        client_realm(pinged),
        params={"service": closed.host, "scope": f"repository:{public.name}:pull"},
    )

    assert token
    bearer = {"authorization": f"Bearer {answer.json()['token']}"}
    assert client.http.get(public.reads()[0], headers=bearer).status_code == 200
    client.close()


def client_realm(answer):
    return answer.headers["www-authenticate"].partition('realm="')[2].partition('"')[0]


def test_somebody_with_a_right_elsewhere_pulls_too(public, stranger):
    assert [stranger.request("GET", path).status_code for path in public.reads()] == [200] * 5
    for method, path in public.changes():
        assert stranger.request(method, path, content=b"{}").status_code == 403, path


def test_nobody_pushes(public, http):
    for method, path in public.changes():
        answer = http.request(method, path, content=b"{}")
        assert (answer.status_code, code_of(answer)) == (401, "UNAUTHORIZED"), path
    assert http.get(public.reads()[3]).json()["tags"] == ["sbom", "v1"]


def test_what_is_beside_a_public_repository_stays_hidden(public, http, stranger):
    for name in ("hidden", "team", "none"):
        path = f"/v2/{public.slug}/{name}/manifests/v1"
        assert http.get(path).status_code == 401
        assert stranger.request("GET", path).status_code == 404


def test_the_catalog_lists_it_to_nobody(closed, public, http, stranger):
    port = closed.public_host.partition(":")[2]
    host = f"{public.slug}.registry.localhost:{port}"
    asked = {"service": host, "scope": "registry:catalog:*"}
    token = http.get("/v2/token", params=asked, headers={"host": host}).json()["token"]
    bearer = {"host": host, "authorization": f"Bearer {token}"}

    assert http.get("/v2/_catalog", headers={"host": host}).status_code == 401
    assert http.get("/v2/_catalog", headers=bearer).json() == {"repositories": []}
    answer = stranger.request("GET", "/v2/_catalog", headers={"host": host})
    assert answer.json() == {"repositories": []}
    assert public.pusher.request("GET", "/v2/_catalog", headers={"host": host}).json() == {
        "repositories": ["hidden", "team/app"]
    }


def test_a_token_that_does_not_exist_pulls_nothing(public, http):
    wrong = basic("entrepot_org_" + "x" * 40)

    assert http.get(public.reads()[0], headers=wrong).status_code == 401


def test_a_public_blob_is_mounted_by_whoever_may_push_elsewhere(closed, public, stranger, slug):
    answer = stranger.request(
        "POST",
        f"/v2/{slug}-other/app/blobs/uploads/",
        params={"mount": public.blob, "from": public.name},
    )

    assert answer.status_code == 201


def test_it_is_closed_again_at_once_for_whoever_comes_new(closed, public, slug, http):
    """Both ways at once, since each may take as long as a server remembers."""
    with closing(Public(closed, f"{slug}-2")) as other:
        paths = [*public.reads(), *other.reads()]
        assert [http.get(path).status_code for path in paths] == [200] * 10

        public.set(is_public=False)
        changed = other.api.patch(f"/organisations/{other.slug}", json={"allows_public": False})
        assert changed.status_code == 200

        fresh = {"authorization": basic(f"{secrets.token_hex(8)}")["authorization"]}
        for place in (public, other):
            assert http.get(place.reads()[0], headers=fresh).status_code == 401
        for path in paths:
            eventually(lambda path=path: http.get(path).status_code == 401, within=REVOKED_WITHIN)


def test_an_organisation_that_allows_public_ones_again_opens_them_again(public, http):
    for is_allowed in (False, True):
        public.api.patch(f"/organisations/{public.slug}", json={"allows_public": is_allowed})

    eventually(lambda: http.get(public.reads()[0]).status_code == 200)


def test_a_narrow_token_pulls_what_is_public_all_the_same(closed, public, slug):
    narrow = closed.client(closed.new_token("org", slug, patterns=("elsewhere",)))

    assert narrow.request("GET", public.reads()[0]).status_code == 200
    assert narrow.request("GET", f"/v2/{slug}/hidden/manifests/v1").status_code == 404
    narrow.close()


def test_a_digest_is_read_by_its_own_repository_alone(public, http):
    assert http.get(f"/v2/{public.name}/blobs/{digest_of(b'none')}").status_code == 404
    assert http.get(f"/v2/{public.slug}/hidden/blobs/{public.blob}").status_code == 401
