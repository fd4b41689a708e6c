"""A listener on loopback, in a thread or in the loop of the test; what it says is for its kinds."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self

_TURNS_TO_ACCEPT = 3  # of the loop, from the kernel to `_accepted`; a closed server drops those


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, not FIN: it lingers for no time at all."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Listener:
    """Who is connected is served by `exchange`."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request, or all of a connection; whether it may be used again."""
        raise NotImplementedError

    async def start_here(self) -> None:
        """Serve in the running loop; at the same port as before, if it ran before."""
        self._server = await asyncio.start_server(
            self._accepted, self.host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop_here(self) -> None:
        """Stop listening and break off every connection."""
        if self._server is None:
            return
        server, self._server = self._server, None
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        server.close()
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # for what their ends call
        await asyncio.sleep(0)  # connections are lost one turn after they are aborted

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serve in the loop of the test."""
        await self.start_here()
        try:
            yield self
        finally:
            await self.stop_here()

    def start(self) -> None:
        """Serve in a thread."""
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, daemon=True, name="listener")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start_here(), loop).result(10)

    def stop(self) -> None:
        """Stop; nobody is there to connect to afterwards. `start` brings it back."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        self._loop = self._thread = None

    async def _end(self) -> None:
        """Stop, with the handshakes that never came to an exchange: the loop is our own."""
        await self.stop_here()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # as above

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serve in a thread until the block ends."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connected(reader, writer))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._server is None or task.cancelled():
                writer.transport.abort()  # it stops, and may never have begun with this one

        task.add_done_callback(ended)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
            pass  # the client has gone
        except asyncio.CancelledError:
            pass  # the server stops
        finally:
            with suppress(Exception):
                if self._server is None:
                    writer.transport.abort()
                else:
                    writer.close()
                await writer.wait_closed()  # while bytes are left that nobody takes, it is open
