"""An upstream that is this registry itself: what is hosted comes, what is mirrored does not."""

import secrets

import pytest

from tests.mirror.stand import Cache
from tests.support.server import OCI_MANIFEST


@pytest.fixture
def itself(stand):
    """This registry as an upstream of its own."""
    token = stand.registry.server.token
    credential = {"kind": "basic", "username": "x-token", "password": token}
    return stand.add_upstream(stand.registry.server.url, credential=credential)


@pytest.fixture
def image(stand):
    """A pushed manifest: its repository and body."""
    name = f"team/{secrets.token_hex(5)}"
    config = stand.pusher.push_blob(name, name.encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/x", "digest": config, "size": len(name)},
        "layers": [],
    }
    stand.pusher.push_manifest(name, "v1", manifest)
    return name, stand.pusher.request("GET", f"/v2/{name}/manifests/v1").content


def test_what_is_hosted_here_can_be_mirrored_here(stand, itself, image):
    name, body = image

    assert stand.cache_of(itself, name).manifest("v1").body == body


def test_a_mirror_of_itself_says_that_its_upstream_leads_back(stand, itself):
    prefix = f"loop/{secrets.token_hex(4)}"
    mirror = {"prefix": prefix, "upstream": itself["name"], "upstream_prefix": prefix}
    stand.admin.made("/organisations/main/mirrors", mirror)
    app = Cache(stand, f"{prefix}/app", itself, stand.registry.server.token)

    for path in ("manifests/v1", "tags/list"):
        refused = app.get(path)
        assert refused.status == 502
        assert f"the upstream {itself['name']} leads back to this registry" in refused.error
    assert stand.state_of(itself)["state"]["paused_until"] is None


def test_a_request_of_its_own_is_not_mirrored_on(stand, itself, image):
    cache = stand.cache_of(itself, image[0])
    node = (stand.data / "node.id").read_text()

    refused = cache.manifest("v1", via=f"1.1 elsewhere, 1.1 entrepot-{node} (cache)")

    assert refused.status == 508
    assert "UNAVAILABLE" in refused.error
    assert cache.manifest("v1", via="1.1 entrepot-0").status == 200


def test_a_pull_through_repository_of_itself_cannot_be_made(stand, itself, image):
    cache = stand.cache_of(itself, image[0])
    upstream = {"name": itself["name"], "path": cache.name}

    refused = stand.admin.post(
        "/organisations/main/repositories", {"path": "again", "upstream": upstream}
    )

    assert refused.status_code == 502
    assert "leads back to this registry" in refused.text
