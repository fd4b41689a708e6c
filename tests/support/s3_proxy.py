"""A proxy in front of an S3 server that answers badly when it is told to.

with S3Proxy(bucket.server.endpoint).running() as proxy:
    proxy.on("CompleteMultipartUpload", s3_faults.lost_answer())
    proxy.on("UploadPart", s3_faults.refused(503, "SlowDown"), nth=2, times=3)
    store = make_store(bucket.behind(proxy.origin))

Clients sign the host that they connect to. It is passed on as it came, so signatures stay right.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.fault_proxy import Ending
from tests.support.listener import Listener, reset
from tests.support.s3_faults import Fault
from tests.support.s3_lag import Lag
from tests.support.s3_wire import Asked, Head, asked_by

_NONE = Fault("")
_PIECE = 1 << 16


@dataclass(slots=True)
class Exchange:
    """One request: what it asked for, what was done to it, and the status that the client got."""

    asked: Asked
    head: Head
    fault: str = ""
    status: int | None = None
    received: int = 0  # bytes of its body
    sent: int = 0  # bytes of the answer's body

    @property
    def operation(self) -> str:
        """By its name in S3."""
        return self.asked.operation


@dataclass(slots=True)
class _Rule:
    operation: str
    key: re.Pattern[str]
    fault: Fault
    wait: int  # requests until then
    times: int | None
    chance: float


class S3Proxy(Listener):
    """The endpoint of a server, through us. `log` is all that was asked, in order.

    `lag` makes the store agree with itself only after a while.
    """

    def __init__(self, endpoint: str, *, seed: int = 0) -> None:
        super().__init__()
        self.log: list[Exchange] = []
        self.lag: Lag | None = None
        parts = urlsplit(endpoint)
        self._target = (parts.hostname, parts.port)
        self._random = random.Random(seed)
        self._rules: list[_Rule] = []

    def on(
        self,
        operation: str,
        fault: Fault,
        *,
        key: str = "",
        nth: int = 1,
        times: int | None = 1,
        chance: float = 1.0,
    ) -> None:
        """Do this to the nth such request from now, and so many from there; None: all from there.

        `operation` is its name in S3, or "*"; `key` a pattern found in the object's; `chance` how
        many of those that are due.
        """
        self._rules.append(_Rule(operation, re.compile(key), fault, nth - 1, times, chance))

    def mend(self) -> None:
        """Do nothing any more to anything."""
        self._rules.clear()
        self.lag = None

    def count(self, operation: str, *, fault: str | None = None) -> int:
        """How often that was asked for; how often with that fault."""
        return sum(
            one.operation == operation and fault in {None, one.fault} for one in list(self.log)
        )

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass on one request and its answer, or what is planned in their place."""
        request = await Head.read(reader)
        entry = Exchange(asked_by(request), request)
        self.log.append(entry)
        if request.get("expect"):  # the one header that nobody signs
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = request.without("expect")
        fault = self._planned_for(entry.asked)
        if self.lag is not None:
            await self._catch_up(self.lag)
            fault = fault or self.lag.judge(entry.asked, request)
        fault = fault or Fault("")
        entry.fault = fault.name
        if fault.instead is None:
            is_whole = await self._ask(entry, fault, request, request.body(reader), writer)
        else:
            async for piece in request.body(reader):
                entry.received += len(piece)
            answer, content = fault.instead
            is_whole = await _say(entry, fault, answer, _once(content), writer)
        return is_whole or await _end(fault.ending, reader, writer)

    async def _ask(
        self,
        entry: Exchange,
        fault: Fault,
        request: Head,
        body: AsyncIterator[bytes],
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Have the server do it; whether the client got a whole answer."""
        there_reader, there = await asyncio.open_connection(*self._target)
        there.transport.set_write_buffer_limits(0)  # what was sent has left us when we go on
        try:
            there.write(request.encode())
            async for piece in body:
                part = piece[: _left(fault.request_stops_at, entry.received)]
                entry.received += len(part)
                with suppress(ConnectionError):  # it may answer before it has heard all
                    there.write(request.framed(part))
                    await there.drain()
                if len(part) < len(piece):
                    return False
            there.write(request.end)
            answer = await Head.read(there_reader)
            if self.lag is not None and answer.status < 300:
                self.lag.done(entry.asked)
            if fault.loses_answer:
                return False
            content = answer.body(there_reader)
            if fault.rewrite is not None and entry.asked.has_content(answer):
                whole = b"".join([piece async for piece in content])
                answer, whole = fault.rewrite(answer, whole)
                answer, content = answer.of_size(len(whole)), _once(whole)
            return await _say(entry, fault, answer, content, writer)
        finally:
            there.transport.abort()  # the server may take no more of it

    async def _catch_up(self, lag: Lag) -> None:
        """Let the server do what was postponed until now."""
        for request in lag.due():
            reader, writer = await asyncio.open_connection(*self._target)
            writer.write(request)
            await Head.read(reader)
            writer.close()

    def _planned_for(self, asked: Asked) -> Fault | None:
        """Of the rules that come due together, the first made is carried out."""
        found = None
        for rule in list(self._rules):
            if rule.operation not in {"*", asked.operation} or not rule.key.search(asked.key):
                continue
            if rule.wait:
                rule.wait -= 1
            elif found is None and self._random.random() < rule.chance:
                found = rule.fault
                if rule.times is not None:
                    rule.times -= 1
                    if not rule.times:
                        self._rules.remove(rule)
        return found


async def _say(
    entry: Exchange,
    fault: Fault,
    answer: Head,
    content: AsyncIterator[bytes],
    writer: asyncio.StreamWriter,
) -> bool:
    """Send an answer; whether it was sent as whole as its head says."""
    await asyncio.sleep(fault.late)
    writer.transport.set_write_buffer_limits(0)  # what was sent has left us when we go on
    entry.status = answer.status  # before the client can know
    writer.write(answer.encode())
    if not entry.asked.has_content(answer):
        await writer.drain()
        return True
    async for piece in content:
        part = piece[: _left(fault.answer_stops_at, entry.sent)]
        part = _altered(part, fault.altered_at, entry.sent)
        entry.sent += len(part)
        writer.write(answer.framed(part))
        await writer.drain()
        if len(part) < len(piece):
            return False
    writer.write(answer.end)
    await writer.drain()
    return True


async def _end(ending: Ending, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """End a connection; False, since it is of no more use."""
    if ending == "reset":
        reset(writer)
    while ending == "hang" and await reader.read(_PIECE):
        pass  # until the client goes
    return False


def _left(stops_at: int | None, gone: int) -> int | None:
    """How many more bytes may pass; None: all."""
    return None if stops_at is None else max(0, stops_at - gone)


def _altered(piece: bytes, at: int | None, gone: int) -> bytes:
    """With another byte at that position of the whole, if it is in here."""
    if at is None or not 0 <= at - gone < len(piece):
        return piece
    changed = bytearray(piece)
    changed[at - gone] ^= 1
    return bytes(changed)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
