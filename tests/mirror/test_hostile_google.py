"""Google's registry as its documentation has it: key files that work, end, and are replaced."""

import json

import pytest

from tests.support.eventually import eventually
from tests.support.server import digest_of
from tests.support.upstreams.google import ArtifactRegistry

NAME = "project/images/app"


@pytest.fixture
def google():
    server = ArtifactRegistry()
    with server.running():
        server.put_image(NAME, "1", layers=[20_000])
        server.put_image(NAME, "2")
        yield server


@pytest.fixture
def key(google):
    return google.add_account("reader@played", NAME)


@pytest.fixture
def cache(stand, google, key):
    return stand.cache(google, NAME, freshness=0, preset="gar", credential=credential(key))


def credential(key):
    return {"kind": "google", "key_json": key}


def test_a_key_file_pulls_and_lists_and_is_shown_by_its_account_alone(stand, cache, google, key):
    manifest = cache.manifest("1")
    layer = json.loads(manifest.body)["layers"][0]["digest"]

    blob, tags = cache.blob(layer), cache.get("tags/list")

    assert digest_of(blob.body) == layer
    assert json.loads(tags.body)["tags"] == ["1", "2"]
    assert google.log.count(kind="download") == 1
    shown = stand.state_of(cache.upstream)
    assert shown["credential_name"] == "reader@played"
    assert json.loads(key)["private_key_id"] not in json.dumps(shown)


def test_a_key_that_was_deleted_is_told_and_a_new_one_goes_on(stand, cache, google):
    assert cache.manifest("1").status == 200
    google.delete_keys()
    google.realm.revoke_all()

    cold, warm = cache.manifest("2"), cache.manifest("1")

    assert cold.status == 502
    assert "entrepot upstream rotate" in cold.error
    assert (warm.status, "warning" in warm.headers) == (200, True)

    new = google.add_account("reader@played", NAME)
    found = stand.admin.get(f"/upstreams/{cache.upstream['id']}")
    rotated = stand.admin.patch(
        f"/upstreams/{cache.upstream['id']}",
        {"credential": credential(new)},
        headers={"if-match": found.headers["etag"]},
    )
    assert rotated.status_code == 200, rotated.text
    # A refusal is remembered for 5 seconds, and so is the credential by every worker.
    eventually(lambda: cache.manifest("2").status == 200, within=20)


def test_an_account_without_the_permission_cannot_be_cached(stand, google):
    saved = stand.add_upstream(
        google, preset="gar", credential=credential(google.add_account("other@played"))
    )
    body = {"path": "denied/app", "upstream": {"name": saved["name"], "path": NAME}}

    refused = stand.admin.post("/organisations/main/repositories", body)

    assert refused.status_code == 422, refused.text


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"type":"service_account"}', "[1]"])
def test_what_is_no_key_file_is_refused(stand, google, text):
    body = {
        "name": "wrong-key",
        "preset": "gar",
        "url": google.origin,
        "credential": credential(text),
    }

    refused = stand.admin.post("/organisations/main/upstreams", body)

    assert refused.status_code == 422, refused.text
    assert google.log.count(kind="token") == 0
