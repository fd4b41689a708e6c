"""A manifest that loses its last two tags at once becomes an orphan, whoever comes first."""

import asyncio

import pytest

from tests.faults.test_interleavings import looking, new_name, two_nodes

_SECONDS = 30.0


@pytest.mark.slow
async def test_of_two_tags_that_go_at_once_one_is_the_last(postgres_url, data):
    async with (
        two_nodes(data, postgres_url) as (first, second),
        looking(postgres_url) as is_waiting_or_done,
    ):
        nth, was_reached = 0, True
        while was_reached:
            nth += 1
            name = new_name()
            digest = await first.push_image(name, "v1", "v2")
            first.held.hold_before(nth)
            slow = asyncio.create_task(first.delete_tag(name, "v1"))
            reached = asyncio.create_task(first.held.reached.wait())
            await asyncio.wait([slow, reached], return_when=asyncio.FIRST_COMPLETED)
            was_reached = reached.done()
            reached.cancel()
            quick = asyncio.create_task(second.delete_tag(name, "v2"))
            await is_waiting_or_done(quick)
            first.held.may_go_on.set()
            async with asyncio.timeout(_SECONDS):
                await asyncio.gather(slow, quick)

            async with first.app.database.read() as tx:
                row = await tx.fetch_one(
                    "SELECT orphaned_at FROM manifests WHERE digest = :digest", digest=digest
                )
            assert row is not None
            assert row[0] is not None, f"held before {nth}"
