"""A database that a test asks again and again: opened once, since that takes longer than most asks.

The tests wait for it outside of any event loop, so it lives in one of its own, in a thread.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

from entrepot.db.connect import connect
from entrepot.db.database import Database

T = TypeVar("T")


class KeptDatabase:
    """Open as long as the context is."""

    def __init__(self, url: str) -> None:
        self._database = connect(url, pool_size=1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.ask(lambda database: database.open())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.ask(lambda database: database.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def ask(self, use: Callable[[Database], Awaitable[T]]) -> T:
        """What comes of using it."""

        async def run() -> T:
            return await use(self._database)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
