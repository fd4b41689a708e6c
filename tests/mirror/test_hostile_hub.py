"""Docker Hub as its documentation has it, through a repository and a namespace mirror."""

import json

import pytest

from entrepot.model.upstreams import BasicAuth
from entrepot.services.access import OPERATOR
from tests.mirror.stand import Cache
from tests.support.server import digest_of
from tests.support.upstreams.docker_hub import DockerHub

CREDENTIAL = {"kind": "basic", "username": "jo", "password": "dckr_pat_jo"}


@pytest.fixture
def hub():
    server = DockerHub()
    server.add_person("jo", "dckr_pat_jo")
    with server.running():
        yield server


@pytest.fixture
def image(hub):
    return hub.put_image("library/redis", "latest", layers=[50_000])


@pytest.fixture
def cache(stand, hub, image):
    """Named as `docker pull redis` names it."""
    made = stand.cache(hub, "redis", freshness=0, preset="docker-hub", credential=CREDENTIAL)
    hub.log.clear()
    return made


@pytest.fixture
def mirrored(stand, hub, image):
    """Makes a mirror of all of it at a prefix of a new organisation."""

    def make(**patterns):
        organisation = stand.organisation()
        saved = stand.add_upstream(hub, organisation, preset="docker-hub", credential=CREDENTIAL)
        body = {"prefix": "hub", "upstream": saved["name"], "freshness": 0, **patterns}
        stand.admin.made(f"/organisations/{organisation}/mirrors", body)
        hub.log.clear()

        def at(path):
            name = f"{organisation}/hub/{path}"
            return Cache(stand, name, saved, stand.registry.server.token)

        return at

    return make


def test_docker_hub_without_a_credential_has_to_be_meant(stand, hub):
    body = {"name": "hub-open", "preset": "docker-hub", "url": hub.origin}

    refused = stand.admin.post("/organisations/main/upstreams", body)
    meant = stand.admin.post("/organisations/main/upstreams", body | {"is_anonymous": True})

    assert refused.status_code == 422
    assert "100 pulls" in refused.text
    assert meant.status_code == 201, meant.text
    assert meant.json()["realm"] == hub.auth.url


def test_an_official_image_comes_whole_and_its_blobs_from_elsewhere(cache, hub, image):
    assert cache.manifest("latest").body == image.body
    for digest in (image.config, *image.layers):
        assert digest_of(cache.blob(digest).body) == digest

    assert {entry.name for entry in hub.log.entries if entry.name} == {"library/redis"}
    assert hub.cdn.log.count(status=200) == 2
    assert hub.cdn.log.count(status=400) == 0


async def test_a_check_costs_no_pull_and_the_limit_is_shown(turned, hub, image):
    auth = BasicAuth("jo", "dckr_pat_jo")
    saved = await turned.upstream(hub, preset="docker-hub", auth=auth)
    cache = await turned.cache(hub, "redis", saved=saved)
    for _ in range(5):
        assert (await cache.manifest("latest")).content == image.body
        turned.turn(61)

    assert hub.log.count(kind="manifest", method="HEAD") == 4
    assert hub.remaining("jo") == 199
    await turned.app.caching.remotes.flush()
    state = (await turned.app.caching.upstreams.get(OPERATOR, saved.id)).state
    limit = (state.limit, state.limit_remaining, state.limit_window_seconds)
    assert limit == (200, 199, 21600)


def test_past_the_limit_what_is_cached_goes_on_and_the_rest_is_429(cache, hub, image):
    assert cache.manifest("latest").body == image.body
    hub.put_image("library/redis", "new")
    moved = hub.put_image("library/redis", "latest")
    hub.limits["jo"] = 0

    warm, cold = cache.manifest("latest"), cache.manifest("new")

    assert (warm.status, warm.body) == (200, image.body)
    assert "warning" in warm.headers
    assert cold.status == 429
    assert moved.digest not in cold.error


def test_a_token_that_has_expired_is_renewed(cache, hub, image):
    assert cache.manifest("latest").status == 200
    now = hub.realm.now()
    hub.realm.now = lambda: now + 301
    tokens = len(hub.auth.log.entries)

    assert cache.manifest("latest").status == 200

    assert len(hub.auth.log.entries) == tokens + 1


@pytest.mark.parametrize("name", ["library/missing", "sam/private"])
def test_what_is_not_there_and_what_is_private_look_alike(stand, hub, name):
    hub.add_person("sam", "x")
    hub.put_image("sam/private", "latest")
    hub.private["sam/private"] = "sam"
    saved = stand.add_upstream(hub, preset="docker-hub", credential=CREDENTIAL)
    body = {"path": f"probe/{name}", "upstream": {"name": saved["name"], "path": name}}

    refused = stand.admin.post("/organisations/main/repositories", body)

    assert refused.status_code == 422, refused.text
    assert json.loads(refused.text)


# A namespace mirror.


def test_a_mirror_makes_a_repository_when_something_is_pulled(mirrored, image):
    at = mirrored()

    for path in ("library/redis", "redis"):
        assert at(path).manifest("latest").body == image.body
        assert digest_of(at(path).blob(image.layers[0]).body) == image.layers[0]


def test_names_that_do_not_exist_leave_nothing(stand, mirrored):
    at = mirrored()
    before = stand.registry.rows("SELECT COUNT(*) FROM repositories")

    for number in range(10):
        assert at(f"library/none-{number}").manifest("latest").status in {403, 404}

    assert stand.registry.rows("SELECT COUNT(*) FROM repositories") == before


def test_what_is_denied_is_not_pulled_by_any_other_name(hub, mirrored, image):
    hub.put_image("secret/app", "1")
    at = mirrored(deny=["secret/**"])
    layer = hub.repository("secret/app").referrers  # the content is there
    assert layer is not None
    paths = ["secret/app", "library/../secret/app", "library//secret/app", "./secret/app"]
    paths += ["Secret/app", "secret%2Fapp", "library/%2e%2e/secret/app", "docker.io/secret/app"]

    answers = [at(path).manifest("1").status for path in paths]

    assert set(answers) <= {400, 403, 404}
    assert hub.log.count(kind="manifest", name="secret/app") == 0


def test_a_blob_of_what_is_denied_is_not_had_through_what_is_allowed(hub, mirrored, image):
    secret = hub.put_image("secret/app", "1")
    at = mirrored(allow=["library/**"])
    assert at("library/redis").manifest("latest").status == 200

    assert at("library/redis").blob(secret.layers[0]).status == 404
    assert at("library/redis").manifest(secret.digest).status == 404


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_nobody_pushes_to_what_an_upstream_fills(cache, hub, method):
    path = {"POST": "blobs/uploads/"}.get(method, "manifests/latest")

    answer = cache.get(path, method)

    assert answer.status in {403, 405}
    assert all(entry.method in {"GET", "HEAD"} for entry in hub.log.entries)
