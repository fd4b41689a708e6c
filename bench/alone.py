"""A piece of Entrepot's work in a process of its own: `python -m bench.alone WORK [ARGUMENT]…`.

The pieces are put together as a server does it, on the folder and the database that the settings in
the environment name; no server need run. The last line printed is a JSON object of figures:
`seconds`, and `grown`, the MB by which the work has raised the memory of this process.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from bench.lifecycle_seed import (
    age_tags,
    count_waiting,
    find_repository,
    last_push,
    make_due,
    seed_unused,
)
from entrepot.blobs.store import BlobStore
from entrepot.config import Settings, load
from entrepot.db.connect import connect
from entrepot.db.database import Database
from entrepot.db.retention import find_policies
from entrepot.db.timed import TimedDatabase
from entrepot.lifecycle import Lifecycle, make_scrub
from entrepot.model.clock import DAY, SECOND, Clock, SystemClock
from entrepot.model.retention import Retention
from entrepot.model.retention_rules import DEFAULT_DAYS
from entrepot.parts import make_store
from entrepot.services.access import Access
from entrepot.services.addresses import Addresses
from entrepot.services.objects import Objects
from entrepot.services.retention_plan import RetentionPlan
from entrepot.telemetry import logs
from entrepot.telemetry.metrics import Metrics

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class _Moment:
    """A clock that stands."""

    moment: int

    def now(self) -> int:
        """See Clock."""
        return self.moment


@dataclass(slots=True)
class _Times:
    """How long the longest write has taken: no lock is held for longer."""

    longest: float = 0

    def add(self, _operation: str, seconds: float) -> None:
        """See Observe."""
        self.longest = max(self.longest, seconds)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a server has."""

    settings: Settings
    database: Database
    store: BlobStore
    writes: _Times

    def lifecycle(self, clock: Clock) -> Lifecycle:
        """All of it, as a server has it."""
        access = Access(clock, Addresses(self.database))
        return Lifecycle(
            self.settings, clock, self.database, self.store, self.objects, Metrics(), access
        )

    @property
    def objects(self) -> Objects:
        """The objects of the store."""
        return Objects(self.database, self.store, SystemClock())


@asynccontextmanager
async def _opened() -> AsyncIterator[_Parts]:
    settings, times = load(), _Times()
    database = TimedDatabase(connect(settings.database.url), times.add)
    parts = _Parts(settings, database, make_store(settings), times)
    await database.open()
    try:
        yield parts
    finally:
        await database.close()
        parts.store.close()


@contextmanager
def _measured(figures: Figures) -> Iterator[None]:
    before, started = _peak(), time.perf_counter()
    yield
    figures["seconds"] = time.perf_counter() - started
    figures["grown"] = (_peak() - before) / 1e6


def _peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def _seed(
    parts: _Parts, repository: str, count: str, size: str, wait: str, *stages: str
) -> Figures:
    """Have `count` blobs that nothing needs, and that are collected in `wait` seconds."""
    await seed_unused(
        parts.database,
        parts.settings.blobs.folder,
        await find_repository(parts.database, repository),
        stages=stages,
        count=int(count),
        size=int(size),
        now=SystemClock().now(),
        wait=int(wait) * SECOND,
    )
    return {}


async def _hurry(parts: _Parts) -> Figures:
    """Have all of them collected now."""
    await make_due(parts.database, now=SystemClock().now())
    return {}


async def _waiting(parts: _Parts) -> Figures:
    """How much collection has to do."""
    return {"count": await count_waiting(parts.database, now=SystemClock().now())}


async def _collect(parts: _Parts) -> Figures:
    """Collect until nothing is left."""
    figures: Figures = {}
    collection = parts.lifecycle(SystemClock()).collection
    with _measured(figures):
        done = await collection.run()
    return figures | {"links": done.links, "blobs": done.blobs, "objects": done.objects}


async def _plan(parts: _Parts, repository: str) -> Figures:
    """Plan what goes by the default policy a day after that would be everything."""
    figures: Figures = {"tags": 0}
    key = await find_repository(parts.database, repository)
    policy = Retention(days=DEFAULT_DAYS)
    plan = RetentionPlan(parts.database, policy, restore=DAY)
    async with parts.database.read() as tx:
        policies = await find_policies(tx, key)
    assert policies is not None
    now = await last_push(parts.database, key) + (DEFAULT_DAYS + 1) * DAY
    with _measured(figures):
        rules = await plan.rules(policies, policy, now)
        async for going in plan.going(key, rules):
            figures["tags"] += len(going.tags)
    return figures


async def _retain(parts: _Parts, repository: str, first: str, end: str) -> Figures:
    """Have a sweep delete the tags from `first` until before `end`."""
    figures: Figures = {}
    key = await find_repository(parts.database, repository)
    now = await last_push(parts.database, key) + SECOND
    await age_tags(parts.database, key, first=first, end=end, by=30 * DAY)
    os.sync()  # the first checkpoint would wait for all that was copied and aged
    parts.writes.longest = 0
    retention = parts.lifecycle(_Moment(now)).retention_run
    with _measured(figures):
        figures["tags"] = await retention.sweep()
    return figures | {"longest": parts.writes.longest * 1000}


async def _fold(parts: _Parts) -> Figures:
    """Fold what usage is made of."""
    figures: Figures = {}
    usage = parts.lifecycle(SystemClock()).usage
    with _measured(figures):
        figures["deltas"] = await usage.fold()
    return figures | {"longest": parts.writes.longest * 1000}


async def _unscrub(parts: _Parts) -> Figures:
    """Have every object be due for scrub."""
    await parts.database.write(lambda tx: tx.execute("UPDATE blobs SET scrubbed_at = 0"))
    return {}


async def _scrub(parts: _Parts) -> Figures:
    """Read every object that is due."""
    figures: Figures = {"bytes": 0, "bad": 0}
    scrub = make_scrub(parts.settings, SystemClock(), parts.database, parts.objects)
    with _measured(figures):
        async for scrubbed in scrub.due():
            figures["bytes"] += scrubbed.size
            figures["bad"] += scrubbed.outcome != "ok"
    return figures


_WORKS: dict[str, Callable[..., Awaitable[Figures]]] = {
    "seed": _seed,
    "hurry": _hurry,
    "waiting": _waiting,
    "collect": _collect,
    "plan": _plan,
    "retain": _retain,
    "fold": _fold,
    "unscrub": _unscrub,
    "scrub": _scrub,
}


async def _main(work: str, *arguments: str) -> Figures:
    async with _opened() as parts:
        return await _WORKS[work](parts, *arguments)


if __name__ == "__main__":
    logs.configure("error")
    print(json.dumps(asyncio.run(_main(*sys.argv[1:]))))
