"""Answers as values, and the one place that sends them."""

import asyncio
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from entrepot.blobs.answers import File
from entrepot.model.errors import ClientGone
from entrepot.model.ranges import ByteRange
from entrepot.web.requests import Request, Send

Header = tuple[bytes, bytes]
_PIECE_BYTES = 1024 * 1024
_PATHSEND = "http.response.pathsend"


@dataclass(slots=True)
class Answer:
    """A status, headers and a body: bytes, or the whole or ranges of a file.

    `length` is what Content-Length says; the body of an answer to HEAD is not sent.
    """

    status: int
    headers: list[Header] = field(default_factory=list)
    body: bytes | File = b""
    ranges: list[ByteRange] | None = None

    @property
    def length(self) -> int:
        """How many bytes the body has."""
        if isinstance(self.body, bytes):
            return len(self.body)
        if self.ranges is None:
            return self.body.size
        return sum(part.length for part in self.ranges)


_NO_LENGTH = frozenset({204, 304})


async def send_answer(answer: Answer, request: Request, send: Send) -> int:
    """Send; how many bytes the body had. Raises ClientGone when nobody reads any more."""
    body = answer.body
    parts = [] if isinstance(body, bytes) else _parts(answer, body)
    headers = answer.headers
    length = answer.length
    if parts:
        length += sum(len(part.prefix) + len(part.suffix) for part in parts)
    if answer.status not in _NO_LENGTH:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if request.method == "HEAD" or answer.status in _NO_LENGTH:
        await send({"type": "http.response.body", "body": b""})
        return 0
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
        return length
    if answer.ranges is None and _PATHSEND in request.scope.get("extensions", ()):
        # The server sends the file without Python touching its bytes.
        await send({"type": _PATHSEND, "path": str(body.path)})
        return length
    await _stream(body, parts, request, send)
    return length


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a file, with what frames them in a multipart answer."""

    prefix: bytes
    range: ByteRange
    suffix: bytes = b""


def _parts(answer: Answer, file: File) -> list[_Part]:
    if answer.ranges is None:
        return [_Part(b"", ByteRange(0, file.size))]
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
                part.content_range(file.size).encode(),
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
            for start, length in _pieces(part.range):
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


async def _send_piece(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})
