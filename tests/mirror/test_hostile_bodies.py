"""Blobs that arrive wrong or not whole: no client gets them whole, and none of them stays."""

import asyncio

import pytest

from entrepot.services.access import OPERATOR
from tests.support.eventually import eventually
from tests.support.server import digest_of
from tests.support.upstreams import Gate, faults

SIZE = 300_000
PATH = "library/app"


@pytest.fixture
def layer(upstream):
    return upstream.put_image(PATH, "1", layers=[SIZE]).layers[0]


@pytest.fixture
def cache(stand, upstream, layer):
    made = stand.cache(upstream, PATH)
    upstream.log.clear()
    return made


def assert_refused(cache, digest, answer):
    """No complete wrong body, and nothing kept."""
    assert answer.status >= 500 or not answer.is_complete, answer
    assert not cache.has(digest)


WRONG = {
    "another last byte": faults.wrong_bytes,
    "a page with 200": faults.html,
    "another body of the same length": faults.body(b"x" * SIZE),
    "the body of another blob": faults.body(b"the previous one"),
    "one byte more": faults.longer(),
    "gzip that nobody asked for": faults.gzip,
    "nothing": faults.body(b""),
}


@pytest.mark.parametrize("fault", WRONG.values(), ids=WRONG)
def test_wrong_bytes_never_arrive_whole_nor_stay_and_the_next_pull_asks_again(
    stand, cache, upstream, layer, fault
):
    upstream.script(fault, kind="blob", method="GET", reference=layer)

    refused = cache.blob(layer)

    assert_refused(cache, layer, refused)
    upstream.heal()
    asked = upstream.log.count(kind="blob", method="GET")
    healed = cache.blob(layer)
    assert (healed.status, digest_of(healed.body), healed.is_complete) == (200, layer, True)
    assert upstream.log.count(kind="blob", method="GET") == asked + 1


def test_the_last_byte_is_held_back_until_the_digest_is_known(cache, upstream, layer):
    upstream.script(faults.wrong_bytes, kind="blob", method="GET")

    refused = cache.blob(layer)

    assert len(refused.body) < SIZE
    assert refused.status != 200 or refused.headers["content-length"] == str(SIZE)


@pytest.mark.parametrize("framing", [faults.chunked, faults.until_closed])
def test_a_wrong_body_of_unknown_length_is_no_complete_answer_either(
    cache, upstream, layer, framing
):
    upstream.script(lambda reply: framing(faults.wrong_bytes(reply)), kind="blob", method="GET")

    assert_refused(cache, layer, cache.blob(layer))


@pytest.mark.parametrize("framing", [faults.chunked, faults.until_closed])
def test_a_right_body_of_unknown_length_is_served_and_kept(cache, upstream, layer, framing):
    upstream.script(framing, kind="blob", method="GET")

    answer = cache.blob(layer)

    assert (digest_of(answer.body), answer.is_complete) == (layer, True)
    eventually(lambda: cache.has(layer))
    upstream.stop()
    assert digest_of(cache.blob(layer).body) == layer


BREAKS = {
    "closed early": faults.truncated(100_000),
    "reset": faults.reset(100_000),
    "chunks without an end": faults.unfinished_chunks(100_000),
    "closed before the first byte": faults.truncated(0),
}


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
def test_a_body_that_breaks_off_goes_on_where_it_stopped(cache, upstream, layer, fault):
    upstream.script(fault, kind="blob", method="GET", times=1)

    answer = cache.blob(layer)

    assert (answer.status, digest_of(answer.body), answer.is_complete) == (200, layer, True)
    first, second = upstream.log.of(kind="blob", method="GET")
    assert "range" not in first.headers
    start = int(second.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
    assert start <= 100_000
    assert second.sent == SIZE - start


RANGES = {
    "the whole with 200": faults.ignores_range,
    "a part that begins earlier": faults.wrong_range,
    "another part than it says": faults.lying_range,
    "a total that is not known": faults.unknown_total,
    "an error": faults.status(416),
    "a page": faults.html,
}
UNHARMED = {"the whole with 200", "a total that is not known"}


@pytest.mark.parametrize("kind", RANGES)
def test_what_comes_for_a_range_is_checked_before_it_is_joined(stand, cache, upstream, layer, kind):
    upstream.script(faults.truncated(100_000), kind="blob", method="GET", times=1)
    upstream.script(RANGES[kind], kind="blob", method="GET")

    answer = cache.blob(layer)

    if kind in UNHARMED:
        assert (digest_of(answer.body), answer.is_complete) == (layer, True)
    elif not (answer.is_complete and digest_of(answer.body) == layer):
        assert_refused(cache, layer, answer)
    stand.wait_for_no_spools()


def test_a_body_that_never_gets_further_ends_and_leaves_nothing(stand, cache, upstream, layer):
    upstream.script(faults.truncated(100_000), kind="blob", method="GET", times=1)
    upstream.script(faults.truncated(0), kind="blob", method="GET")

    answer = cache.blob(layer)

    assert not answer.is_complete
    assert not cache.has(layer)
    stand.wait_for_no_spools()
    upstream.heal()
    stand.check(cache.upstream)
    assert digest_of(cache.blob(layer).body) == layer


def test_an_endless_body_is_cut_off(stand, cache, upstream, layer):
    upstream.script(faults.endless, kind="blob", method="GET")

    answer = cache.blob(layer)

    assert_refused(cache, layer, answer)
    stand.wait_for_no_spools()


def test_a_length_beyond_the_budget_is_refused_at_once(stand, cache, upstream, layer):
    upstream.script(faults.headers(Content_Length=str(1 << 40)), kind="blob", method="GET")

    answer = cache.blob(layer)

    assert answer.status == 429
    assert "ENTREPOT_FETCH__SPOOL_BYTES" in answer.error
    stand.wait_for_no_spools()


@pytest.mark.parametrize("framing", [None, faults.chunked])
def test_headers_come_at_once_though_no_byte_has(cache, upstream, layer, framing):
    gate = Gate()
    right = framing or (lambda reply: reply)
    upstream.script(lambda reply: faults.held(gate)(right(reply)), kind="blob", method="GET")

    with cache.opened(f"blobs/{layer}") as answer:  # does not return before the headers
        gate.wait_until_reached()
        gate.open()
        body = answer.read()

    assert (answer.status, digest_of(body)) == (200, layer)


def test_a_blob_without_bytes_is_a_blob(cache, upstream):
    empty = upstream.repository(PATH).put_blob(b"")

    answer = cache.blob(empty)

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


def test_a_client_that_goes_does_not_end_the_fetch(stand, cache, upstream, layer):
    gate = Gate()
    upstream.script(faults.held(gate, 100_000), kind="blob", method="GET")
    with cache.opened(f"blobs/{layer}") as answer:
        assert answer.read(10) != b""
        gate.wait_until_reached()

    gate.open()
    stand.wait_for_no_spools()

    assert cache.has(layer)
    assert digest_of(cache.blob(layer).body) == layer
    assert upstream.log.count(kind="blob", method="GET") == 1


async def test_a_repository_that_is_deleted_meanwhile_leaves_nothing(turned, upstream, layer):
    cache = await turned.cache(upstream, PATH)
    gate = Gate()
    upstream.script(faults.held(gate, 100_000), kind="blob", method="GET")
    asking = asyncio.create_task(cache.get(f"blobs/{layer}"))
    await asyncio.to_thread(gate.wait_until_reached)

    [(repository_id,)] = await turned.rows("SELECT id FROM repositories")
    await turned.management.repositories.delete(OPERATOR, repository_id, version=None)
    gate.open()
    await asyncio.wait({asking})  # whole or not: it was asked for when it might be

    turned.turn(6)  # what was known of the name is asked again
    assert (await cache.get(f"blobs/{layer}")).status_code == 404
    await asyncio.gather(*turned.app.caching.fetches._tasks, return_exceptions=True)
    assert await turned.rows("SELECT id FROM fetches") == []
    assert not list((turned.settings.data / "spool").glob("**/*"))
    for table in ("blobs", "blob_links"):
        assert (
            await turned.rows(f"SELECT 1 FROM {table} WHERE digest = :digest", digest=layer) == []
        )


def test_a_range_of_a_blob_that_is_still_coming_is_served_as_its_bytes_come(cache, upstream, layer):
    gate = Gate()
    upstream.script(faults.held(gate, 200_000), kind="blob", method="GET")
    whole = upstream.repository(PATH).blobs[layer]

    part = cache.blob(layer, range="bytes=1000-1999")
    gate.open()
    end = cache.blob(layer, range="bytes=299000-")

    assert (part.status, part.body) == (206, whole[1000:2000])
    assert (end.status, end.body) == (206, whole[299_000:])
    assert upstream.log.count(kind="blob", method="GET") == 1


def test_a_range_that_reaches_the_end_of_a_wrong_body_breaks_off(cache, upstream, layer):
    upstream.script(faults.wrong_bytes, kind="blob", method="GET")

    answer = cache.blob(layer, range="bytes=299000-")

    assert answer.status >= 500 or not answer.is_complete
    assert not cache.has(layer)


def test_an_object_that_is_lost_is_fetched_again(stand, cache, upstream, layer):
    assert digest_of(cache.blob(layer).body) == layer
    eventually(lambda: cache.has(layer))
    ((key,),) = stand.registry.rows("SELECT storage_key FROM blobs WHERE digest = :d", d=layer)
    (stand.blobs / key[:2] / key).unlink()

    answer = cache.blob(layer)

    assert (answer.status, digest_of(answer.body)) == (200, layer)
    assert upstream.log.count(kind="blob", method="GET") == 2
