"""When manifests were last pulled: written in batches, never on a pull."""

from itertools import groupby
from operator import itemgetter

from entrepot.db import manifests
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import HOUR, Clock

_MOST = 100_000  # manifests between two writes; what comes later is noted the next time
_AT_ONCE = 100  # of one transaction, so that nobody waits long for it


class LastPulls:
    """Notes pulls; `flush` writes them, at most once an hour for each manifest.

    A crash takes a minute of it, no more.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._pulled: set[tuple[int, str]] = set()

    def note(self, repository_id: int, digest: str) -> None:
        """Somebody pulled this manifest just now."""
        if len(self._pulled) < _MOST:
            self._pulled.add((repository_id, digest))

    async def flush(self) -> int:
        """Write what was noted since the last time; how many manifests. Raises Unavailable."""
        pulled, self._pulled = self._pulled, set()
        left = sorted(pulled)
        try:
            while left:
                await self._write(left[:_AT_ONCE])
                del left[:_AT_ONCE]
        finally:
            self._pulled.update(left)  # the next time has them
        return len(pulled)

    async def _write(self, pulled: list[tuple[int, str]]) -> None:
        now = self._clock.now()

        async def work(tx: Transaction) -> None:
            for repository_id, some in groupby(pulled, itemgetter(0)):
                digests = [digest for _, digest in some]
                await manifests.note_pulls(tx, repository_id, digests, at=now, step=HOUR)

        await self._database.write(work, durable=False)
