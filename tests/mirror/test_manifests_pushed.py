"""Pushing beside what is mirrored: what was pushed stays, and holds what it names."""

import asyncio

import pytest

from entrepot.model.names import Tag
from tests.mirror.turned import PATH
from tests.support.server import OCI_MANIFEST, digest_of

TYPE = {"content-type": OCI_MANIFEST}


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


@pytest.fixture
async def cache(turned, upstream, image):
    return await turned.cache(upstream, accepts_push=True)


async def pull(cache, image):
    """All of an image."""
    await cache.manifest("v1")
    await pull_blobs(cache, image.config, *image.layers)


async def pull_blobs(cache, *digests):
    """Blobs; they are kept a little later than the last byte of them is here."""
    for digest in digests:
        assert (await cache.get(f"blobs/{digest}")).status_code == 200
    await asyncio.gather(*cache.turned.app.caching.fetches._tasks)


async def test_a_push_of_what_was_mirrored_holds_its_blobs(turned, cache, image):
    await pull(cache, image)
    assert await turned.rows("SELECT COUNT(*) FROM manifest_blobs") == [(0,)]

    put = await cache.manifest("mine", "PUT", content=image.body, headers=TYPE)

    assert put.status_code == 201, put.text
    assert await turned.rows("SELECT COUNT(*) FROM manifest_blobs") == [(2,)]
    assert await turned.rows("SELECT is_pushed FROM manifests") == [(1,)]
    tags = await turned.rows("SELECT name, is_pushed FROM tags ORDER BY name")
    assert tags == [("mine", 1), ("v1", 0)]


async def test_a_pusher_skips_only_what_is_here(cache, image):
    (layer,) = image.layers
    await pull_blobs(cache, layer)

    assert (await cache.get(f"blobs/{layer}", "HEAD")).status_code == 200
    assert (await cache.get(f"blobs/{image.config}", "HEAD")).status_code == 404


async def test_a_tag_that_was_pushed_over_the_upstreams_stays(turned, cache, upstream, image):
    await pull(cache, image)
    await turned.change("UPDATE repositories SET may_shadow = 1")
    turned.turn(6)
    mine = await cache.push_tag("v1", digest_of)
    upstream.put_image(PATH, "v1")
    upstream.log.clear()
    turned.turn(61)

    answer = await cache.manifest("v1")

    assert answer.headers["docker-content-digest"] == mine
    assert upstream.log.of(kind="manifest") == []
    refreshed = await turned.app.caching.mirror.refresh(
        await turned.app._addresses.where(cache.address), tag_of("v1")
    )
    assert refreshed.digest == mine


async def test_a_push_during_a_question_wins(turned, cache, upstream, image):
    """The answer of the upstream comes behind the push, and moves nothing."""
    await pull(cache, image)
    moved = upstream.put_image(PATH, "v1")
    repository = await turned.app._addresses.where(cache.address)
    await turned.change("UPDATE tags SET is_pushed = 1")

    await turned.app.caching.mirror._checks.tag(repository, tag_of("v1"), head_first=True)

    rows = await turned.rows("SELECT digest, is_pushed FROM tags")
    assert rows == [(image.digest, 1)]
    assert moved.digest != image.digest


async def test_a_mirrored_manifest_that_was_deleted_comes_again(cache, image):
    await cache.manifest("v1")

    deleted = await cache.manifest(image.digest, "DELETE")

    assert deleted.status_code == 202, deleted.text
    assert (await cache.manifest(image.digest)).content == image.body
    assert (await cache.manifest("v1")).content == image.body


async def test_bytes_are_counted_once(turned, cache, image):
    await pull(cache, image)
    before = await turned.rows("SELECT SUM(bytes) FROM byte_deltas")

    await cache.manifest("mine", "PUT", content=image.body, headers=TYPE)
    turned.turn(61)
    await cache.manifest("v1")

    assert await turned.rows("SELECT SUM(bytes) FROM byte_deltas") == before


def tag_of(text):
    return Tag.parse(text)
