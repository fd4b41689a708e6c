"""A link of limited speed: `python -m bench.brake PORT TO BYTES_PER_SECOND`.

Listens on a loopback port and passes everything on to another one. What comes back is slowed down,
all connections together, as if they shared one line. The bytes are spliced: they go from socket to
socket in the kernel, so that the link costs its machine little.
"""

import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.servers.process import Ready, free_port, running

_PIPE = 1 << 20
_MOST = 256 * 1024
_PIECES_PER_SECOND = 200
_SLACK_SECONDS = 0.005
"""What a sleep that took too long may catch up with."""

_Take = Callable[[int], None]


@contextmanager
def braked(port: int, rate: int, folder: Path) -> Iterator[int]:
    """Give the port of a link of `rate` bytes per second to a registry that answers at `port`."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = free_port()
    with running(
        [sys.executable, "-m", "bench.brake", str(ours), str(port), str(rate)],
        log=folder / "output.log",
        ready=Ready(ours, "/v2/", 200),
        environment=os.environ,
    ):
        yield ours


class _Line:
    """When the next byte may leave."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int) -> None:
        """Wait until so many bytes have gone over the line."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _SLACK_SECONDS) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


def _serve(port: int, to: int, rate: int) -> None:
    line = _Line(rate)
    piece = min(_MOST, max(4096, rate // _PIECES_PER_SECOND))
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", to))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((client, server, None, _MOST), (server, client, line.take, piece)):
                threading.Thread(target=_relay, args=ends, daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, take: _Take | None, piece: int) -> None:
    """Pass bytes on until one side ends; the sockets are closed when nobody has them any more."""
    outlet, inlet = os.pipe()
    fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, _PIPE)
    try:
        while count := os.splice(source.fileno(), inlet, piece):
            if take is not None:
                take(count)
            while count:
                count -= os.splice(outlet, target.fileno(), count)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(outlet)
        os.close(inlet)


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
