"""Answers as values, and the one place that sends them."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from entrepot.blobs.answers import Announced, Arriving, File
from entrepot.model.errors import ClientGone, EntrepotError
from entrepot.model.ranges import ByteRange
from entrepot.web.requests import Request, Send

Header = tuple[bytes, bytes]
_PIECE_BYTES = 1024 * 1024
_ARRIVING_BYTES = 1024 * 1024  # at most: what arrives gives less where many read
_PATHSEND = "http.response.pathsend"

log = structlog.get_logger()


@dataclass(slots=True)
class Answer:
    """A status, headers and a body: bytes, or the whole or ranges of a file.

    `length` is what Content-Length says, where it is known; the body of an answer to HEAD is not
    sent.
    """

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes | File | Arriving | Announced = b""
    ranges: list[ByteRange] | None = None

    @property
    def length(self) -> int | None:
        """How many bytes the body has, if that is known."""
        if isinstance(self.body, bytes):
            return len(self.body)
        if self.ranges is None:
            return self.body.size
        return sum(part.length for part in self.ranges)


async def begin(answer: Answer) -> Answer:
    """Wait for the first bytes of a body that arrives, so that the status can still say no.

    Raises what keeps them from coming, the body closed.
    """
    body = answer.body
    if isinstance(body, bytes | File | Announced):
        return answer
    part = answer.ranges[0] if answer.ranges else None
    start = part.start if part else 0
    most = min(part.length, _ARRIVING_BYTES) if part else _ARRIVING_BYTES
    try:
        first = await body.piece(start, most)
    except BaseException:
        body.close()
        raise
    answer.body = _Begun(body, start, first)
    return answer


class _Begun:
    """A body that arrives, whose first bytes are here (`blobs.answers.Arriving`)."""

    def __init__(self, arriving: Arriving, start: int, first: bytes) -> None:
        self._arriving = arriving
        self._start = start
        self._first = first

    @property
    def size(self) -> int | None:
        return self._arriving.size

    async def piece(self, start: int, most: int) -> bytes:
        first, self._first = self._first, b""
        if first and start == self._start:
            return first
        return await self._arriving.piece(start, most)

    def close(self) -> None:
        self._arriving.close()


_NO_LENGTH = frozenset({204, 304})


async def send_answer(answer: Answer, request: Request, send: Send) -> int:
    """Send; how many bytes the body had. Raises ClientGone when nobody reads any more.

    A body that does not get to its end leaves without the last message: then the server closes the
    connection, and the client sees that something is missing.
    """
    body = answer.body
    try:
        parts = [] if isinstance(body, bytes | Announced) else _parts(answer, body)
        headers = answer.headers
        length = answer.length
        if parts and length is not None:
            length += sum(len(part.prefix) + len(part.suffix) for part in parts)
        if answer.status not in _NO_LENGTH and length is not None:
            headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        is_headers_only = request.method == "HEAD" or answer.status in _NO_LENGTH
        if is_headers_only or isinstance(body, Announced):
            await send({"type": "http.response.body", "body": b""})
            return 0
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body})
            return len(body)
        if not isinstance(body, File):
            return await _stream_arriving(body, parts, request, send)
        if answer.ranges is None and _PATHSEND in request.scope.get("extensions", ()):
            # The server sends the file without Python touching its bytes.
            await send({"type": _PATHSEND, "path": str(body.path)})
            return body.size
        await _stream(body, parts, request, send)
        return length or 0
    finally:
        if not isinstance(body, bytes | File | Announced):
            body.close()


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a file, with what frames them in a multipart answer; without a range, all."""

    prefix: bytes
    range: ByteRange | None
    suffix: bytes = b""


def _parts(answer: Answer, file: File | Arriving) -> list[_Part]:
    if answer.ranges is None:
        return [_Part(b"", None)]
    if len(answer.ranges) == 1:
        return [_Part(b"", answer.ranges[0])]
    boundary = secrets.token_hex(16)
    content_type = next(value for key, value in answer.headers if key == b"content-type")
    answer.headers = [header for header in answer.headers if header[0] != b"content-type"]
    answer.headers.append((b"content-type", f"multipart/byteranges; boundary={boundary}".encode()))
    last = len(answer.ranges) - 1
    return [
        _Part(
            b"\r\n--%s\r\ncontent-type: %s\r\ncontent-range: %s\r\n\r\n"
            % (
                boundary.encode(),
                content_type,
                part.content_range(file.size or 0).encode(),
            ),
            part,
            b"\r\n--%s--\r\n" % boundary.encode() if number == last else b"",
        )
        for number, part in enumerate(answer.ranges)
    ]


async def _stream(file: File, parts: list[_Part], request: Request, send: Send) -> None:
    """Send ranges of a file, watching: `send` does not fail when the client has gone."""
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    gone = asyncio.create_task(request.gone())
    try:
        for part in parts:
            if part.prefix:
                await _send_piece(send, part.prefix)
            for start, length in _pieces(part.range or ByteRange(0, file.size)):
                if gone.done():
                    raise ClientGone("the client went away while it was being answered")
                piece = await asyncio.to_thread(os.pread, fd, length, start)
                await _send_piece(send, piece)
            if part.suffix:
                await _send_piece(send, part.suffix)
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        os.close(fd)


def _pieces(part: ByteRange) -> Iterator[tuple[int, int]]:
    for start in range(part.start, part.stop, _PIECE_BYTES):
        yield start, min(_PIECE_BYTES, part.stop - start)


async def _stream_arriving(
    arriving: Arriving, parts: list[_Part], request: Request, send: Send
) -> int:
    """Send what arrives as it arrives; how many bytes. Raises ClientGone."""
    sent = 0
    try:
        async with _while_there(request):
            # granian keeps the headers back until the body begins, and clients wait for headers
            # alone for 30 s at most.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            for part in parts:
                if part.prefix:
                    await _send_piece(send, part.prefix)
                async for piece in _as_it_comes(arriving, part.range):
                    await _send_piece(send, piece)
                    sent += len(piece)
                if part.suffix:
                    await _send_piece(send, part.suffix)
            await send({"type": "http.response.body", "body": b""})
    except ClientGone:
        raise
    except EntrepotError as error:
        log.warning("answer.broken", path=request.path, sent=sent, error=error.message)
    return sent


async def _as_it_comes(arriving: Arriving, part: ByteRange | None) -> AsyncIterator[bytes]:
    position, most = part.start if part else 0, _ARRIVING_BYTES
    while part is None or position < part.stop:
        if part is not None:
            most = min(_ARRIVING_BYTES, part.stop - position)
        piece = await arriving.piece(position, most)
        if not piece:
            return
        yield piece
        position += len(piece)


@asynccontextmanager
async def _while_there(request: Request) -> AsyncIterator[None]:
    """End what is inside when the client has gone, also while it waits. Raises ClientGone."""
    task, gone = asyncio.current_task(), asyncio.create_task(request.gone())

    def leave(done: "asyncio.Task[None]") -> None:
        if task is not None and not done.cancelled():
            task.cancel()

    gone.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if task is None or not gone.done() or gone.cancelled() or task.uncancel():
            raise
        raise ClientGone("the client went away while it was being answered") from None
    finally:
        gone.remove_done_callback(leave)
        gone.cancel()


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})
