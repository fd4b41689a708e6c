"""A small HTTP/1.1 server on raw streams: it can answer well, and badly in every way we need."""

import asyncio
import os
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.listener import Listener, reset
from tests.support.upstreams.log import AccessLog, Entry

_PIECE = 1 << 18
_CATCH_UP = 0.05  # seconds

Source = bytes | Path  # what a body is read from
Phase = Literal["headers", "half the headers", "body"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def form(self) -> dict[str, str]:
        """The fields of a posted form, the last value of each."""
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {key: values[-1] for key, values in parse_qs(self.body.decode()).items()}
        return {}


class Gate:
    """Holds an answer at one place until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._lock = threading.Lock()
        self._is_open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def wait(self) -> None:
        """Called by the server."""
        event = asyncio.Event()
        with self._lock:
            self.reached.set()
            if self._is_open:
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()

    def open(self) -> None:
        """Let all go on, those that come later too."""
        with self._lock:
            self._is_open = True
            for loop, event in self._waiting:
                with suppress(RuntimeError):  # its server has stopped
                    loop.call_soon_threadsafe(event.set)
            self._waiting.clear()

    def wait_until_reached(self, seconds: float = 20) -> None:
        """Wait until an answer stands here."""
        assert self.reached.wait(seconds), "no answer came to the gate"


@dataclass(slots=True)
class Reply:
    """An answer, with all that can be wrong about how it is sent.

    `length` is what Content-Length says if not the truth; `stop_at` is how many bytes of the body
    go out before `ending`; `endless` repeats the body until the client goes.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Source = b""
    offset: int = 0
    end: int | None = None
    framing: Literal["length", "chunked", "close"] = "length"
    length: int | None = None
    stop_at: int | None = None
    ending: Literal["keep", "close", "reset", "hang"] = "keep"
    hang: Phase | None = None
    gate: Gate | None = None
    gate_at: int = 0
    rate: float | None = None  # bytes a second, of this answer alone
    endless: bool = False
    raw: bytes | None = None  # all that is sent in place of the rest, before the connection closes

    @property
    def size(self) -> int:
        """How many bytes of the body are to be sent."""
        whole = self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)
        return (whole if self.end is None else self.end) - self.offset


class Brake:
    """Bytes a second for all answers of a server together."""

    def __init__(self) -> None:
        self.rate: float | None = None
        self._free_at = 0.0

    async def take(self, size: int, rate: float | None = None) -> None:
        """Wait for one's turn to send so many bytes; `rate` is that of one answer."""
        if rate:
            await asyncio.sleep(size / rate)
        if self.rate:
            now = time.monotonic()
            # Who woke up late catches up, as a line does that was idle for a moment.
            self._free_at = max(self._free_at, now - _CATCH_UP) + size / self.rate
            await asyncio.sleep(max(0.0, self._free_at - now))

    def piece(self, rate: float | None) -> int:
        """How much to send at once: 50 times a second, if braked."""
        slowest = min(filter(None, (rate, self.rate)), default=0.0)
        return max(1, min(_PIECE, int(slowest / 50))) if slowest else _PIECE


class WireServer(Listener):
    """A server on loopback. What it answers is `answer`, which its kinds define."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        super().__init__(tls=tls, host=host)
        self.log = AccessLog()
        self.brake = Brake()

    async def answer(self, request: Request, entry: Entry) -> Reply:
        """What to answer."""
        raise NotImplementedError

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may be used again."""
        request = await _read_request(reader)
        if request is None:
            return False
        entry = Entry(request.method, request.path, request.query, request.headers, request.form)
        self.log.add(entry)
        reply = await self.answer(request, entry)
        entry.status = reply.status
        try:
            return await self._send(request, reply, entry, reader, writer)
        finally:
            entry.ended = time.monotonic()

    async def _send(
        self,
        request: Request,
        reply: Reply,
        entry: Entry,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if reply.hang == "headers":
            return await _hang(reader)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        if reply.gate is not None and request.method == "HEAD":  # it has no body to hold back
            await reply.gate.wait()
        head = _head(reply)
        if reply.hang == "half the headers":
            writer.write(head[: len(head) // 2])
            return await _hang(reader)
        writer.write(head)
        await writer.drain()
        if reply.hang == "body":
            return await _hang(reader)
        if request.method != "HEAD" and reply.status not in {204, 304}:
            await self._send_body(reply, entry, writer)
        if reply.ending == "hang":
            return await _hang(reader)
        if reply.ending == "reset":
            reset(writer)
            return False
        entry.finished = True
        return reply.ending == "keep" and reply.framing != "close"

    async def _send_body(self, reply: Reply, entry: Entry, writer: asyncio.StreamWriter) -> None:
        left = reply.size if reply.stop_at is None else min(reply.stop_at, reply.size)
        is_chunked = reply.framing == "chunked"
        step = self.brake.piece(reply.rate)
        while True:
            for piece in _pieces(reply, left, step):
                for part in _split_at_gate(piece, reply, entry.sent):
                    if reply.gate is not None and entry.sent == reply.gate_at:
                        await reply.gate.wait()
                    await self.brake.take(len(part), reply.rate)
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
                    await writer.drain()
                    entry.sent += len(part)
            if not reply.endless:
                break
        if reply.gate is not None and entry.sent == reply.gate_at:
            await reply.gate.wait()
        if is_chunked and reply.stop_at is None:
            writer.write(b"0\r\n\r\n")
            await writer.drain()


def _split_at_gate(piece: bytes, reply: Reply, sent: int) -> list[bytes]:
    cut = reply.gate_at - sent
    if reply.gate is None or not 0 < cut < len(piece):
        return [piece]
    return [piece[:cut], piece[cut:]]


def _pieces(reply: Reply, left: int, step: int) -> Iterator[bytes]:
    if isinstance(reply.body, bytes):
        for start in range(reply.offset, reply.offset + left, step):
            yield reply.body[start : min(start + step, reply.offset + left)]
        return
    with reply.body.open("rb") as file:
        for start in range(reply.offset, reply.offset + left, step):
            yield os.pread(file.fileno(), min(step, reply.offset + left - start), start)


def _head(reply: Reply) -> bytes:
    headers = dict(reply.headers)
    if reply.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    elif reply.framing == "close":
        headers["Connection"] = "close"
    elif "Content-Length" not in headers:
        headers["Content-Length"] = str(reply.size if reply.length is None else reply.length)
    # A header may stand on several lines: its values are separated by line ends.
    lines = [f"{key}: {value}" for key, values in headers.items() for value in values.split("\n")]
    return "\r\n".join([f"HTTP/1.1 {reply.status} Played", *lines, "", ""]).encode("latin-1")


async def _hang(reader: asyncio.StreamReader) -> bool:
    """Do nothing until the client goes or the server stops."""
    while await reader.read(65536):
        pass
    return False


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length") or 0))
    parts = urlsplit(target)
    return Request(
        method,
        unquote(parts.path),
        parse_qs(parts.query, keep_blank_values=True),
        headers,
        body,
    )
