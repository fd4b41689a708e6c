"""Letting mirrored blobs go that nobody reads; their upstream has them still.

Only links go, as by a deletion: rows are marked, which counts no bytes yet, and reviews are queued,
due at once. Objects go by collection alone.
"""

from dataclasses import dataclass

import structlog

from entrepot.db import collection, eviction
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import Clock
from entrepot.telemetry.observe import Observe, ignore

_BATCH = 100  # links of one transaction
_PAGE = 100  # repositories of one look

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EvictionLimits:
    """`idle` is in µs since somebody last read the repository; `most_bytes` None for no budget."""

    idle: int
    most_bytes: int | None = None


class Eviction:
    """Takes blobs out of pull-through repositories: of idle ones, and down to a budget."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        limits: EvictionLimits,
        observe: Observe = ignore,
    ) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits
        self._observe = observe

    async def sweep(self) -> int:
        """Let go what may leave now; how many blobs. Raises Unavailable."""
        return await self._of_idle() + await self._beyond_budget()

    async def _of_idle(self) -> int:
        evicted = 0
        while gone := await self._next(self._clock.now() - self._limits.idle, _PAGE):
            evicted += gone
        return evicted

    async def _beyond_budget(self) -> int:
        evicted = 0
        while await self._is_beyond_budget():
            gone = await self._next(self._clock.now() + 1, 1)  # whenever it was read
            if not gone:
                break
            evicted += gone
        return evicted

    async def _is_beyond_budget(self) -> bool:
        if self._limits.most_bytes is None:
            return False
        async with self._database.read(scan=True) as tx:
            return await eviction.count_bytes(tx) > self._limits.most_bytes

    async def _next(self, idle_since: int, limit: int) -> int:
        """Evict from the repositories that were read longest ago, before then; how many blobs."""
        async with self._database.read(scan=True) as tx:
            found = await eviction.find_idle(
                tx, idle_since=idle_since, now=self._clock.now(), limit=limit
            )
        evicted = 0
        for repository_id in found:
            evicted += await self._all_of(repository_id, idle_since)
        return evicted

    async def _all_of(self, repository_id: int, idle_since: int) -> int:
        """Let go what may leave of a repository that nobody has read since then; how many blobs."""
        evicted = 0
        while True:
            now = self._clock.now()

            async def work(tx: Transaction, now: int = now) -> int:
                digests = await eviction.delete_links(
                    tx, repository_id, idle_since=idle_since, now=now, limit=_BATCH
                )
                for digest in digests:
                    await collection.review(tx, "link", repository_id, digest, due_at=now)
                return len(digests)

            gone = await self._database.write(work, durable=False)
            evicted += gone
            if gone < _BATCH:
                break
        if evicted:
            self._observe("evicted", evicted)
            log.info("blobs.evicted", repository_id=repository_id, blobs=evicted)
        return evicted
