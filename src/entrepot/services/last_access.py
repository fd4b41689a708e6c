"""When pull-through repositories were last read: written in batches, never on a pull."""

from entrepot.db import mirrored
from entrepot.db.database import Database
from entrepot.model.clock import Clock

_MOST = 100_000  # repositories between two writes; who comes later is noted the next time


class LastAccess:
    """Notes reads; `flush` writes them. A crash takes a minute of it, no more."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._read: set[int] = set()

    def note(self, repository_id: int) -> None:
        """Somebody who may read this repository did so just now."""
        if len(self._read) < _MOST:
            self._read.add(repository_id)

    async def flush(self) -> int:
        """Write what was noted since the last time; how many repositories. Raises Unavailable."""
        read, self._read = self._read, set()
        if not read:
            return 0
        now = self._clock.now()
        try:
            await self._database.write(
                lambda tx: mirrored.note_accesses(tx, read, at=now), durable=False
            )
        except Exception:
            self._read |= read  # the next batch has them
            raise
        return len(read)
