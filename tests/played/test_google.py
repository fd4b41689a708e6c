"""The played Artifact Registry does what Google's documentation says."""

import base64

import pytest

from tests.support.upstreams.google import ArtifactRegistry

NAME = "project/images/app"


@pytest.fixture
def registry():
    server = ArtifactRegistry()
    with server.running():
        server.put_image(NAME, "1")
        yield server


def ask(registry, http, user, password):
    asked = {"service": registry.address, "scope": f"repository:{NAME}:pull"}
    return http.get(f"{registry.origin}/v2/token", params=asked, auth=(user, password))


def pull(registry, http, answer, path="manifests/1"):
    token = answer.raise_for_status().json()["token"]
    bearer = {"authorization": f"Bearer {token}"}
    return http.get(f"{registry.origin}/v2/{NAME}/{path}", headers=bearer)


def test_a_key_file_opens_what_its_account_may_read(registry, http):
    key = registry.add_account("reader@played", NAME)

    packed = base64.b64encode(key.encode()).decode()

    for pair in (("_json_key", key), ("_json_key_base64", packed)):
        assert pull(registry, http, ask(registry, http, *pair)).status_code == 200


def test_a_deleted_key_is_refused_by_the_realm(registry, http):
    key = registry.add_account("reader@played", NAME)
    registry.delete_keys()

    assert ask(registry, http, "_json_key", key).status_code == 401


@pytest.mark.parametrize("password", ["", "{}", "no json"])
def test_what_is_no_key_file_is_refused(registry, http, password):
    assert ask(registry, http, "_json_key", password).status_code == 401


def test_an_access_token_works_for_an_hour(registry, http):
    registry.add_account("reader@played", NAME)
    token = registry.make_access_token("reader@played")
    assert ask(registry, http, "oauth2accesstoken", token).status_code == 200

    now = registry.realm.now()
    registry.realm.now = lambda: now + 3601

    assert ask(registry, http, "oauth2accesstoken", token).status_code == 401


def test_an_account_without_the_permission_is_told_its_name(registry, http):
    key = registry.add_account("other@played")

    refused = pull(registry, http, ask(registry, http, "_json_key", key))

    assert refused.status_code == 403
    assert "artifactregistry.repositories.downloadArtifacts" in refused.text


def test_a_blob_comes_from_another_path_of_the_host(registry, http):
    key = registry.add_account("reader@played", NAME)
    digest = next(iter(registry.repositories[NAME].blobs))

    moved = pull(registry, http, ask(registry, http, "_json_key", key), f"blobs/{digest}")

    assert moved.status_code == 302
    assert http.get(f"{registry.origin}{moved.headers['location']}").status_code == 200


def test_the_realm_takes_no_post(registry, http):
    assert http.post(f"{registry.origin}/v2/token").status_code == 404
