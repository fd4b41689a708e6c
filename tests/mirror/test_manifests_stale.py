"""Manifests while their upstream fails: an older answer with a warning, or the failure itself."""

import asyncio
import time

import pytest

from entrepot.db import lookups, repositories
from entrepot.model.errors import StorageFailed, StorageFull, Unavailable
from entrepot.model.names import Tag
from tests.mirror.turned import PATH, warning_of
from tests.support.server import OCI_MANIFEST, digest_of
from tests.support.upstreams import Gate, faults


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


@pytest.fixture
async def cache(turned, upstream, image):
    return await turned.cache(upstream)


# What goes wrong, and what somebody hears who has no older answer.
FAILURES = {
    "401": (faults.status(401), {403, 502}),
    "403": (faults.status(403, error="DENIED"), {403, 502}),
    "429": (faults.status(429), {429}),
    "429 with a pause": (faults.status(429, retry_after=7), {429}),
    "500": (faults.status(500), {502}),
    "502": (faults.status(502), {502}),
    "503": (faults.status(503), {502}),
    "503 with a pause": (faults.status(503, retry_after=7), {502}),
    "a page with 200": (faults.html, {502}),
    "gzip that nobody asked for": (faults.gzip, {502}),
    "truncated": (faults.truncated(10), {502}),
    "reset": (faults.reset(10), {502}),
    "wrong bytes": (faults.wrong_bytes, {502}),
    "no JSON": (faults.body(b"hello"), {502}),
    "endless": (faults.endless, {502}),
}


@pytest.mark.parametrize(("fault", "statuses"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_is_heard_where_nothing_is_older_and_never_becomes_a_404(
    turned, cache, upstream, image, fault, statuses
):
    upstream.script(fault, kind="manifest")

    answer = await cache.manifest("v1")

    assert answer.status_code in statuses, answer.text
    assert await turned.rows("SELECT digest FROM manifests") == []
    assert cache.saved.name in answer.text
    upstream.heal()
    turned.turn(3_700)
    assert (await cache.manifest("v1")).content == image.body


@pytest.mark.parametrize("fault", [fault for fault, _ in FAILURES.values()], ids=FAILURES)
async def test_an_older_answer_goes_out_with_a_warning(turned, cache, upstream, image, fault):
    await cache.manifest("v1")
    upstream.put_image(PATH, "v1")
    upstream.log.clear()
    upstream.script(fault, kind="manifest")
    turned.turn(61)

    answers = [await cache.manifest("v1") for _ in range(3)]

    for answer in answers:
        assert (answer.status_code, answer.content) == (200, image.body)
        assert warning_of(answer).startswith('299 - "')
        assert cache.saved.name in warning_of(answer)
    assert len(upstream.log.of(kind="manifest")) <= 2


async def test_a_dead_upstream_is_stale_and_a_breaker_spares_everybody(turned, cache, upstream):
    await cache.manifest("v1")
    upstream.stop()
    turned.turn(61)
    for _ in range(4):
        await cache.manifest("v1")
        turned.turn(6)

    begun = time.monotonic()
    answer = await cache.manifest("v1")

    assert answer.status_code == 200
    assert cache.saved.name in warning_of(answer)
    assert time.monotonic() - begun < 1  # an upstream that is asked may take two


async def test_an_upstream_that_hangs_delays_an_older_answer_by_two_seconds(
    turned, cache, upstream, image
):
    await cache.manifest("v1")
    moved = upstream.put_image(PATH, "v1")
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest", method="GET", times=1)
    turned.turn(61)

    begun = time.monotonic()
    answer = await cache.manifest("v1")
    seconds = time.monotonic() - begun

    assert 1.9 < seconds < 4
    assert answer.content == image.body
    assert "has not answered" in warning_of(answer)
    gate.open()
    async with asyncio.timeout(10):
        while (await cache.manifest("v1")).headers["docker-content-digest"] != moved.digest:
            pass


async def test_a_slow_answer_never_replaces_a_newer_one(turned, cache, upstream, image):
    """The one that was asked for first comes last, as after the death of who had the claim."""
    await cache.manifest("v1")
    moved = upstream.put_image(PATH, "v1")
    turned.turn(61)
    await cache.manifest("v1")
    mirror = turned.app.caching.mirror
    repository = await repository_of(turned)

    async def late(tx):
        now = turned.clock.now()
        return await lookups.record(
            tx, repository.id, "v1", digest=image.digest, asked_at=now - 30_000_000, now=now
        )

    assert not await turned.app.database.write(late)
    assert (await mirror.manifest(repository, tag("v1"))).digest == moved.digest


async def test_what_a_digest_names_must_have_it(turned, cache, upstream, image):
    other = upstream.put_image(PATH, "v2")
    content = upstream.repository(PATH)
    content.manifests[image.digest] = content.manifests[other.digest]

    answer = await cache.manifest(image.digest)

    assert answer.status_code == 502
    assert await turned.rows("SELECT digest FROM manifests") == []


async def test_a_tag_whose_header_names_another_digest_is_not_kept(turned, cache, upstream, image):
    lie = digest_of(b"something else")
    upstream.script(faults.headers(docker_content_digest=lie), kind="manifest", method="GET")

    answer = await cache.manifest("v1")

    assert answer.status_code == 502
    assert lie in answer.text
    assert await turned.rows("SELECT digest FROM manifests") == []


async def test_a_manifest_of_the_first_schema_is_refused_with_a_sentence(turned, upstream):
    upstream.put_schema1(PATH, "old")
    cache = await turned.cache(upstream)

    answer = await cache.manifest("old")

    assert answer.status_code == 502
    assert "Docker schema 1" in answer.text


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", ""])
async def test_a_manifest_of_no_useful_type_is_what_it_says_itself(
    cache, upstream, image, media_type
):
    upstream.script(faults.headers(content_type=media_type), kind="manifest")

    answer = await cache.manifest("v1")

    assert answer.headers["content-type"] == OCI_MANIFEST
    assert answer.content == image.body


async def test_two_readings_of_one_manifest_are_refused(cache, upstream, image):
    kind = "application/vnd.oci.image.index.v1+json"
    upstream.script(faults.headers(content_type=kind), kind="manifest")

    assert (await cache.manifest("v1")).status_code == 502


async def test_a_manifest_over_the_limit_is_refused(cache, upstream):
    upstream.put_image(PATH, "large", extra={"annotations": {"a": "x" * (5 << 20)}})

    assert (await cache.manifest("large")).status_code == 502


async def test_credentials_of_one_organisation_open_nothing_for_another(turned, upstream, image):
    """T26: each repository asks with its own upstream's credential, for manifests too."""
    first = await turned.cache(upstream)
    await first.manifest("v1")
    second = await turned.cache(upstream)
    upstream.script(faults.status(403), kind="manifest")

    assert (await second.manifest("v1")).status_code in {403, 502}
    assert (await second.manifest(image.digest)).status_code in {403, 502}
    assert (await first.manifest(image.digest)).status_code == 200


async def test_a_repository_that_went_while_its_upstream_was_asked_keeps_nothing(
    turned, cache, upstream, image
):
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest")
    asking = asyncio.create_task(cache.manifest("v1"))
    await asyncio.to_thread(gate.reached.wait, 10)
    await turned.change("UPDATE repositories SET deleted_at = 1")

    gate.open()

    assert (await asking).status_code == 404
    assert await turned.rows("SELECT digest FROM manifests") == []


def tag(text):
    return Tag.parse(text)


async def repository_of(turned):
    ((id_,),) = await turned.rows("SELECT id FROM repositories")
    async with turned.app.database.read() as tx:
        return await repositories.find_by_id(tx, id_)


@pytest.mark.parametrize("error", [StorageFull("full"), StorageFailed("bad"), Unavailable("busy")])
async def test_reads_go_on_when_nothing_can_be_written(turned, cache, image, monkeypatch, error):
    await cache.manifest("v1")
    turned.turn(61)

    async def write(_work, **_options):
        raise error

    monkeypatch.setattr(turned.app.database, "write", write)
    tagged = await cache.manifest("v1")
    by_digest = await cache.manifest(image.digest)

    assert (tagged.content, by_digest.content) == (image.body, image.body)
    assert error.message in warning_of(tagged)
