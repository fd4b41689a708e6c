"""Jobs come round, whatever happens to one of their rounds."""

import asyncio

import pytest

from entrepot.jobs import schedule
from entrepot.jobs.schedule import Job
from entrepot.model.errors import Unavailable


@pytest.mark.parametrize("error", [Unavailable("busy"), OSError("gone"), RuntimeError("a mistake")])
async def test_a_job_that_failed_comes_round_again(error):
    rounds = 0
    is_back = asyncio.Event()

    async def work():
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise error
        is_back.set()

    running = asyncio.create_task(schedule.run(Job("test", 0, work)))
    waiting = asyncio.create_task(is_back.wait())
    await asyncio.wait([running, waiting], timeout=10, return_when=asyncio.FIRST_COMPLETED)

    assert is_back.is_set()
    running.cancel()
    waiting.cancel()


async def test_a_job_that_fails_on_being_cancelled_does_not_come_round_again():
    has_begun = asyncio.Event()

    async def work():
        has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            message = "the database is away"
            raise Unavailable(message)

    running = asyncio.create_task(schedule.run(Job("test", 3_600, work)))
    await asyncio.wait_for(has_begun.wait(), 10)
    running.cancel()

    done, _ = await asyncio.wait([running], timeout=10)

    assert done
