"""Addresses where nothing ever answers, each in its own way; and one that must never be called."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_END = b"the test is over"


@contextmanager
def unreachable(port: int = 0) -> Iterator[str]:
    """Host and port where connecting never ends: nobody accepts, and the queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):  # Linux keeps one or two more than it was told
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"


@contextmanager
def mute(port: int = 0) -> Iterator[str]:
    """Host and port where connecting works and nothing is ever said, no TLS handshake either."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def refusing(port: int = 0) -> Iterator[str]:
    """Host and port that refuse every connection."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
        yield f"127.0.0.1:{held.getsockname()[1]}"


class Canary:
    """A listener that counts who connects: `visits` has to stay 0."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0
        self.heard: list[bytes] = []

    @contextmanager
    def listening(self, host: str = "127.0.0.1", port: int = 0) -> Iterator["Canary"]:
        """Listen until the block ends."""
        with socket.create_server((host, port)) as listener:
            self.port = listener.getsockname()[1]
            thread = threading.Thread(target=self._count, args=(listener,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                # Accepted after all who came before: what they did is counted by then.
                with socket.create_connection(listener.getsockname()) as last:
                    last.sendall(_END)
                    thread.join(10)

    def _count(self, listener: socket.socket) -> None:
        while True:
            caller, _ = listener.accept()
            with caller:
                caller.settimeout(0.5)
                with contextlib.suppress(OSError):
                    self.heard.append(caller.recv(65536))
            if self.heard and self.heard[-1] == _END:
                self.heard.pop()
                return
            self.visits += 1
