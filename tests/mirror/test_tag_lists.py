"""Lists of tags: the upstream's, kept for the freshness, with what was pushed here."""

import asyncio

import pytest

from entrepot.model.upstreams import SYNCED
from tests.mirror.turned import PATH, Cached, warning_of
from tests.support.server import digest_of
from tests.support.upstreams import faults

NAMES = ["1.0", "1.1", "2.0", "Alpha", "_x", "latest"]  # in byte order


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, *NAMES)


@pytest.fixture
async def cache(turned, upstream, image):
    return await turned.cache(upstream)


def walks(upstream):
    """How often the upstream's list was begun."""
    return len([entry for entry in upstream.log.of(kind="tags") if "last" not in entry.query])


async def listed(cache, **params):
    answer = await cache.tags(**params)
    assert answer.status_code == 200, answer.text
    return answer.json()["tags"]


async def test_a_list_is_the_upstreams_and_kept_for_its_freshness(turned, cache, upstream):
    upstream.manners.tags_in_a_page = 2

    assert [await listed(cache) for _ in range(3)] == [NAMES] * 3

    assert walks(upstream) == 1
    turned.turn(61)
    assert await listed(cache) == NAMES
    assert walks(upstream) == 2


async def test_pages_are_in_byte_order_with_links(cache, upstream):
    first = await cache.tags(n=4)
    second = await cache.turned.client.get(first.headers["link"].split(">")[0].strip("<"))

    assert first.json()["tags"] == NAMES[:4]
    assert second.json()["tags"] == NAMES[4:]
    assert "link" not in second.headers
    assert walks(upstream) == 1


async def test_tags_come_and_go_with_the_upstream(turned, cache, upstream, image):
    await listed(cache)
    del upstream.repository(PATH).tags["1.0"]
    upstream.repository(PATH).tags["3.0"] = image.digest
    turned.turn(61)

    assert await listed(cache) == ["1.1", "2.0", "3.0", "Alpha", "_x", "latest"]


async def test_a_list_knows_what_single_tags_have_told_since(turned, cache, upstream, image):
    turned.turn(1)
    await listed(cache)
    del upstream.repository(PATH).tags["1.0"]
    upstream.repository(PATH).tags["new"] = image.digest

    assert (await cache.manifest("1.0")).status_code == 404
    assert (await cache.manifest("new")).status_code == 200

    assert await listed(cache) == ["1.1", "2.0", "Alpha", "_x", "latest", "new"]


async def test_pushed_tags_stand_beside_the_upstreams(turned, upstream, image):
    cache = await turned.cache(upstream, accepts_push=True)
    await cache.push_tag("mine", digest_of)

    assert await listed(cache) == [*NAMES, "mine"]
    assert await listed(cache, n=1, last="latest") == ["mine"]


async def test_a_pushed_tag_is_served_without_asking(turned, upstream, image):
    cache = await turned.cache(upstream, accepts_push=True)
    digest = await cache.push_tag("mine", digest_of)
    upstream.log.clear()
    turned.turn(1_000)

    answer = await cache.manifest("mine")

    assert answer.headers["docker-content-digest"] == digest
    assert upstream.log.of(kind="manifest") == []


async def test_an_older_list_goes_out_with_a_warning(turned, cache, upstream):
    await listed(cache)
    upstream.script(faults.status(503), kind="tags")
    turned.turn(61)

    answer = await cache.tags()

    assert answer.json()["tags"] == NAMES
    assert cache.saved.name in warning_of(answer)


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [(faults.status(503), {502}), (faults.status(429), {429}), (faults.html, {502})],
)
async def test_a_list_that_was_never_here_is_the_failure(cache, upstream, fault, statuses):
    upstream.script(fault, kind="tags")

    assert (await cache.tags()).status_code in statuses


async def test_a_repository_that_the_upstream_has_no_more_has_no_tags(turned, cache, upstream):
    await listed(cache)
    upstream.script(faults.status(404, error="NAME_UNKNOWN"), kind="tags")
    turned.turn(61)

    assert await listed(cache) == []


async def test_a_walk_that_breaks_off_changes_no_list(turned, cache, upstream):
    await listed(cache)
    upstream.manners.tags_in_a_page = 2
    del upstream.repository(PATH).tags["1.0"]
    upstream.script(faults.status(500), path="*last=*", kind="tags")
    second = upstream.script(faults.status(500), kind="tags")
    turned.turn(61)

    answer = await cache.tags()

    assert second.struck
    assert answer.json()["tags"] == NAMES
    assert warning_of(answer)


@pytest.mark.parametrize("is_new", [True, False])
async def test_all_pages_of_a_list_have_a_deadline_together(
    turned, cache, upstream, monkeypatch, is_new
):
    monkeypatch.setattr("entrepot.services.checks._LIST_SECONDS", 0.5)
    upstream.manners.tags_in_a_page = 1
    upstream.script(faults.slow(200), kind="tags")
    if is_new:
        await turned.mirror(upstream, "hub")
        cache = Cached(turned, f"hub/{PATH}")

    assert (await cache.tags()).status_code == 504

    assert 1 <= upstream.log.count(kind="tags") < len(NAMES)


async def test_many_clients_and_processes_are_one_walk(processes, cache, upstream):
    there = cache.on(await processes())

    lists = await asyncio.gather(*(listed(side) for side in (cache, there) * 10))

    assert lists == [NAMES] * 20
    assert walks(upstream) == 1


async def test_a_synced_repository_lists_what_the_last_sync_left(turned, cache, upstream):
    await cache.manifest("1.0")
    await turned.change(
        "UPDATE repositories SET sync = 'all', freshness = :synced, last_synced_at = 1",
        synced=SYNCED,
    )
    again = cache.on(turned)
    turned.turn(10)  # who may what, and where, is remembered for five seconds
    upstream.log.clear()

    assert await listed(again) == ["1.0"]
    assert (await again.manifest("1.0")).status_code == 200
    assert (await again.manifest("2.0")).status_code == 404
    assert upstream.log.entries == []


async def test_before_its_first_sync_has_ended_a_repository_asks(turned, cache, upstream):
    await turned.change("UPDATE repositories SET sync = 'all', freshness = :synced", synced=SYNCED)

    assert await listed(cache) == NAMES
    assert (await cache.manifest("2.0")).status_code == 200


async def test_a_sync_reads_every_name_at_once(turned, cache, upstream):
    repository = await turned.app._addresses.where(cache.address)

    names = await turned.app.caching.mirror.upstream_tags(repository)

    assert names == NAMES
    await turned.app.caching.mirror.upstream_tags(repository)
    assert walks(upstream) == 2
