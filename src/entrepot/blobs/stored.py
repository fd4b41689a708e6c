"""Objects that lie elsewhere: streamed to a reader, or fetched by it from there."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from entrepot.blobs.answers import Arriving, File
from entrepot.model.errors import ObjectMissing
from entrepot.model.stored import Segment

_USUAL_BYTES = 1024 * 1024  # what readers of a whole blob ask for each time

_ending: set[asyncio.Task[None]] = set()  # the loop itself does not hold its tasks


class Source(Protocol):
    """A store that objects are read from over the network."""

    def read(self, key: str, start: int, stop: int, size: int) -> AsyncGenerator[bytes, None]:
        """Bytes from `start` up to `stop` of an object that is `size` long, in pieces.

        Raises ObjectMissing, StorageFailed, Unavailable: then the bytes do not end there.
        """

    async def sign(self, key: str, seconds: int) -> str:
        """An address that answers a GET of the object for so long, to whoever has it.

        Nothing is asked of the store, but its keys may have to be fetched. Raises StorageFailed.
        """


class Stored:
    """The bytes of one object, or of several that follow each other.

    Nothing is asked of the store before the first piece is wanted; while pieces are wanted in
    order they come from one request; the first, if it is a small one, from a request of its own.
    `suspect` is called where the bytes turn out not to be there, or not to be what was stored.
    """

    stamp = 0  # nothing but us changes an object that is written once; scrub finds what does

    def __init__(self, source: Source, segments: Sequence[Segment]) -> None:
        self._source = source
        self._segments = segments
        self.size = sum(segment.size for segment in segments)
        self.suspect: Callable[[], object] = _nobody_cares
        self._reading: AsyncGenerator[bytes, None] | None = None
        self._position = self._until = 0
        self._rest = b""

    @property
    def key(self) -> str | None:
        """Where all its bytes are; None while they are in several objects."""
        return self._segments[0].key if len(self._segments) == 1 else None

    def again(self) -> "Stored":
        """The same bytes for another reader."""
        again = Stored(self._source, self._segments)
        again.suspect = self.suspect
        return again

    async def url(self, seconds: int) -> str | None:
        """An address of all its bytes, good for so long; None while they are in several objects.

        Raises StorageFailed.
        """
        if self.key is None:
            return None
        return await self._source.sign(self.key, seconds)

    async def piece(self, start: int, most: int) -> bytes:
        """1 to `most` bytes from `start` on; nothing at the end.

        Raises ObjectMissing, StorageFailed, Unavailable.
        """
        if start >= self.size:
            return b""
        goes_on = self._reading is not None and start == self._position
        if self._reading is None or not goes_on or start == self._until:
            await self._stop()
            # Whoever wants little may want no more: what the store would send in vain is paid for,
            # and the connection with it.
            wants_all = goes_on or most >= _USUAL_BYTES
            self._until = self.size if wants_all else min(start + most, self.size)
            self._reading, self._position = self._between(start, self._until), start
        try:
            piece = self._rest or await anext(self._reading, b"")
        except ObjectMissing:
            self.suspect()
            raise
        piece, self._rest = piece[:most], piece[most:]
        self._position += len(piece)
        return piece

    async def _between(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        for segment in self._segments:
            first = max(0, start - segment.start)
            last = min(segment.size, stop - segment.start)
            if first < last:
                pieces = self._source.read(segment.key, first, last, segment.size)
                async with aclosing(pieces):
                    async for piece in pieces:
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


def _nobody_cares() -> None:
    """Of bytes that no row speaks of yet."""


async def pieces_of(content: File | Arriving, start: int = 0) -> AsyncGenerator[bytes, None]:
    """All bytes from `start` on. Then, or once the generator is closed, nothing is held any more.

    Raises ObjectMissing, StorageFailed, Unavailable.
    """
    if isinstance(content, File):
        with content.path.open("rb") as file:
            while piece := await asyncio.to_thread(os.pread, file.fileno(), _USUAL_BYTES, start):
                yield piece
                start += len(piece)
        return
    try:
        while piece := await content.piece(start, _USUAL_BYTES):
            yield piece
            start += len(piece)
    finally:
        content.close()
