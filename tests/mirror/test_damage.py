"""Damage in a pull-through repository: the upstream mends it, and the client sees nothing of it."""

import pytest

from tests.mirror.syncing import mirror_of
from tests.support.damage import DAMAGES, flip

PATH = "library/app"


def object_of(stand, digest):
    ((key,),) = stand.registry.rows(
        "SELECT storage_key FROM blobs WHERE digest = :digest", digest=digest
    )
    return stand.registry.server.data / "blobs" / str(key)[:2] / str(key)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_blob_is_fetched_again(stand, upstream, how):
    image = upstream.put_image(PATH, "v1", layers=[20_000])
    mirror = mirror_of(stand, upstream)
    assert mirror.cache.manifest("v1").status == 200
    layer = image.layers[0]
    content = upstream.repository(PATH).blobs[layer]
    assert mirror.cache.blob(layer).body == content
    stand.wait_for_no_spools()
    damaged = object_of(stand, layer)
    DAMAGES[how](damaged)
    upstream.log.clear()

    assert mirror.cache.blob(layer).body == content

    assert upstream.log.count(kind="blob", method="GET") == 1
    stand.wait_for_no_spools()
    assert object_of(stand, layer) != damaged
    assert mirror.cache.blob(layer).body == content
    assert upstream.log.count(kind="blob", method="GET") == 1


def test_a_damaged_blob_is_served_to_nobody_while_the_upstream_is_down(stand, upstream):
    image = upstream.put_image(PATH, "v1", layers=[20_000])
    mirror = mirror_of(stand, upstream)
    layer = image.layers[0]
    assert mirror.cache.blob(layer).status == 200
    stand.wait_for_no_spools()
    damaged = object_of(stand, layer)
    flip(damaged)
    upstream.stop()

    assert mirror.cache.blob(layer).status >= 500

    flip(damaged)  # back again, for whoever hashes all that is stored in the end


@pytest.mark.parametrize("by_tag", [True, False])
def test_a_damaged_manifest_is_fetched_again(stand, upstream, by_tag):
    image = upstream.put_image(PATH, "v1", layers=[20_000])
    mirror = mirror_of(stand, upstream)
    assert mirror.cache.manifest("v1").body == image.body
    stand.registry.change(
        "UPDATE manifests SET body = :body WHERE digest = :digest",
        body=image.body.replace(b"sha256", b"sha512", 1),
        digest=image.digest,
    )

    assert mirror.cache.manifest("v1" if by_tag else image.digest).body == image.body

    upstream.stop()
    assert mirror.cache.manifest(image.digest).body == image.body
