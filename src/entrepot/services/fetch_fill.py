"""Filling a spool from pieces as they come: one batch is written while the next is received."""

import asyncio
from collections.abc import AsyncIterator

from entrepot.blobs.spool import Spool
from entrepot.services.fetch_progress import Progress

# What is received while a batch is written: below it the hand-over to a thread costs more than the
# work, above it memory grows for little gain.
_BATCH_BYTES = 2 * 1024 * 1024
_BATCH_PIECES = 512  # an upstream may send bytes one by one, and each costs many more in memory


class Filling:
    """Writes pieces to a spool and tells the progress how far they have come.

    The first piece is written at once, for whoever waits for it; what comes meanwhile is gathered.
    """

    def __init__(self, spool: Spool, progress: Progress) -> None:
        self._spool = spool
        self._progress = progress
        self._batch: list[bytes] = []
        self._gathered = 0
        self._writing: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    async def take(self, pieces: AsyncIterator[bytes]) -> None:
        """Write all pieces; those that came before an error as well.

        Raises StorageFull, StorageFailed, and what ended the pieces.
        """
        try:
            async for piece in pieces:
                self._batch.append(piece)
                self._gathered += len(piece)
                if self._writing is None:
                    self._write()
                elif self._gathered >= _BATCH_BYTES or len(self._batch) >= _BATCH_PIECES:
                    await self._room()
                    await self._spool.sync_ahead()
                if self._failure is not None:
                    raise self._failure
        finally:
            await self._drain()
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        # One piece from here on: each that is handed to a thread or a reader has its price.
        piece = b"".join(self._batch)
        self._batch, self._gathered = [], 0
        self._progress.remember(self._spool.size, piece)
        self._writing = self._spool.append(piece)
        self._writing.add_done_callback(self._written)

    def _written(self, writing: "asyncio.Future[None]") -> None:
        """In the event loop: tell the readers, and go on with what came meanwhile."""
        self._writing = None
        if writing.cancelled():
            return
        if (failure := writing.exception()) is not None:
            self._failure = failure
            return
        self._progress.reach(self._spool.size)
        if self._batch:
            self._write()

    async def _room(self) -> None:
        """Wait until the writer has taken what was gathered."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # a write that had ended before: its callback is still to run

    async def _drain(self) -> None:
        """Wait until nothing is written any more, however often we are cancelled meanwhile."""
        is_cancelled = False
        while self._writing is not None:
            try:
                await self._room()
            except asyncio.CancelledError:
                is_cancelled = True
        if is_cancelled:
            raise asyncio.CancelledError
