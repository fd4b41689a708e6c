"""Which process does a sync, when, and what happens when it stops."""

import asyncio

import pytest

from entrepot.db import sync_runs
from entrepot.model.clock import DAY, SECOND
from entrepot.model.ids import new_id
from entrepot.model.sync_runs import Cause
from entrepot.services.access import OPERATOR
from tests.mirror.turned import PATH, process
from tests.support.eventually import eventually
from tests.support.upstreams import Gate, faults

_HALF_HOUR = 1_800


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "v1")


@pytest.fixture
async def synced(turned, upstream, image):
    """A repository whose first sync has ended."""
    since = (turned.clock.now() // SECOND - 15 * 60) % _HALF_HOUR
    turned.turn((5 * 60 - since) % _HALF_HOUR)  # no moment of the schedule is near
    cache = await turned.cache(upstream)
    await turned.change("UPDATE repositories SET sync = 'all' WHERE path = :path", path=cache.name)
    await runs_when(turned, cache, lambda runs: runs and runs[0].ended_at)
    return cache


async def runs_of(turned, cache):
    """Newest first."""
    repository_id = await id_of(turned, cache)
    found, _ = await turned.app.caching.syncs.page(
        OPERATOR, repository_id, before=1 << 62, limit=100
    )
    return found


async def id_of(turned, cache):
    [(repository_id,)] = await turned.rows(
        "SELECT id FROM repositories WHERE path = :path", path=cache.name
    )
    return repository_id


async def runs_when(turned, cache, is_so):
    """The runs once this is so of them."""
    async with asyncio.timeout(30):
        while not is_so(found := await runs_of(turned, cache)):
            await turned.app.caching.syncs.look()
            await asyncio.sleep(0.02)  # there is no other way to tell
    return found


def all_ended(count):
    return lambda runs: len(runs) == count and all(run.ended_at for run in runs)


async def begin_elsewhere(turned, cache):
    """A run of a process that is gone."""
    run_id, now = new_id(), turned.clock.now()
    repository_id = await id_of(turned, cache)
    await turned.app.database.write(
        lambda tx: sync_runs.begin(
            tx, run_id, repository_id, cause=Cause.REQUEST, leader="gone", now=now
        )
    )


async def test_the_next_sync_is_due_at_the_next_moment_of_the_schedule(turned, synced):
    for _ in range(3):
        await turned.app.caching.syncs.look()
    assert len(await runs_of(turned, synced)) == 1

    turned.turn(31 * 60)
    found = await runs_when(turned, synced, all_ended(2))

    assert [run.cause for run in found] == [Cause.SCHEDULE, Cause.SCHEDULE]
    await turned.app.caching.syncs.look()
    assert len(await runs_of(turned, synced)) == 2


async def test_of_two_processes_one_does_what_is_due(processes, turned, synced):
    other = await processes()
    turned.turn(31 * 60)

    await asyncio.gather(*(each.app.caching.syncs.look() for each in (turned, other) * 3))

    await runs_when(turned, synced, all_ended(2))


async def test_a_run_of_a_dead_process_is_done_by_another_after_half_a_minute(turned, synced):
    await begin_elsewhere(turned, synced)
    await turned.app.caching.syncs.look()
    turned.turn(25)
    await turned.app.caching.syncs.look()
    assert (await runs_of(turned, synced))[0].ended_at is None

    turned.turn(10)

    found = await runs_when(turned, synced, all_ended(2))
    assert (found[0].counts.done, found[0].error) == (1, None)


async def test_a_process_that_stops_leaves_its_run_to_others(turned, upstream, image, tmp_path):
    token = (tmp_path / "data" / "admin.token").read_text().strip()
    gate = Gate()
    async with process(turned.settings, turned.clock, token) as stopping:
        cache = await stopping.cache(upstream)
        await turned.app.caching.syncs.close()
        upstream.script(faults.held(gate), kind="manifest")
        await sync(stopping, cache)
        await asyncio.to_thread(gate.wait_until_reached)
    gate.open()

    found = await runs_when(turned, cache, all_ended(1))

    assert (found[0].counts.done, found[0].error) == (1, None)


async def sync(turned, cache):
    """Ask for a sync, and have this process see that."""
    await turned.app.caching.syncs.start(OPERATOR, await id_of(turned, cache))
    await turned.app.caching.syncs.look()


async def test_a_process_that_was_taken_for_dead_writes_nothing_more(turned, synced, upstream):
    gate = Gate()
    upstream.script(faults.held(gate), kind="tags")
    turned.turn(61)
    await sync(turned, synced)
    await asyncio.to_thread(gate.wait_until_reached)
    await turned.change("UPDATE sync_runs SET leader = 'other' WHERE ended_at IS NULL")

    syncs = turned.app.caching.syncs
    await asyncio.to_thread(eventually, lambda: not syncs._running)  # its sign of life failed
    gate.open()

    rows = await turned.rows("SELECT leader, done FROM sync_runs WHERE ended_at IS NULL")
    assert rows == [("other", 0)]


async def test_the_last_fifty_runs_are_kept(turned, synced):
    repository_id = await id_of(turned, synced)
    for _ in range(60):
        run_id = new_id()
        await turned.change(
            """
            INSERT INTO sync_runs (id, repository_id, cause, leader, beat, started_at, ended_at,
                                   wanted, done, changed, removed, failed, fetched)
            VALUES (:id, :repository_id, 'request', '', 1, 1, 1, 0, 0, 0, 0, 0, 0)
            """,
            id=run_id,
            repository_id=repository_id,
        )

    await sync(turned, synced)
    await runs_when(turned, synced, all_ended(50))

    assert await turned.rows("SELECT COUNT(*) FROM sync_runs") == [(50,)]


async def test_a_schedule_that_was_changed_holds_at_once(turned, synced):
    """It was put off for a month by the one before."""
    await turned.change(
        "UPDATE repositories SET sync_due_at = :at", at=turned.clock.now() + 30 * 86_400_000_000
    )

    await runs_when(turned, synced, all_ended(2))


async def copy(turned, cache, count, organisation):
    """So many more of the repository in an organisation, due for longer than any after them."""
    for number in range(count):
        await turned.change(
            """
            INSERT INTO repositories (id, organisation_id, path, created_at, upstream_id,
                                      upstream_path, sync, sync_due_at)
            SELECT :id, CAST(:organisation AS BIGINT), path || CAST(:path AS TEXT), created_at,
                   upstream_id, upstream_path, 'all', CAST(:due_at AS BIGINT)
              FROM repositories
             WHERE path = :cache
            """,
            id=(made := new_id()),
            organisation=organisation,
            path=f"/{made}",
            due_at=turned.clock.now() - DAY + number,
            cache=cache.name,
        )


async def running(turned):
    """How many runs of each organisation some process does, the fewest first."""
    return [
        count
        for (count,) in await turned.rows(
            """
            SELECT COUNT(*)
              FROM sync_runs AS s
              JOIN repositories AS r ON r.id = s.repository_id
             WHERE s.ended_at IS NULL
               AND s.leader <> ''
             GROUP BY r.organisation_id
             ORDER BY 1
            """
        )
    ]


@pytest.fixture
async def two(turned, upstream, image):
    """A repository, and the ids of its organisation and of another; no sync ends."""
    cache = await turned.cache(upstream)
    gate = Gate()
    upstream.script(faults.held(gate), kind="tags")
    [(ours,)] = await turned.rows("SELECT id FROM organisations")
    await turned.change(
        """
        INSERT INTO organisations (id, public_id, slug, created_at)
        VALUES (:id, 'other', 'other', 1)
        """,
        id=(other := new_id()),
    )
    yield cache, ours, other
    gate.open()


@pytest.mark.parametrize("is_asked_for", [False, True])
async def test_an_organisation_with_much_to_sync_leaves_others_their_turn(
    turned, two, is_asked_for
):
    cache, ours, other = two
    await copy(turned, cache, 10, ours)
    if is_asked_for:
        for (repository_id,) in await turned.rows("SELECT id FROM repositories"):
            await turned.app.database.write(
                lambda tx, repository_id=repository_id: sync_runs.begin(
                    tx, new_id(), repository_id, cause=Cause.REQUEST, leader="", now=1
                )
            )
    await copy(turned, cache, 5, other)

    await turned.app.caching.syncs.look()

    assert await running(turned) == [2, 2]


async def test_who_comes_later_finds_a_place_beside_syncs_that_last_long(turned, two):
    cache, ours, other = two
    await copy(turned, cache, 10, ours)
    await turned.app.caching.syncs.look()
    assert await running(turned) == [3]
    await copy(turned, cache, 5, other)

    await turned.app.caching.syncs.look()

    assert await running(turned) == [1, 3]
