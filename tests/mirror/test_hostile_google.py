"""Google's registry as its documentation has it: key files that work, end, and are replaced."""

import json

import pytest

from entrepot.model.upstreams import GoogleAuth
from entrepot.services.access import OPERATOR
from entrepot.services.upstream_forms import UpstreamChanges
from tests.mirror.turned import warning_of
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


async def test_a_key_that_was_deleted_is_told_and_a_new_one_goes_on(processes, turned, google, key):
    saved = await turned.upstream(google, preset="gar", auth=GoogleAuth(key))
    cache = await turned.cache(google, NAME, saved=saved)
    there = cache.on(await processes())
    assert (await cache.manifest("1")).status_code == 200
    turned.turn(61)
    google.delete_keys()
    google.realm.revoke_all()

    cold, warm = await there.manifest("2"), await cache.manifest("1")

    assert cold.status_code == 502
    assert "entrepot upstream rotate" in cold.text
    assert (warm.status_code, bool(warning_of(warm))) == (200, True)

    new = GoogleAuth(google.add_account("reader@played", NAME))
    await turned.app.caching.upstreams.update(
        OPERATOR, saved.id, UpstreamChanges(auth=new), version=saved.version
    )
    turned.turn(6)  # a refusal is remembered for 5 seconds, and so is the credential elsewhere
    for side in (cache, there):
        assert (await side.manifest("2")).status_code == 200


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
