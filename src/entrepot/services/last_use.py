"""When tokens were last used: kept in memory and written in batches, never on a pull."""

from entrepot.db import tokens
from entrepot.db.database import Database
from entrepot.model.clock import Clock

_MOST = 10_000  # tokens between two writes; who comes later is noted the next time


class LastUse:
    """Notes uses; `flush` writes them. What a crash takes is a minute of it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._used: set[int] = set()

    def note(self, token_id: int) -> None:
        """Somebody used this token just now."""
        if len(self._used) < _MOST:
            self._used.add(token_id)

    async def flush(self) -> int:
        """Write what was noted since the last time; how many tokens. Raises Unavailable."""
        used, self._used = self._used, set()
        if used:
            now = self._clock.now()
            await self._database.write(lambda tx: tokens.note_uses(tx, used, at=now), durable=False)
        return len(used)
