"""Manifests through an upstream: asked for once, kept, verified, and served when it is away."""

import asyncio
import json

import pytest

from entrepot.db import lookups
from entrepot.model.clock import SECOND
from tests.mirror.turned import PATH, warning_of
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of
from tests.support.upstreams import Gate, faults


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


@pytest.fixture
async def cache(turned, upstream, image):
    return await turned.cache(upstream)


def asked(upstream):
    """What the upstream was asked of manifests, as (method, reference)."""
    return [(entry.method, entry.reference) for entry in upstream.log.of(kind="manifest")]


async def test_a_tag_comes_as_it_is_and_costs_one_question(cache, upstream, image):
    answers = [await cache.manifest("v1") for _ in range(3)]

    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.content == image.body
        assert answer.headers["docker-content-digest"] == image.digest
        assert answer.headers["content-type"] == OCI_MANIFEST
        assert "warning" not in answer.headers
    assert asked(upstream) == [("GET", "v1")]


async def test_head_is_answered_like_get(cache, upstream, image):
    answer = await cache.manifest("v1", "HEAD")

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["docker-content-digest"] == image.digest
    assert answer.headers["content-length"] == str(len(image.body))


async def test_after_its_freshness_a_tag_costs_one_head_per_period(turned, cache, upstream):
    await cache.manifest("v1")
    upstream.log.clear()

    for _ in range(2):
        turned.turn(61)
        for _ in range(3):
            assert (await cache.manifest("v1")).status_code == 200

    assert asked(upstream) == [("HEAD", "v1")] * 2


async def test_a_tag_that_moved_is_fetched_and_leaves_its_history(turned, cache, upstream, image):
    await cache.manifest("v1")
    moved = upstream.put_image(PATH, "v1")
    upstream.log.clear()
    turned.turn(61)

    answer = await cache.manifest("v1")

    assert answer.headers["docker-content-digest"] == moved.digest
    assert asked(upstream) == [("HEAD", "v1"), ("GET", "v1")]
    assert (await cache.manifest(image.digest)).content == image.body
    history = await turned.rows("SELECT digest FROM tag_history ORDER BY version")
    assert history == [(image.digest,), (moved.digest,)]


async def test_a_tag_that_moved_back_needs_no_get(turned, cache, upstream, image):
    await cache.manifest("v1")
    upstream.put_image(PATH, "v1")
    turned.turn(61)
    await cache.manifest("v1")
    upstream.repository(PATH).tags["v1"] = image.digest
    upstream.log.clear()
    turned.turn(61)

    answer = await cache.manifest("v1")

    assert answer.content == image.body
    assert asked(upstream) == [("HEAD", "v1")]


async def test_without_a_digest_in_its_heads_an_upstream_is_asked_for_the_manifest(
    turned, cache, upstream, image
):
    upstream.manners.sends_digest = False
    await cache.manifest("v1")
    upstream.log.clear()
    turned.turn(61)

    answer = await cache.manifest("v1")

    assert answer.headers["docker-content-digest"] == image.digest
    assert asked(upstream) == [("HEAD", "v1"), ("GET", "v1")]


async def test_a_digest_is_asked_for_once_and_never_again(turned, cache, upstream, image):
    first = await cache.manifest(image.digest)
    turned.turn(1_000_000)
    upstream.stop()
    second = await cache.manifest(image.digest)

    assert first.content == second.content == image.body
    assert asked(upstream) == [("GET", image.digest)]
    assert "warning" not in second.headers


async def test_an_index_comes_as_it_is_and_its_children_on_demand(turned, upstream):
    index = upstream.put_index(PATH, "multi")
    cache = await turned.cache(upstream)

    answer = await cache.manifest("multi")

    assert answer.headers["content-type"] == OCI_INDEX
    assert answer.content == index.body
    assert asked(upstream) == [("GET", "multi")]
    for child in json.loads(index.body)["manifests"]:
        assert digest_of((await cache.manifest(child["digest"])).content) == child["digest"]


async def test_what_was_mirrored_holds_no_parts(turned, cache):
    await cache.manifest("v1")

    assert await turned.rows("SELECT COUNT(*) FROM manifest_blobs") == [(0,)]
    assert await turned.rows("SELECT is_pushed FROM manifests") == [(0,)]
    assert await turned.rows("SELECT is_pushed FROM tags") == [(0,)]


async def test_many_clients_are_one_question(cache, upstream, image):
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest")
    asking = [asyncio.create_task(cache.manifest("v1")) for _ in range(50)]
    await asyncio.to_thread(gate.reached.wait, 10)
    gate.open()

    answers = await asyncio.gather(*asking)

    assert {answer.headers["docker-content-digest"] for answer in answers} == {image.digest}
    assert asked(upstream) == [("GET", "v1")]


async def test_two_processes_are_one_question(processes, turned, cache, upstream, image):
    there = cache.on(await processes())
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest")
    asking = [
        asyncio.create_task(side.manifest("v1")) for side in (cache, there) for _ in range(10)
    ]
    await asyncio.to_thread(gate.reached.wait, 10)
    gate.open()

    answers = await asyncio.gather(*asking)

    assert {answer.headers["docker-content-digest"] for answer in answers} == {image.digest}
    assert asked(upstream) == [("GET", "v1")]
    upstream.log.clear()
    turned.turn(61)
    await asyncio.gather(cache.manifest("v1"), there.manifest("v1"))
    assert asked(upstream) == [("HEAD", "v1")]


async def test_what_one_process_asks_in_vain_another_asks_itself(processes, cache, upstream, image):
    there = cache.on(await processes())
    upstream.script(faults.wrong_bytes, kind="manifest", method="GET", times=1)

    refused = await cache.manifest("v1")
    answer = await there.manifest("v1")

    assert refused.status_code == 502
    assert answer.content == image.body


@pytest.fixture
def looked(monkeypatch):
    """Released whenever the process has looked whether another has its answer."""
    looked, find = asyncio.Semaphore(0), lookups.find

    async def look(*arguments):
        found = await find(*arguments)
        looked.release()
        return found

    monkeypatch.setattr(lookups, "find", look)
    return looked


@pytest.mark.parametrize("status", [429, 503])
async def test_processes_that_wait_for_one_that_is_told_to_wait_ask_nothing(
    processes, turned, cache, upstream, image, looked, status
):
    there = cache.on(await processes())
    await cache.manifest("v1")
    turned.turn(61)
    upstream.put_image(PATH, "v2")
    assert (await there.manifest("v2")).status_code == 200
    upstream.log.clear()
    gate = Gate()
    told = faults.status(status, retry_after=60)
    upstream.script(lambda reply: faults.held(gate)(told(reply)), kind="manifest")
    first = asyncio.create_task(cache.manifest("v1"))
    await asyncio.to_thread(gate.reached.wait, 10)
    second = asyncio.create_task(there.manifest("v1"))
    async with asyncio.timeout(10):
        await looked.acquire()
    gate.open()

    answers = await asyncio.gather(first, second)

    assert [answer.content for answer in answers] == [image.body] * 2
    assert all(cache.saved.name in warning_of(answer) for answer in answers)
    assert asked(upstream) == [("HEAD", "v1")]


@pytest.mark.parametrize("ahead", [10, 310, -290])
async def test_a_claim_of_the_dead_ends(turned, cache, upstream, image, looked, ahead):
    """Ten seconds after it was seen first, however far the clock of the dead was off."""
    await claim(turned, ahead)
    asking = asyncio.create_task(cache.manifest("v1"))
    async with asyncio.timeout(10):
        await looked.acquire()
        await looked.acquire()  # what it saw first is noted by then
    assert asked(upstream) == []

    turned.turn(11)

    assert (await asking).content == image.body


async def test_a_claim_of_long_ago_is_not_waited_for(turned, cache, upstream, image):
    await claim(turned, -3_600)

    assert (await cache.manifest("v1")).content == image.body


async def claim(turned, ahead):
    """The claim of a process that is gone, for so many seconds."""
    await turned.change(
        """
        INSERT INTO lookups (repository_id, reference, claim, claimed_until)
        SELECT id, 'v1', 7, CAST(:until AS BIGINT)
          FROM repositories
        """,
        until=turned.clock.now() + ahead * SECOND,
    )


async def test_what_a_clock_that_is_ahead_has_noted_keeps_no_later_answer_out(
    turned, cache, upstream, image
):
    await cache.manifest("v1")
    await turned.change("UPDATE lookups SET checked_at = checked_at + :ahead", ahead=300 * SECOND)
    moved = upstream.put_image(PATH, "v1")

    assert (await cache.manifest("v1")).content == moved.body
    assert asked(upstream) == [("GET", "v1"), ("HEAD", "v1"), ("GET", "v1")]


async def test_a_question_goes_on_without_the_client_that_asked_it(turned, cache, upstream, image):
    gate = Gate()
    upstream.script(faults.held(gate), kind="manifest")
    asking = asyncio.create_task(cache.manifest("v1"))
    await asyncio.to_thread(gate.reached.wait, 10)

    asking.cancel()
    gate.open()

    assert (await cache.manifest("v1")).content == image.body
    assert asked(upstream) == [("GET", "v1")]


async def test_a_tag_that_is_gone_is_gone_here_and_remembered(turned, cache, upstream, image):
    await cache.manifest("v1")
    del upstream.repository(PATH).tags["v1"]
    upstream.log.clear()
    turned.turn(61)

    answers = [await cache.manifest("v1") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert asked(upstream) == [("HEAD", "v1")]
    assert (await cache.manifest(image.digest)).status_code == 200
    upstream.repository(PATH).tags["v1"] = image.digest
    turned.turn(31)
    assert (await cache.manifest("v1")).status_code == 200


async def test_a_tag_that_is_gone_stays_where_deleted_tags_are_kept(turned, upstream, image):
    cache = await turned.cache(upstream)
    await turned.change("UPDATE repositories SET keeps_deleted = 1")
    await cache.manifest("v1")
    del upstream.repository(PATH).tags["v1"]
    turned.turn(61)

    assert (await cache.manifest("v1")).content == image.body


async def test_an_immutable_tag_stays_whatever_its_upstream_says(turned, upstream, image):
    cache = await turned.cache(upstream, policies={"immutable_tags": ["v*"]})
    await cache.manifest("v1")
    upstream.put_image(PATH, "v1")
    upstream.log.clear()
    turned.turn(61)

    answer = await cache.manifest("v1")

    assert answer.content == image.body
    assert asked(upstream) == []


@pytest.mark.parametrize("reference", ["nothing", f"sha256:{'0' * 64}"])
async def test_what_an_upstream_does_not_have_is_asked_for_once(turned, cache, upstream, reference):
    for _ in range(3):
        answer = await cache.manifest(reference)
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert asked(upstream) == [("GET", reference)]
    turned.turn(31)
    await cache.manifest(reference)
    assert len(asked(upstream)) == 2


async def test_what_was_denied_is_forgotten_in_the_end(turned, cache):
    await cache.manifest("v1")
    for number in range(5):
        await cache.manifest(f"nothing-{number}")
    turned.turn(3_700)

    await turned.app.caching._lookups.sweep()

    assert await turned.rows("SELECT reference FROM lookups") == [("v1",)]


async def test_a_process_reads_a_warm_tag_by_one_statement(turned, cache, monkeypatch):
    await cache.manifest("v1")
    reads = []
    real = turned.app.database.read

    def read(**options):
        reads.append(options)
        return real(**options)

    monkeypatch.setattr(turned.app.database, "read", read)

    await cache.manifest("v1")

    assert len(reads) == 1


async def test_reads_are_noted_in_a_batch(turned, cache):
    await cache.manifest("v1", "HEAD")
    assert await turned.rows("SELECT accessed_at FROM repositories") == [(None,)]

    await turned.app.caching.last_access.flush()

    ((accessed_at,),) = await turned.rows("SELECT accessed_at FROM repositories")
    assert 0 < turned.clock.now() - accessed_at < 1_000_000


async def test_counts_tell_hits_from_misses(turned, cache):
    for _ in range(3):
        await cache.manifest("v1")

    await turned.app.caching.remotes.flush()

    assert await turned.rows("SELECT hits, misses FROM upstream_states") == [(2, 1)]
