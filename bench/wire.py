"""One HTTP/1.1 connection that costs the machine as little as Python allows.

The clients of a benchmark share the cores with the server. Files are sent with sendfile(2), and
bodies that nobody looks at are discarded by the kernel (MSG_TRUNC), so that no byte of a blob is
copied on the client's side.
"""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from bench.content import Blob

_TIMEOUT_SECONDS = 900
_PIECE = 1 << 20
_NO_BODY = {204, 304}


class UnexpectedAnswer(Exception):
    """The server answered something else than the protocol says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, with lower-case header names."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A connection that is kept open between requests."""

    def __init__(self, port: int, authorization: str = "", *, accept: str = "") -> None:
        """Connect to a loopback port and present `authorization` with each request."""
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Limits kept by the kernel: Python's own would make the socket non-blocking and cost a
        # poll(2) for each call.
        limit = struct.pack("ll", _TIMEOUT_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._common = f"Host: localhost:{port}\r\n"
        if authorization:
            self._common += f"Authorization: {authorization}\r\n"
        if accept:
            self._common += f"Accept: {accept}\r\n"
        self._received = b""
        self._scratch = bytearray()

    def __enter__(self) -> Self:
        """Return the connection, to be closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._socket.close()

    def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        content_type: str = "",
        expect: int = 200,
    ) -> Answer:
        """Send a request, read the whole answer. Raises UnexpectedAnswer."""
        self._socket.sendall(self._head(method, target, len(body), content_type) + body)
        return self._answer(method, target, expect)

    def send_blob(self, method: str, target: str, blob: Blob, *, expect: int) -> Answer:
        """Send a blob's file and its last bytes as a request body."""
        self._socket.sendall(self._head(method, target, blob.size, "application/octet-stream"))
        offset = 0
        while offset < blob.file_size:
            left = blob.file_size - offset
            offset += os.sendfile(self._socket.fileno(), blob.file, offset, left)
        self._socket.sendall(blob.tail)
        return self._answer(method, target, expect)

    def send_stream(
        self, target: str, pieces: Iterator[bytes], size: int, *, expect: int
    ) -> Answer:
        """PATCH a body of `size` bytes that is made while it is sent."""
        self._socket.sendall(self._head("PATCH", target, size, "application/octet-stream"))
        for piece in pieces:
            self._socket.sendall(piece)
        return self._answer("PATCH", target, expect)

    def discard(self, target: str) -> int:
        """GET a body and let the kernel drop it; return its length. Raises UnexpectedAnswer."""
        self._socket.sendall(self._head("GET", target, 0, ""))
        length = self._body_length("GET", target, 200)
        left = length - len(self._received)
        self._received = b""
        if not self._scratch:
            self._scratch = bytearray(4 * _PIECE)  # never written to, so never really there
        while left > 0:
            wanted = min(left, len(self._scratch))
            count = self._socket.recv_into(self._scratch, wanted, socket.MSG_TRUNC)
            if count == 0:
                raise UnexpectedAnswer(f"GET {target}: {left} of {length} bytes are missing")
            left -= count
        return length

    def stream(self, target: str) -> Iterator[memoryview | bytes]:
        """GET a body piece by piece; a piece is valid until the next one is asked for."""
        self._socket.sendall(self._head("GET", target, 0, ""))
        left = self._body_length("GET", target, 200) - len(self._received)
        first, self._received = self._received, b""
        yield first
        window = memoryview(bytearray(_PIECE))
        while left > 0:
            count = self._socket.recv_into(window, min(left, _PIECE))
            if count == 0:
                raise UnexpectedAnswer(f"GET {target}: the last {left} bytes are missing")
            left -= count
            yield window[:count]

    def _head(self, method: str, target: str, length: int, content_type: str) -> bytes:
        head = f"{method} {target} HTTP/1.1\r\n{self._common}"
        if content_type:
            head += f"Content-Type: {content_type}\r\n"
        if method not in {"GET", "HEAD"}:
            head += f"Content-Length: {length}\r\n"
        return f"{head}\r\n".encode()

    def _answer(self, method: str, target: str, expect: int) -> Answer:
        status, headers = self._read_head()
        length = _length(method, status, headers)
        while len(self._received) < length:
            self._read_more()
        body, self._received = self._received[:length], self._received[length:]
        if status != expect:
            raise UnexpectedAnswer(f"{method} {target}: {status}, not {expect}: {body[:500]!r}")
        return Answer(status, headers, body)

    def _body_length(self, method: str, target: str, expect: int) -> int:
        status, headers = self._read_head()
        if status != expect:
            raise UnexpectedAnswer(f"{method} {target}: {status}, not {expect}")
        return _length(method, status, headers)

    def _read_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._received:
            self._read_more()
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, value in pairs}

    def _read_more(self) -> None:
        received = self._socket.recv(_PIECE)
        if not received:
            raise UnexpectedAnswer("the server closed the connection")
        self._received += received


def _length(method: str, status: int, headers: dict[str, str]) -> int:
    if method == "HEAD" or status in _NO_BODY:
        return 0
    if "content-length" not in headers:
        raise UnexpectedAnswer(f"an answer without Content-Length: {headers}")
    return int(headers["content-length"])
