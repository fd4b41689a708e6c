"""Requests byte by byte, for what a polite client would never send or always repairs."""

import http.client
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.support.server import Server

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def send(
    server: Server,
    method: str,
    target: str,
    headers: Headers = (),
    body: bytes | None = None,
    *,
    chunks: Iterable[bytes] | None = None,
) -> Reply:
    """Send one request as written: no header is added but Host, Content-Length and the like."""
    with connection(server) as sock:
        sock.sendall(head(server, method, target, headers, body, is_chunked=chunks is not None))
        for chunk in chunks or ():
            sock.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if chunks is not None:
            sock.sendall(b"0\r\n\r\n")
        return receive(sock, method)


def head(
    server: Server,
    method: str,
    target: str,
    headers: Headers = (),
    body: bytes | None = None,
    *,
    is_chunked: bool = False,
) -> bytes:
    """The request line and headers, and the body if it is given."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {key.lower() for key, _ in pairs}
    if "host" not in names:
        pairs.insert(0, ("Host", f"127.0.0.1:{server.port}"))
    if body is not None and "content-length" not in names:
        pairs.append(("Content-Length", str(len(body))))
    if is_chunked:
        pairs.append(("Transfer-Encoding", "chunked"))
    lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in pairs)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def connection(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def receive(sock: socket.socket, method: str = "GET") -> Reply:
    """One whole answer; an interim one is passed over."""
    answer = http.client.HTTPResponse(sock, method=method)
    answer.begin()
    with answer:
        return Reply(answer.status, answer.headers, answer.read())
