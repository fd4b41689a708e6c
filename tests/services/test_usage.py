"""Usage is the integral of what was held, whenever it is folded and by whomever."""

import asyncio
import math
import random
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.db import accounts
from entrepot.db import usage as usage_rows
from entrepot.model.clock import DAY, HOUR
from entrepot.model.ids import new_id
from entrepot.model.usage import GB, MONTH_SECONDS, Measured, Period
from entrepot.services.usage import Usage
from tests.services.conftest import address

START = Period.of_month("2026-03").start
ORG = 7


async def add(world, number, at, bytes_count, repository):
    async def work(tx):
        await tx.execute(
            """
            INSERT INTO byte_deltas (id, organisation_id, repository_id, at, bytes, tags)
            VALUES (:id, :organisation, :repository, :at, :bytes, 0)
            """,
            id=number,
            organisation=ORG,
            repository=repository,
            at=at,
            bytes=bytes_count,
        )

    await world.database.write(work)


async def measure(world, start, end):
    async with world.database.read() as tx:
        return await usage_rows.measure(tx, ORG, Period(start, end))


def integral(deltas, start, end, lines):
    """Byte-seconds by hand."""
    return sum(
        count * (end - max(at, start)) / 1_000_000
        for at, count, line in deltas
        if line in lines and at < end
    )


@pytest.fixture
async def empty(world):
    world.usage = Usage(world.database, world.clock, world.access)
    await world.usage.fold()
    async with world.database.read() as tx:
        assert await usage_rows.page_of_deltas(tx, limit=1) == []
    return world


async def test_what_lives_six_hours_costs_six_hours(empty):
    noon = START + 4 * DAY + 12 * HOUR
    await add(empty, 1, noon, 100 * GB, None)
    await add(empty, 2, noon + 6 * HOUR, -100 * GB, None)

    await empty.usage.fold()

    measured, _ = await measure(empty, START, Period.of_month("2026-03").end)
    assert measured == Measured(0, 100 * GB * 6 * 3_600)
    assert str(measured.price(200_000)) == "0.164384"  # 600 GB-hours of 730 at 0.20


async def test_a_gigabyte_for_730_hours_is_a_gb_month(empty):
    await add(empty, 1, START, GB, None)

    measured, _ = await measure(empty, START, START + MONTH_SECONDS * 1_000_000)

    assert str(measured.gb_months) == "1.000000"
    assert str(measured.price(200_000)) == "0.200000"


async def test_a_delta_that_comes_late_counts_from_its_own_moment(empty):
    midnight = START + 3 * DAY
    await add(empty, 1, midnight + HOUR, 5, 1)
    await empty.usage.fold()
    await add(empty, 2, midnight - HOUR, 7, 1)  # of a transaction that began the day before

    await empty.usage.fold()

    _, before = await measure(empty, START, midnight)
    _, behind = await measure(empty, midnight, midnight + DAY)
    assert before == Measured(7, 7 * 3_600)
    assert behind == Measured(12, 7 * 86_400 + 5 * 23 * 3_600)


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("delta"),
            st.integers(0, 9 * DAY),
            st.integers(-(10**12), 10**12),
            st.sampled_from([None, 1, 2]),
        ),
        st.just(("fold",)),
    ),
    max_size=40,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=steps, days=st.tuples(st.integers(0, 9), st.integers(1, 9)), last=st.integers(0, DAY))
def test_usage_is_the_integral_of_its_deltas(integrals, steps, days, last):
    integrals(steps, days, last)


@pytest.fixture
def integrals(empty):
    """Plays steps in the loop of the fixture's database."""
    loop = asyncio.get_event_loop()
    ids = iter(range(1, 1 << 30))

    async def play(steps, days, last):
        async def clear(tx):
            await tx.execute("DELETE FROM usage_points")
            await tx.execute("DELETE FROM byte_deltas")

        await empty.database.write(clear)
        deltas = []
        for step in steps:
            if step[0] == "fold":
                await empty.usage.fold()
                continue
            _, offset, count, repository = step
            await add(empty, next(ids), START + offset, count, repository)
            deltas.append((START + offset, count, repository))
        start = START + days[0] * DAY
        newest = max((at for at, _, _ in deltas), default=start)
        ends = [start + days[1] * DAY]
        if newest < start + DAY:  # as of now, the last day being young
            ends.append(max(start, newest) + 1 + last % (start + DAY - max(start, newest)))
        for end in ends:
            for lines, measured in zip(
                ((None,), (1, 2)), await measure(empty, start, end), strict=True
            ):
                wanted = integral(deltas, start, end, lines)
                scale = sum(abs(count) for _, count, _ in deltas) * 20 * 86_400
                assert math.isclose(
                    measured.byte_seconds, wanted, rel_tol=1e-12, abs_tol=max(1e-6, scale * 1e-14)
                )
                assert measured.bytes == sum(
                    count for at, count, line in deltas if line in lines and at < end
                )

    return lambda *arguments: loop.run_until_complete(play(*arguments))


async def test_two_folders_at_once_add_every_delta_once(empty):
    chance = random.Random(5)  # no secret
    deltas = []
    for number in range(300):
        at, count = START + chance.randrange(5 * DAY), chance.randrange(10**9)
        await add(empty, number, at, count, chance.choice([None, 1]))
        deltas.append(count)
    other = Usage(empty.database, empty.clock, empty.access)

    folded = await asyncio.gather(*(each.fold() for each in (empty.usage, other) * 3))

    assert sum(folded) == 300
    measured = await measure(empty, START, START + 5 * DAY)
    assert sum(each.bytes for each in measured) == sum(deltas)


def test_a_period_is_of_whole_days():
    days = Period.of_days(date(2026, 2, 1), date(2026, 2, 28))

    assert days == Period.of_month("2026-02")
    assert (days.first, days.last) == (date(2026, 2, 1), date(2026, 2, 28))


async def test_a_push_that_was_collected_after_six_hours_costs_six_hours(empty):
    actor = await empty.token("org", "acme")
    begun_at = empty.clock.now()
    digest = await empty.upload(actor, address("acme/app"), b"x" * 1_000)
    ((organisation, repository),) = await empty.rows(
        "SELECT organisation_id, id FROM repositories WHERE path = 'app'"
    )
    await empty.usage.fold()
    empty.clock.advance(6 * HOUR)

    async def collect(tx):
        await accounts.lost(
            tx,
            organisation_id=organisation,
            repository_id=repository,
            sizes={str(digest): 1_000},
            now=empty.clock.now(),
            ids=(new_id(), new_id()),
        )

    await empty.database.write(collect)
    empty.clock.advance(DAY)

    period = Period(begun_at - begun_at % DAY, empty.clock.now())
    for fold in (False, True):  # folded or not, it is the same
        if fold:
            await empty.usage.fold()
        async with empty.database.read() as tx:
            of_organisation, of_repositories = await usage_rows.measure(tx, organisation, period)
        assert of_organisation == of_repositories
        assert of_organisation.bytes == 0
        assert of_organisation.byte_seconds == pytest.approx(1_000 * 6 * 3_600, abs=1)
