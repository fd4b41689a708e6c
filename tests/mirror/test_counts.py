"""What is counted of an upstream, by which operators see whether a mirror is of use."""

import pytest

from tests.mirror.turned import PATH, Cached


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


async def counted(turned):
    """Hits and misses until now."""
    await turned.app.caching.remotes.flush()
    ((hits, misses),) = await turned.rows("SELECT hits, misses FROM upstream_states")
    return hits, misses


async def test_each_part_of_a_cold_image_is_a_miss_and_none_of_a_warm_one(turned, upstream, image):
    await turned.mirror(upstream, "hub")
    app = Cached(turned, f"hub/{PATH}")
    parts = ["manifests/v1", *(f"blobs/{digest}" for digest in (image.config, *image.layers))]

    for part in parts:
        assert (await app.get(part)).status_code == 200
    cold = await counted(turned)
    for part in parts:
        assert (await app.get(part)).status_code == 200
    warm = await counted(turned)

    assert cold == (0, len(parts))
    assert warm[0] > 0
    assert warm[1] == len(parts)
