"""Removing what the dead left of their fetches: rows that do not move, spools without a writer."""

import asyncio

from entrepot.db import fetches
from entrepot.db.database import Transaction
from entrepot.db.fetches import FetchRow
from entrepot.services.fetch_ends import bury
from entrepot.services.fetch_lead import Means

_SECONDS = 60.0  # without a beat; whoever wanted the blob has taken the fetch over long before
_MOST = 1_000


class FetchSweep:
    """Remembers, from one round to the next, what it saw."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._seen: dict[tuple[str, int], float] = {}

    async def sweep(self) -> int:
        """Remove what is left; how much that was. Raises Unavailable, StorageFailed."""
        now = asyncio.get_running_loop().time()
        async with self._means.database.read(scan=True) as tx:
            rows = await fetches.find_all(tx, limit=_MOST)
        self._seen = {key: self._seen.get(key, now) for key in ((row.id, row.beat) for row in rows)}
        removed = 0
        for row in rows:
            if now - self._seen[row.id, row.beat] < _SECONDS:
                continue
            removed += await self._remove_row(row)
        if len(rows) < _MOST:
            removed += self._remove_spools({row.id for row in rows})
        return removed

    async def _remove_row(self, row: FetchRow) -> bool:
        """Whether the fetch is at its end, by us or by itself."""

        async def work(tx: Transaction) -> bool:
            if await fetches.delete_dead(tx, row):
                due_at = self._means.clock.now() + self._means.limits.delay
                await bury(tx, row.id, row.digest, due_at=due_at)
            return await fetches.find_by_id(tx, row.id) is None

        return await self._means.database.write(work, durable=False)

    def _remove_spools(self, known: set[str]) -> int:
        """Those that no row names and nobody writes: writers hold theirs before they have a row."""
        names = self._means.spools.names()
        return sum(self._means.spools.remove_left(name) for name in names if name not in known)
