"""How far a blob has come, as this process sees it, for all who read it here."""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable

from entrepot.blobs.spool import Spool, SpoolView
from entrepot.model.errors import EntrepotError, StorageFailed, UpstreamDown

_COPY_BYTES = 1024 * 1024
# What was written last is kept for readers that are about as fast as the upstream: they all get
# the same bytes, and the file is read for the slower ones alone.
_RECENT_BYTES = 8 * 1024 * 1024
_RECENT_PIECES = 512  # small ones weigh more than their bytes
# All readers' pieces together. The server keeps copies, up to 16 pieces or 400 KiB of each client:
# a thousand took 970 MB with 16 MiB and 64 KiB here, and take 270 MB in the same time so.
_SHARED_BYTES = 4 * 1024 * 1024
_LEAST_BYTES = 16 * 1024


class Progress:
    """A blob that arrives in a spool, whoever writes that.

    `size` is what the upstream announced, None while nobody knows. Bytes may be given out up to
    `open_to`: the last one only once the digest of all was seen to be right.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self.written = 0
        self.is_right = False
        self.failure: EntrepotError | None = None
        self.readers = 0
        self._announced = asyncio.Event()
        self._view: SpoolView | None = None
        self._recent: list[tuple[int, bytes]] = []  # with where they begin, in order
        self._recent_bytes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_over = False

    @property
    def is_announced(self) -> bool:
        """Whether the upstream has answered, or it is known that it will not."""
        return self._announced.is_set()

    @property
    def open_to(self) -> int:
        """The end of what may be given out."""
        if self.is_right:
            return self.written
        end = self.written if self.size is None else min(self.written, self.size)
        return end - 1 if self.size is None or end == self.size else end

    def announce(self, size: int | None) -> None:
        """The upstream has answered: its blob has `size` bytes, if it says so."""
        self.size = size
        self._announced.set()

    def read_from(self, view: SpoolView) -> None:
        """Where the bytes are; what was given out before is the same there."""
        old, self._view = self._view, view
        if old is not None:
            old.close()

    def reach(self, written: int, *, is_right: bool = False) -> None:
        """So many bytes are there; with `is_right` these are all, and they are what was asked."""
        self.written = written
        if is_right:
            self.is_right = True
            self.announce(written)
        self._wake()

    def remember(self, start: int, piece: bytes) -> None:
        """Keep what is being written at `start` for a while."""
        self._recent.append((start, piece))
        self._recent_bytes += len(piece)
        gone = 0
        while self._recent_bytes > _RECENT_BYTES or len(self._recent) - gone > _RECENT_PIECES:
            self._recent_bytes -= len(self._recent[gone][1])
            gone += 1
        del self._recent[:gone]

    def fail(self, failure: EntrepotError) -> None:
        """No more bytes will come."""
        if not self.is_right and self.failure is None:
            self.failure = failure
            self._announced.set()
            self._wake()

    def end(self) -> None:
        """The fetch is over; what was read so far can be read until its last reader goes."""
        self.fail(UpstreamDown("the fetch of this blob was stopped; try again"))
        self._is_over = True
        self._close_if_unused()

    async def announced(self) -> None:
        """Wait until the size is known as well as it will be. Raises what made the fetch fail."""
        await self._announced.wait()
        if self.failure is not None:
            raise again(self.failure)

    async def beyond(self, start: int) -> None:
        """Wait until there are bytes from `start` on, or there never will be.

        Raises what made the fetch fail.
        """
        while self.open_to <= start and not self.is_right:
            if self.failure is not None:
                raise again(self.failure)
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def recent(self, start: int, most: int) -> bytes:
        """Bytes from `start` on that came just now; nothing when those are in the file alone."""
        found = bisect_right(self._recent, start, key=_begin) - 1
        if found < 0:
            return b""
        begin, piece = self._recent[found]
        skip, most = start - begin, min(most, self.open_to - start)
        if skip == 0 and len(piece) <= most:
            return piece
        return piece[skip : skip + most]

    async def read(self, start: int, most: int) -> bytes:
        """Bytes from `start` on that are there, from the file. Raises StorageFailed."""
        view = self._view
        piece = await view.read(start, min(most, self.open_to - start)) if view else b""
        if not piece:
            # Never taken for the end: that would complete an answer that is not.
            message = "a spool is shorter than what was written to it; try again"
            raise StorageFailed(message, at=start)
        return piece

    async def copy_into(self, spool: Spool) -> None:
        """Have another spool begin with what was given out so far. Raises StorageFailed."""
        while spool.size < self.written and self._view is not None:
            missing = self.written - spool.size
            await spool.append(await self._view.read(spool.size, min(missing, _COPY_BYTES)))

    def join(self) -> None:
        """One more reader."""
        self.readers += 1

    def leave(self) -> None:
        """One less."""
        self.readers -= 1
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_over and self.readers == 0 and self._view is not None:
            self._view.close()
            self._view = None
            self._recent.clear()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


async def _require_nothing() -> None:
    """For readers that were let in before."""


class Reader:
    """One reader's way through a blob that arrives (`blobs.answers.Arriving`).

    `require` raises while the reader may not have what is there.
    """

    def __init__(
        self,
        progress: Progress,
        require: Callable[[], Awaitable[None]] = _require_nothing,
    ) -> None:
        self._progress = progress
        self._require = require
        self._is_closed = False
        progress.join()

    @property
    def size(self) -> int | None:
        """How long the blob will be, if anybody said so."""
        return self._progress.size

    async def piece(self, start: int, most: int) -> bytes:
        """1 to `most` bytes from `start` on, once they are there; nothing at the end.

        Fewer where many read, because the server has each one's piece in memory. Raises what made
        the fetch fail, or what `require` raises: the answer must break off then.
        """
        progress = self._progress
        if progress.open_to <= start:
            await progress.beyond(start)
            if start >= progress.open_to:
                return b""
        most = min(most, max(_LEAST_BYTES, _SHARED_BYTES // progress.readers))
        piece = progress.recent(start, most) or await progress.read(start, most)
        await self._require()  # last: the bytes are those of who led until now
        return piece

    def close(self) -> None:
        """The reader wants no more."""
        if not self._is_closed:
            self._is_closed = True
            self._progress.leave()


def again(error: EntrepotError) -> EntrepotError:
    """An error for one more of its hearers: each raises an object of its own."""
    copy = type(error)(error.message, **error.values)
    copy.__cause__ = error
    return copy


def _begin(piece: tuple[int, bytes]) -> int:
    return piece[0]
