"""Quotas of organisations that pull through."""

import pytest

from entrepot.services.access import OPERATOR
from tests.mirror.turned import PATH, Cached


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


async def test_a_pull_never_fails_because_of_a_quota_and_counts_for_it(turned, upstream, image):
    await turned.mirror(upstream, "hub")
    limits = {"bytes": 1, "repositories": 0, "tags": 0}
    await turned.management.organisations.update(OPERATOR, "main", {"quota": limits}, version=None)
    app = Cached(turned, f"hub/{PATH}")

    assert (await app.manifest("v1")).content == image.body
    for digest in (image.config, *image.layers):
        assert (await app.get(f"blobs/{digest}")).status_code == 200

    found = await turned.management.usage.of_organisation(OPERATOR, "main", None)
    assert found.held.bytes >= len(image.body)  # blobs are kept behind their answers
    assert found.held.tags == 0
    refused = await turned.client.post("/v2/other/blobs/uploads/")
    assert refused.status_code == 403
