"""Work that comes round: every worker runs its jobs, each at its own pace, until it stops."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from entrepot.model.errors import EntrepotError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do again and again; it may run on several workers at once."""

    name: str
    every_seconds: float
    work: Callable[[], Awaitable[object]]


async def run(job: Job) -> None:
    """Run a job at once and then at its pace, until cancelled.

    A failure is left for the next round: nothing may depend on when a job succeeds. A job that
    fails while it is being cancelled hides that it was, so the task is asked.
    """
    task = asyncio.current_task()
    while True:
        try:
            await job.work()
        except EntrepotError as error:
            log.warning("job.failed", job=job.name, error=error.message, **error.values)
        except Exception:  # a mistake of ours, and no reason to give up the job
            log.exception("job.failed", job=job.name)
        if task is not None and task.cancelling():
            return
        await asyncio.sleep(job.every_seconds)
