"""Objects that lie elsewhere: streamed to a reader, or fetched by it from there."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from entrepot.model.stored import Segment

_ending: set[asyncio.Task[None]] = set()  # the loop itself does not hold its tasks


class Source(Protocol):
    """A store that objects are read from over the network."""

    def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """An object's bytes from `start` up to `stop`, in pieces.

        Raises ObjectMissing, StorageFailed.
        """

    async def sign(self, key: str, seconds: int) -> str:
        """An address that answers a GET of the object for so long, to whoever has it.

        Nothing is asked of the store, but its keys may have to be fetched. Raises StorageFailed.
        """


class Stored:
    """The bytes of one object, or of several that follow each other.

    Nothing is asked of the store before the first piece is wanted; while pieces are wanted in
    order they come from one request.
    """

    stamp = 0  # nothing but us changes an object that is written once; scrub finds what does

    def __init__(self, source: Source, segments: Sequence[Segment]) -> None:
        self._source = source
        self._segments = segments
        self.size = sum(segment.size for segment in segments)
        self._reading: AsyncGenerator[bytes, None] | None = None
        self._position = 0
        self._rest = b""

    @property
    def key(self) -> str | None:
        """Where all its bytes are; None while they are in several objects."""
        return self._segments[0].key if len(self._segments) == 1 else None

    async def url(self, seconds: int) -> str | None:
        """An address of all its bytes, good for so long; None while they are in several objects.

        Raises StorageFailed.
        """
        if self.key is None:
            return None
        return await self._source.sign(self.key, seconds)

    async def piece(self, start: int, most: int) -> bytes:
        """1 to `most` bytes from `start` on; nothing at the end.

        Raises ObjectMissing, StorageFailed.
        """
        if start >= self.size:
            return b""
        if self._reading is None or start != self._position:
            await self._stop()
            self._reading, self._position = self._from(start), start
        piece = self._rest or await anext(self._reading, b"")
        piece, self._rest = piece[:most], piece[most:]
        self._position += len(piece)
        return piece

    async def _from(self, start: int) -> AsyncGenerator[bytes, None]:
        for segment in self._segments:
            stop = segment.start + segment.size
            if start < stop:
                first = max(0, start - segment.start)
                async for piece in self._source.read(segment.key, first, segment.size):
                    yield piece

    async def _stop(self) -> None:
        reading, self._reading, self._rest = self._reading, None, b""
        if reading is not None:
            await reading.aclose()

    def close(self) -> None:
        """The reader wants no more: the request, if one is open, ends soon."""
        if self._reading is not None:
            ending = asyncio.get_running_loop().create_task(self._stop())
            _ending.add(ending)
            ending.add_done_callback(_ending.discard)


async def pieces_of(stored: Stored, start: int, most: int) -> AsyncIterator[bytes]:
    """All pieces from `start` on, of at most so many bytes."""
    while piece := await stored.piece(start, most):
        yield piece
        start += len(piece)
