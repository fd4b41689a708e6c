"""Many clients that ask for the same thing at the same moment, in one thread.

Bodies are discarded by the kernel, as in `bench.wire`: a thousand clients copy no byte.
"""

import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.wire import UnexpectedAnswer
from bench.wrk import ACCEPT

_PATIENCE_SECONDS = 300
_WINDOW = 1 << 20


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    head: bytes = b""
    left: int = -1
    """Bytes of the body that are still to come; negative before the head is there."""
    first_byte: float = 0
    end: float = 0


@dataclass(slots=True)
class Endings:
    """When each client had its last byte, in seconds since all of them asked."""

    seconds: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """Return the time of the client that waited longest."""
        return max(self.seconds)


def get_at_once(ports: Sequence[int], target: str, authorization: str, clients: int) -> Endings:
    """GET a target with so many clients, spread over the ports. Raises UnexpectedAnswer."""
    window = bytearray(_WINDOW)
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        crowd = []
        for number in range(clients):
            one = socket.create_connection(("127.0.0.1", ports[number % len(ports)]))
            crowd.append(_Client(stack.enter_context(one)))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(0)
            selector.register(one, selectors.EVENT_READ, crowd[-1])
        request = _request(target, authorization)
        started = time.monotonic()
        for client in crowd:
            client.socket.sendall(request)
        waiting = len(crowd)
        while waiting:
            ready = selector.select(_PATIENCE_SECONDS)
            if not ready:
                raise UnexpectedAnswer(f"GET {target}: {waiting} clients wait in silence")
            for key, _ in ready:
                if _receive(key.data, window, target):
                    selector.unregister(key.fileobj)
                    waiting -= 1
    return Endings(
        [client.end - started for client in crowd],
        [client.first_byte - started for client in crowd],
    )


def _request(target: str, authorization: str) -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {ACCEPT}\r\n"
    if authorization:
        head += f"Authorization: {authorization}\r\n"
    return f"{head}\r\n".encode()


def _receive(client: _Client, window: bytearray, target: str) -> bool:
    """Take what is there; tell whether it was the last."""
    if client.left < 0:
        received = client.socket.recv(65_536)
        count = len(received)
        client.head += received
        if b"\r\n\r\n" in client.head:
            head, body = client.head.split(b"\r\n\r\n", 1)
            client.left = _length(head.decode("latin-1"), target) - len(body)
            if body:
                client.first_byte = time.monotonic()
    else:
        count = client.socket.recv_into(window, min(client.left, _WINDOW), socket.MSG_TRUNC)
        client.left -= count
        client.first_byte = client.first_byte or time.monotonic()
    if count == 0:
        raise UnexpectedAnswer(f"GET {target}: cut off, {client.left} bytes are missing")
    if client.left == 0:
        client.end = time.monotonic()
    return client.left == 0


def _length(head: str, target: str) -> int:
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if status.split()[1] != "200" or "content-length" not in headers:
        raise UnexpectedAnswer(f"GET {target}: {head}")
    return int(headers["content-length"])
