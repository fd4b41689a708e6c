"""Bytes on their way into an object: one request for few, else a multipart upload.

obstore can neither give a multipart upload up from outside nor tell where it stands. What it can do
is read an iterator, and abort when that raises: so a sending is never cancelled, it is broken off.
"""

import asyncio
from collections.abc import AsyncIterator

import structlog

from entrepot.blobs.objects_faults import (
    REFUSALS,
    meant_by,
    pauses,
    read_refusal,
    store_faults,
)
from entrepot.blobs.objects_place import Way
from entrepot.blobs.threads import finish, settle
from entrepot.model.errors import StorageFailed

MIB = 1024 * 1024
_LEAST_PART = 5 * MIB  # S3 takes no less, but for the last one
MOST_PARTS = 9_000  # S3 takes 10,000
# On their way at once, of all objects together: one alone would wait for each answer, and many at
# once need no more than one each. Each is in memory.
_PARTS_TOGETHER = 4
_LOOKS = 6  # at an object that was just sent: some stores show it a moment later

log = structlog.get_logger()


class _BrokenOffError(Exception):
    """The bytes that came must not become an object."""


class _ClosedError(Exception):
    """The sending has ended before all bytes were given to it."""


def part_bytes(length: int) -> int:
    """How large the parts of an object are that is to be as long as that.

    Of equal size, because some stores want them so, and no larger than they have to be: they are in
    memory on their way.
    """
    return max(_LEAST_PART, -(-length // (MOST_PARTS * MIB)) * MIB)


class Sender:
    """Puts objects; `asks` is the way to look at what was put."""

    def __init__(self, sends: Way, asks: Way) -> None:
        self._sends = sends
        self._asks = asks
        self._running = 0

    async def put(self, name: str, buffers: AsyncIterator[bytes], part: int) -> int:
        """Make an object of what comes; how long it is. None is made of nothing.

        It is there, and whole, when this returns. Raises StorageFailed, Unavailable.
        """
        first: list[bytes] = []
        size = 0
        async for buffer in buffers:
            first.append(buffer)
            size += len(buffer)
            if size >= part:
                break
        else:
            if size:
                await self._put_once(name, b"".join(first))
            return size
        return await self._put_parts(name, first, buffers, part)

    async def put_empty(self, name: str) -> None:
        """Make an object of no bytes. Raises StorageFailed, Unavailable."""
        await self._put_once(name, b"")

    async def _put_once(self, name: str, content: bytes) -> None:
        try:
            await self._sends.put_async(name, content, use_multipart=False)
        except REFUSALS as error:
            await self._require_put(error, name, len(content))
        else:
            await self._find(name, len(content))

    async def _put_parts(
        self, name: str, first: list[bytes], buffers: AsyncIterator[bytes], part: int
    ) -> int:
        self._running += 1
        feed, size = _Feed(), 0
        at_once = max(1, _PARTS_TOGETHER // self._running)
        sending = asyncio.ensure_future(
            self._sends.put_async(
                name, feed, use_multipart=True, chunk_size=part, max_concurrency=at_once
            )
        )
        sending.add_done_callback(feed.close)
        sending.add_done_callback(self._ended)
        try:
            while first:
                size += len(first[0])
                await feed.give(first.pop(0))
            async for buffer in buffers:
                size += len(buffer)
                await feed.give(buffer)
            await feed.give(None)
        except _ClosedError:
            with store_faults("store an object", name):
                await sending
            raise
        except BaseException:
            feed.break_off()
            await settle(sending)
            raise
        try:
            await finish(sending)
        except REFUSALS as error:
            await self._require_put(error, name, size)
        else:
            await self._find(name, size)
        return size

    def _ended(self, _sending: object) -> None:
        self._running -= 1

    async def _require_put(self, error: Exception, name: str, size: int) -> None:
        """Raise what `error` means, unless all is there: the answer alone was lost."""
        try:
            found = await self._asks.head_async(name)
        except REFUSALS:
            found = None
        if found is None or found["size"] != size:
            raise meant_by(error, "store an object", name) from None
        log.warning("object.confirmed", key=name, store=read_refusal(error).words)

    async def _find(self, name: str, size: int) -> None:
        """Raise StorageFailed unless the object is there and whole: a 200 may be a lie."""
        for wait in (0.0, *pauses(_LOOKS - 1)):
            await asyncio.sleep(wait)
            with store_faults("look at a new object", name):
                try:
                    found = await self._asks.head_async(name)
                except FileNotFoundError:
                    continue
            if found["size"] == size:
                return
            message = "the registry's object store kept another number of bytes; try again"
            raise StorageFailed(message, key=name, size=size, found=found["size"])
        message = "the registry's object store does not have what it confirmed; try again"
        raise StorageFailed(message, key=name, size=size)


class _Feed:
    """Buffers for obstore, which asks for the next when it has room."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._is_closed = False
        self._is_broken = False

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> bytes:
        if self._is_broken:
            raise _BrokenOffError
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.set()
        buffer = await self._answer
        if buffer is None:
            raise StopAsyncIteration
        return buffer

    async def give(self, buffer: bytes | None) -> None:
        """Hand over a buffer, or the end, once it is wanted. Raises _ClosedError."""
        await self._asked.wait()
        if self._is_closed:
            raise _ClosedError
        self._asked.clear()
        self._answer.set_result(buffer)

    def close(self, _sending: object) -> None:
        """Nobody asks any more."""
        self._is_closed = True
        self._asked.set()

    def break_off(self) -> None:
        """Have the sending fail, now or when it asks."""
        self._is_broken = True
        if not self._answer.done():
            self._answer.set_exception(_BrokenOffError())
