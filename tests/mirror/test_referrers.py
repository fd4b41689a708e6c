"""Referrers: what was pushed here, and what the upstream says by its API or by a tag."""

import json

import pytest

from tests.mirror.turned import PATH, warning_of
from tests.support.server import OCI_INDEX
from tests.support.upstreams import faults

SIGNATURE = "application/vnd.example.signature"
SBOM = "application/vnd.example.sbom"


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


@pytest.fixture
def signature(upstream, image):
    return upstream.put_referrer(PATH, image, SIGNATURE)


@pytest.fixture
def sbom(upstream, image):
    return upstream.put_referrer(PATH, image, SBOM)


@pytest.fixture
async def cache(turned, upstream, image):
    return await turned.cache(upstream)


def digests(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == OCI_INDEX
    return [manifest["digest"] for manifest in answer.json()["manifests"]]


async def test_referrers_are_the_upstreams_and_kept_for_the_freshness(
    turned, cache, upstream, image, signature, sbom
):
    both = sorted([signature.digest, sbom.digest])

    assert [digests(await cache.referrers(image.digest)) for _ in range(3)] == [both] * 3

    assert upstream.log.count(kind="referrers") == 1
    turned.turn(61)
    assert digests(await cache.referrers(image.digest)) == both
    assert upstream.log.count(kind="referrers") == 2


async def test_referrers_are_filtered_and_paged_here(cache, image, signature, sbom):
    both = sorted([signature.digest, sbom.digest])

    filtered = await cache.referrers(image.digest, artifactType=SBOM)
    first = await cache.referrers(image.digest, n=1)
    second = await cache.turned.client.get(first.headers["link"].split(">")[0].strip("<"))

    assert digests(filtered) == [sbom.digest]
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    assert digests(first) + digests(second) == both


async def test_an_upstream_without_the_api_is_asked_for_the_tag(cache, upstream, image, signature):
    upstream.manners.has_referrers_api = False
    descriptors = upstream.repository(PATH).referrers(image.digest)
    upstream.repository(PATH).put_manifest(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors},
        image.digest.replace(":", "-"),
    )

    assert digests(await cache.referrers(image.digest)) == [signature.digest]


async def test_an_upstream_with_neither_has_none(cache, upstream, image, signature):
    upstream.manners.has_referrers_api = False

    assert digests(await cache.referrers(image.digest)) == []


async def test_a_referrer_itself_comes_by_its_digest(cache, image, signature):
    (digest,) = digests(await cache.referrers(image.digest))

    assert (await cache.manifest(digest)).content == signature.body
    assert digests(await cache.referrers(image.digest)) == [digest]


async def test_older_referrers_go_out_with_a_warning(turned, cache, upstream, image, signature):
    await cache.referrers(image.digest)
    upstream.script(faults.status(503))
    turned.turn(61)

    answer = await cache.referrers(image.digest)

    assert digests(answer) == [signature.digest]
    assert cache.saved.name in warning_of(answer)


async def test_an_empty_list_is_not_made_up_for_a_failure(cache, upstream, image, signature):
    upstream.script(faults.status(503))

    assert (await cache.referrers(image.digest)).status_code == 502


@pytest.mark.parametrize("body", [b"hello", b"[]", b"{}", b'{"manifests": 1}', b"\xff"])
async def test_an_answer_that_is_no_index_is_that_of_an_upstream_without_the_api(
    cache, upstream, image, signature, body
):
    upstream.script(faults.body(body), kind="referrers")

    assert digests(await cache.referrers(image.digest)) == []


async def test_a_portal_before_the_upstream_takes_no_referrers_away(
    turned, cache, upstream, image, signature
):
    await cache.referrers(image.digest)
    upstream.script(faults.html)
    turned.turn(61)

    assert digests(await cache.referrers(image.digest)) == [signature.digest]


async def test_what_is_no_descriptor_is_left_out(cache, upstream, image, signature):
    right = upstream.repository(PATH).referrers(image.digest)
    listed = [{"digest": "sha256:0", "mediaType": "a/b", "size": 1}, 7, None, *right]
    body = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
    upstream.script(faults.body(body), kind="referrers")

    assert digests(await cache.referrers(image.digest)) == [signature.digest]


async def test_lists_for_digests_that_nobody_has_are_forgotten(turned, cache):
    await cache.referrers(f"sha256:{'0' * 64}")
    turned.turn(3_700)

    await turned.app.caching._lookups.sweep()

    assert await turned.rows("SELECT reference FROM lookups") == []
