"""What collection did, what waits for it, and why it does not go yet."""

from dataclasses import dataclass

from entrepot.db import collection, tombstones
from entrepot.db.collection import Waiting
from entrepot.db.database import Database
from entrepot.db.tombstones import Buried
from entrepot.model.access import Actor
from entrepot.model.clock import DAY, SECOND, Clock
from entrepot.services.access import Access
from entrepot.services.collection_guard import CollectionGuard
from entrepot.telemetry.collection import CollectionTally

_DAYS = 30


@dataclass(frozen=True, slots=True)
class Day:
    """What went on a day; `at` is its beginning in µs."""

    at: int
    manifests: int
    links: int
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """All that is known of collection. Times in µs; `stopped` says why nothing is collected.

    `restorable_bytes` need only manifests that can be restored or wait to go, `unused_bytes`
    nothing at all; `objects` are not even in the database any more.
    """

    stopped: str | None
    due: int
    oldest_due_at: int | None
    waiting: list[Waiting]
    restorable_bytes: int
    unused_bytes: int
    objects: Buried
    store_error: str | None
    days: list[Day]


class CollectionStatus:
    """Looks, and changes nothing."""

    def __init__(self, database: Database, clock: Clock, guard: CollectionGuard) -> None:
        self._database = database
        self._clock = clock
        self._guard = guard

    async def look(self) -> CollectionFacts:
        """All of it; walks the queue. Raises Unavailable, StorageFailed."""
        stopped = await self._guard.why_stopped()
        now = self._clock.now()
        async with self._database.read(scan=True) as tx:
            due, oldest = await collection.count_due(tx, now=now)
            return CollectionFacts(
                stopped=stopped,
                due=due,
                oldest_due_at=oldest if due else None,
                waiting=await collection.find_waiting(tx, now=now),
                restorable_bytes=await collection.count_restorable_bytes(tx),
                unused_bytes=await collection.count_unused_bytes(tx),
                objects=await tombstones.count(tx),
                store_error=await tombstones.find_error(tx),
                days=[
                    Day(day * DAY, *counts)
                    for day, *counts in await collection.find_days(tx, limit=_DAYS)
                ],
            )

    async def publish(self, tally: CollectionTally) -> None:
        """Let the metrics say what waits. Raises Unavailable, StorageFailed."""
        stopped = await self._guard.why_stopped()
        now = self._clock.now()
        async with self._database.read(scan=True) as tx:
            due, oldest = await collection.count_due(tx, now=now)
            buried = await tombstones.count(tx)
        tally.waits(
            due=due,
            oldest_due_seconds=max(0, now - oldest) / SECOND if due else 0,
            waiting_bytes=buried.size,
            is_stopped=stopped is not None,
        )


class CollectionReport:
    """The same for server administrators."""

    def __init__(self, database: Database, access: Access, status: CollectionStatus) -> None:
        self._database = database
        self._access = access
        self._status = status

    async def get(self, actor: Actor) -> CollectionFacts:
        """All of it. Raises Unauthenticated, Denied, Unavailable, StorageFailed."""
        async with self._database.read() as tx:
            await self._access.administer(tx, actor)
        return await self._status.look()
