"""The played Docker Hub does what Docker's documentation says."""

import pytest

from tests.support.upstreams.docker_hub import DockerHub


@pytest.fixture
def hub():
    server = DockerHub()
    with server.running():
        server.put_image("library/redis", "latest", layers=[5_000])
        yield server


def token_of(hub, http, name, auth=None):
    asked = {"service": "registry.docker.io", "scope": f"repository:{name}:pull"}
    return http.get(hub.auth.url, params=asked, auth=auth).raise_for_status().json()["token"]


def get(hub, http, path, token, method="GET"):
    headers = {"authorization": f"Bearer {token}"}
    return http.request(method, f"{hub.origin}/v2/{path}", headers=headers)


def test_a_get_of_a_manifest_counts_and_a_head_does_not(hub, http):
    token = token_of(hub, http, "library/redis")

    get(hub, http, "library/redis/manifests/latest", token, "HEAD")
    answer = get(hub, http, "library/redis/manifests/latest", token)

    assert answer.headers["ratelimit-limit"] == "100;w=21600"
    assert answer.headers["ratelimit-remaining"] == "99;w=21600"


def test_past_the_limit_a_get_is_429_with_a_text(hub, http):
    hub.limits[""] = 0
    token = token_of(hub, http, "library/redis")

    refused = get(hub, http, "library/redis/manifests/latest", token)
    head = get(hub, http, "library/redis/manifests/latest", token, "HEAD")

    assert (refused.status_code, head.status_code) == (429, 200)
    assert refused.text.startswith("You have reached your pull rate limit.")


def test_an_account_has_a_limit_of_its_own(hub, http):
    hub.add_person("jo", "dckr_pat_1")
    token = token_of(hub, http, "library/redis", ("jo", "dckr_pat_1"))

    answer = get(hub, http, "library/redis/manifests/latest", token)

    assert answer.headers["ratelimit-remaining"] == "199;w=21600"


def test_a_wrong_password_is_refused_by_the_realm(hub, http):
    hub.add_person("jo", "dckr_pat_1")

    asked = {"service": "registry.docker.io", "scope": "repository:library/redis:pull"}

    assert http.get(hub.auth.url, params=asked, auth=("jo", "no")).status_code == 401


@pytest.mark.parametrize("name", ["redis", "library/missing", "jo/private"])
def test_what_may_not_be_read_looks_like_what_is_not_there(hub, http, name):
    hub.put_image("jo/private", "latest")
    hub.private["jo/private"] = "jo"
    token = token_of(hub, http, name)

    refused = get(hub, http, f"{name}/manifests/latest", token)

    assert refused.status_code == 401
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


def test_a_token_of_another_service_is_not_given(hub, http):
    asked = {"service": "registry.test", "scope": "repository:library/redis:pull"}

    assert http.get(hub.auth.url, params=asked).status_code == 400


def test_a_token_lives_for_five_minutes(hub, http):
    token = token_of(hub, http, "library/redis")
    now = hub.realm.now()
    hub.realm.now = lambda: now + 301

    assert get(hub, http, "library/redis/manifests/latest", token).status_code == 401


def test_a_blob_comes_from_another_host_that_refuses_the_token(hub, http):
    token = token_of(hub, http, "library/redis")
    layer = next(iter(hub.repositories["library/redis"].blobs))

    moved = get(hub, http, f"library/redis/blobs/{layer}", token)
    place = moved.headers["location"]

    assert moved.status_code == 307
    assert place.startswith(hub.cdn.origin)
    assert http.get(place).status_code == 200
    assert http.get(place, headers={"authorization": f"Bearer {token}"}).status_code == 400
