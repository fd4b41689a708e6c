"""An upload to an object store: each body becomes a segment, an object of its own.

Nothing is locked and nothing is written twice: each attempt has a name that no other has, and the
database says whose counts.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from entrepot.blobs.batches import Batches
from entrepot.blobs.objects_send import MIB, MOST_PARTS, part_bytes
from entrepot.blobs.readback import Found
from entrepot.blobs.store import Placed
from entrepot.model.errors import EntrepotError, ObjectMissing, StorageFailed
from entrepot.model.stored import Segment, segments_key

if TYPE_CHECKING:
    from hashlib import _Hash

# Of many requests at once. What does not fit into an object of such parts, 151 GB, becomes several
# segments; without a length the parts are small, and a segment ends at 47 GB.
_LARGEST_PART = 16 * MIB


class SegmentStore(Protocol):
    """What an upload needs of its store."""

    async def put(self, key: str, buffers: AsyncIterator[bytes], part: int) -> int:
        """Make an object of what comes; how long it is. None is made of nothing."""

    async def put_empty(self, key: str) -> None:
        """Make an object of no bytes."""

    async def read_back(self, segments: Sequence[Segment], algorithm: str) -> Found:
        """What the bytes of objects are now."""

    def remove(self, key: str) -> None:
        """Delete an object; may block."""


class SegmentUpload:
    """One request's way of adding to an upload."""

    def __init__(self, key: str, store: SegmentStore, executor: Executor) -> None:
        self._key = key
        self._store = store
        self._executor = executor
        self._acknowledged: tuple[Segment, ...] = ()
        self._added: list[Segment] = []

    def open(self, *, is_new: bool) -> None:
        """There is nothing to lock."""

    def resume(self, size: int, segments: Sequence[Segment]) -> None:
        """Go on behind these segments. Raises ObjectMissing where they end elsewhere.

        Who only adds needs no more than the last one.
        """
        found = segments[-1].start + segments[-1].size if segments else 0
        if found != size:
            message = "the upload's bytes are gone; start it again"
            raise ObjectMissing(message, size=size, found=found)
        self._acknowledged = tuple(segments)

    async def append(
        self,
        pieces: AsyncIterator[bytes],
        offset: int,
        hashes: "list[_Hash]",
        length: int | None = None,
    ) -> tuple[int, EntrepotError | None]:
        """Make segments of what arrives, and feed it to `hashes`.

        While one batch is received, the one before is hashed in a thread, and what is full is on
        its way to the store. Bytes that came before a broken connection count. Raises
        StorageFailed, Unavailable: then nothing that came counts, and nothing of it is left; what
        cannot be removed now goes with the upload's end.
        """
        try:
            return await self._append(pieces, offset, hashes, length)
        except BaseException:
            with suppress(EntrepotError):
                await self.discard()
            raise

    async def _append(
        self,
        pieces: AsyncIterator[bytes],
        offset: int,
        hashes: "list[_Hash]",
        length: int | None,
    ) -> tuple[int, EntrepotError | None]:
        arriving = Batches(pieces)
        buffers = self._hashed(arriving, hashes)
        part = min(part_bytes(length or 0), _LARGEST_PART)
        is_full = True
        while is_full:
            key = f"{self._key}.{secrets.token_hex(4)}"
            body = _Limited(buffers, part * MOST_PARTS)
            size = await self._store.put(key, body, part)
            if size:
                self._added.append(Segment(offset, size, key))
                offset += size
            is_full = body.is_full
        return offset, arriving.stopped

    async def _hashed(self, batches: Batches, hashes: "list[_Hash]") -> AsyncGenerator[bytes, None]:
        """Each batch in one buffer, hashed while the next one arrives."""
        loop = asyncio.get_running_loop()
        working: asyncio.Future[bytes] | None = None
        async for batch in batches:
            if working is not None:
                yield await working
            working = loop.run_in_executor(self._executor, _join, batch, hashes)
        if working is not None:
            yield await working

    @property
    def added(self) -> Sequence[Segment]:
        """The segments that `append` made."""
        return tuple(self._added)

    async def digest(self, algorithm: str, size: int) -> str:
        """The hex digest of all segments, read back. Raises StorageFailed, Unavailable."""
        found = await self._store.read_back(self._segments(), algorithm)
        if found.size != size:
            message = "the upload's segments are not as long as what was written"
            raise StorageFailed(message, size=size, found=found.size)
        return found.hex

    async def commit(self) -> Placed:
        """The segments are there for good already: say under which key the blob is."""
        segments = self._segments()
        if not segments:
            key = f"{self._key}.{secrets.token_hex(4)}"
            await self._store.put_empty(key)
            return Placed(key, 0)
        if segments[0].start:
            message = "an upload ends with all of its segments"
            raise ValueError(message)
        return Placed(segments[0].key if len(segments) == 1 else segments_key(self._key), 0)

    async def discard(self) -> None:
        """Remove the segments that nobody acknowledged."""
        known = {segment.key for segment in self._acknowledged}
        lost = [segment.key for segment in self._added if segment.key not in known]
        self._added.clear()
        for key in lost:
            await asyncio.get_running_loop().run_in_executor(
                self._executor, self._store.remove, key
            )

    async def close(self) -> None:
        """Nothing is held."""

    def _segments(self) -> list[Segment]:
        """Acknowledged and added ones; added ones may be acknowledged by now."""
        known = {segment.key for segment in self._acknowledged}
        return [*self._acknowledged, *(own for own in self._added if own.key not in known)]


class _Limited:
    """Buffers up to so many bytes, or just beyond; `is_full` says whether more may follow."""

    def __init__(self, buffers: AsyncGenerator[bytes, None], most: int) -> None:
        self._buffers = buffers
        self._left = most
        self.is_full = False

    def __aiter__(self) -> "_Limited":
        return self

    async def __anext__(self) -> bytes:
        if self._left <= 0:
            self.is_full = True
            raise StopAsyncIteration
        buffer = await anext(self._buffers)
        self._left -= len(buffer)
        return buffer


def _join(batch: list[bytes], hashes: "list[_Hash]") -> bytes:
    buffer = b"".join(batch)
    for running in hashes:
        running.update(buffer)
    return buffer
