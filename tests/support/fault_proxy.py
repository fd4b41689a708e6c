"""A proxy in front of a server that does to its connections what networks do.

with FaultProxy("127.0.0.1", 5432).running() as proxy:
    proxy.plan(Cut("up", at=b"COMMIT", answered=True, ending="reset"), nth=2)
    proxy.line = Line(latency=0.05)
    proxy.cut("hang")

A server that is gone, and back at the same address: `proxy.stop()`, `proxy.start()`.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Literal

from tests.support.listener import Listener, reset

Way = Literal["up", "down"]  # what the client sends; what it gets
# "hang": both ends stay open and neither hears anything more, as when a cable is pulled.
Ending = Literal["close", "reset", "hang"]

_End = asyncio.Future[Ending | None]
_PIECE = 1 << 16
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """How bytes travel: seconds for each piece, up to `jitter` more by chance; bytes a second."""

    latency: float = 0.0
    jitter: float = 0.0
    rate: float | None = None

    @property
    def piece(self) -> int:
        """How much travels at once: 50 times a second, if there is a rate."""
        return max(1, min(_PIECE, int(self.rate / 50))) if self.rate else _PIECE


@dataclass(frozen=True, slots=True)
class Cut:
    """How a connection ends: when `after` bytes have passed one way, or when `at` would.

    What comes later never arrives, and `at` itself does not. But if `answered`, it arrives, the
    server answers, and that answer is the first that is lost.
    """

    way: Way
    after: int | None = None
    at: bytes = b""
    answered: bool = False
    ending: Ending = "close"


@dataclass(slots=True)
class Connection:
    """One that went through the proxy: what passed and how it ended; None: as its two ends wished.

    `waited` is how many seconds the line took.
    """

    cut: Cut | None
    passed: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    ending: Ending | None = None
    waited: float = 0.0
    _tail: bytes = b""  # the end of what passed where `at` is looked for
    _awaits_answer: bool = False

    def judge(self, way: Way, piece: bytes) -> tuple[bytes, bool]:
        """What of it may pass, and whether the connection ends then."""
        cut = self.cut
        if cut is None:
            return piece, False
        if self._awaits_answer:
            return (piece, False) if way == cut.way else (b"", True)
        if way != cut.way:
            return piece, False
        if cut.after is not None:
            left = cut.after - self.passed[way]
            return piece[:left], left <= len(piece)
        return self._look(cut, piece)

    def _look(self, cut: Cut, piece: bytes) -> tuple[bytes, bool]:
        seen = self._tail + piece
        found = seen.find(cut.at)
        if found < 0:
            self._tail = seen[max(0, len(seen) - len(cut.at) + 1) :]
            return piece, False
        if cut.answered:
            self._awaits_answer = True
            return piece, False
        return piece[: max(0, found - len(self._tail))], True


@dataclass(slots=True)
class _Planned:
    cut: Cut
    wait: int  # connections until then
    times: int | None


class FaultProxy(Listener):
    """The address of a server, through us. `connections` are all until now, in order."""

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        super().__init__()
        self.line = Line()
        self.connections: list[Connection] = []
        self._target = (host, port)
        self._random = random.Random(seed)
        self._planned: list[_Planned] = []
        self._ends: set[_End] = set()

    def plan(self, cut: Cut, *, nth: int = 1, times: int | None = 1) -> None:
        """Cut the nth connection from now, and so many from there; None: all from there."""
        self._planned.append(_Planned(cut, nth - 1, times))

    def cut(self, ending: Ending = "close") -> None:
        """End every connection that there is now; later ones are whole."""
        if self._loop is None:
            self._cut(ending)
            return

        async def there() -> None:
            self._cut(ending)

        asyncio.run_coroutine_threadsafe(there(), self._loop).result(_SECONDS)

    def _cut(self, ending: Ending) -> None:
        for end in self._ends:
            _set(end, ending)

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry all of a connection."""
        connection = Connection(self._next_cut())
        self.connections.append(connection)
        try:
            there_reader, there = await asyncio.open_connection(*self._target)
        except OSError:
            connection.ending = "reset"
            reset(writer)
            return False
        end: _End = asyncio.get_running_loop().create_future()
        self._ends.add(end)
        both = asyncio.gather(
            self._carry(connection, "up", reader, there, end),
            self._carry(connection, "down", there_reader, writer, end),
        )
        both.add_done_callback(lambda _: _set(end, None))
        try:
            connection.ending = await end
            await _stop(both)
            if connection.ending == "reset":
                reset(writer)
                reset(there)
            while connection.ending == "hang" and await reader.read(_PIECE):
                pass  # until the client goes
        finally:
            self._ends.discard(end)
            there.transport.abort()  # what may pass has left us; a server may take no more
            await _stop(both)
        return False

    async def _carry(
        self,
        connection: Connection,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        end: _End,
    ) -> None:
        # What may pass has left us before the connection ends.
        writer.transport.set_write_buffer_limits(0)
        try:
            while piece := await reader.read(self.line.piece):
                await self._travel(connection, len(piece))
                piece, is_last = connection.judge(way, piece)
                connection.passed[way] += len(piece)  # before anybody can know
                writer.write(piece)
                await writer.drain()
                if is_last and connection.cut is not None:
                    _set(end, connection.cut.ending)
                    return
            writer.write_eof()
        except OSError:
            _set(end, "reset")  # as one end did it

    async def _travel(self, connection: Connection, size: int) -> None:
        line = self.line
        seconds = line.latency + self._random.uniform(0, line.jitter)
        if line.rate:
            seconds += size / line.rate
        if seconds:
            connection.waited += seconds
            await asyncio.sleep(seconds)

    def _next_cut(self) -> Cut | None:
        """Of the plans that come due together, the first made is carried out."""
        found = None
        for planned in list(self._planned):
            if planned.wait:
                planned.wait -= 1
            elif found is None:
                found = planned.cut
                if planned.times is not None:
                    planned.times -= 1
                    if not planned.times:
                        self._planned.remove(planned)
        return found


async def _stop(both: "asyncio.Future[tuple[None, None]]") -> None:
    both.cancel()
    await asyncio.gather(both, return_exceptions=True)


def _set(end: _End, ending: Ending | None) -> None:
    if not end.done():
        end.set_result(ending)
