"""Any database, with the time of its writes observed."""

import time
from contextlib import AbstractAsyncContextManager

from entrepot.db.database import Database, T, Transaction, Work
from entrepot.telemetry.observe import Observe


class TimedDatabase:
    """Passes everything on. Reads are not timed: it would cost a good part of a read."""

    def __init__(self, database: Database, observe: Observe) -> None:
        self._database = database
        self._observe = observe
        self.open = database.open
        self.close = database.close
        self.maintain = database.maintain

    def read(self, *, scan: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """See Database."""
        return self._database.read(scan=scan)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """See Database."""
        started = time.perf_counter()
        try:
            return await self._database.write(work, durable=durable)
        finally:
            operation = "durable" if durable else "relaxed"
            self._observe(operation, time.perf_counter() - started)
