"""Calling upstream registries: with whose credential, how many at once, and whether at all now.

`Remotes.calling` is the only way to an upstream.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from entrepot.db import upstream_states, upstreams
from entrepot.db.database import Database
from entrepot.identity.seal import Seal
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import UpstreamBusy, UpstreamError, UpstreamRefused
from entrepot.model.upstreams import Observation, Upstream
from entrepot.services.upstream_counts import UpstreamCounts
from entrepot.services.upstream_gate import Gate
from entrepot.services.upstream_secrets import open_auth
from entrepot.upstream.outbound import Outbound
from entrepot.upstream.remote import Remote

READ_AGAIN = 5 * SECOND  # within this, processes notice what others changed
_QUEUE_SECONDS = 60
_MOST_WAITING = 1_000  # for one upstream: each of them holds a file, or a row that it beats
_RETRY_SECONDS = 10


@dataclass(eq=False, slots=True)
class _Line:
    """What this process has for calls to one upstream."""

    upstream: Upstream
    remote: Remote
    gate: Gate
    slots: asyncio.Semaphore
    transfer_slots: asyncio.Semaphore
    waiting: int = 0
    read_at: int = 0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Remotes:
    """The upstreams of this process. `concurrency`: calls to one at once.

    Three quarters of them may be transfers of blobs, so that a few large ones never keep a
    manifest waiting.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        outbound: Outbound,
        seal: Seal,
        counts: UpstreamCounts,
        *,
        concurrency: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._outbound = outbound
        self._seal = seal
        self._counts = counts
        self._concurrency = concurrency
        self._lines: dict[int, _Line] = {}

    @asynccontextmanager
    async def calling(self, upstream_id: int, *, transfers: bool = False) -> AsyncIterator[Remote]:
        """The remote of an upstream for one call; `transfers` says that it is about a blob.

        Waits for its turn. What is raised inside counts, and may open the breaker.
        Raises UpstreamDown while that is open, UpstreamBusy while the upstream has us wait or too
        many others do, UpstreamRefused.
        """
        line = await self._line(upstream_id)
        async with (
            self._turn(line, transfers=transfers),
            line.gate.passing(transfers=transfers),
        ):
            try:
                yield line.remote
            except UpstreamError as error:
                self._counts.fail(upstream_id, error)
                raise

    def has_failed(self, upstream_id: int) -> bool:
        """Whether the last call from here failed, or nobody may call: do not wait for an answer."""
        line = self._lines.get(upstream_id)
        return line is not None and line.gate.is_failing

    def forget(self, upstream_id: int) -> None:
        """Read the upstream again before its next call: it was just changed."""
        if (line := self._lines.get(upstream_id)) is not None:
            line.gate.reset()

    def look_again(self, upstream_id: int) -> None:
        """Read how the upstream is doing before its next call: another process asked in vain."""
        if (line := self._lines.get(upstream_id)) is not None:
            line.gate.is_outdated = True

    def note_hit(self, upstream_id: int) -> None:
        """Something was served without asking the upstream."""
        self._counts.hit(upstream_id)

    def note_miss(self, upstream_id: int) -> None:
        """Something had to be fetched."""
        self._counts.add(upstream_id, misses=1)

    def note_coalesced(self, upstream_id: int) -> None:
        """Somebody got what was being fetched for another."""
        self._counts.add(upstream_id, coalesced=1)

    def note_stale(self, upstream_id: int) -> None:
        """Something was served although nobody knows whether the upstream still has it."""
        self._counts.add(upstream_id, stale=1)

    def note_bytes(self, upstream_id: int, number: int) -> None:
        """So many bytes of content came from the upstream."""
        self._counts.add(upstream_id, bytes=number)

    async def flush(self) -> int:
        """Write what was counted since the last time; of how many upstreams. Raises Unavailable."""
        return await self._counts.flush()

    async def _line(self, upstream_id: int) -> _Line:
        line = self._lines.get(upstream_id)
        if line is None:
            found = await self._read(upstream_id, None)
            return self._lines.setdefault(upstream_id, found)
        if not self._is_recent(line):
            async with line.reading:
                if not self._is_recent(line):
                    await self._read(upstream_id, line)
        return line

    def _is_recent(self, line: _Line) -> bool:
        return 0 <= self._clock.now() - line.read_at < READ_AGAIN and not line.gate.is_outdated

    async def _read(self, upstream_id: int, line: _Line | None) -> _Line:
        """What the rows say now; a remote stays, with the tokens it has, until its row changes."""
        now = self._clock.now()
        async with self._database.read() as tx:
            found = await upstreams.get_with_secret(tx, upstream_id)
            state = await upstream_states.get(tx, upstream_id)
        if found is None:
            self._lines.pop(upstream_id, None)
            message = "the upstream registry that this came from was removed; ask an administrator"
            raise UpstreamRefused(message, upstream_id=upstream_id)
        upstream, sealed = found
        if line is None:
            line = _Line(
                upstream,
                self._remote(upstream, sealed),
                Gate(self._database, self._clock, upstream_id),
                asyncio.Semaphore(self._concurrency),
                asyncio.Semaphore(max(1, self._concurrency * 3 // 4)),
            )
        elif _dialled(upstream) != _dialled(line.upstream):
            line.remote = self._remote(upstream, sealed)
        line.upstream, line.read_at = upstream, now
        line.gate.take(upstream.name, state)
        return line

    def _remote(self, upstream: Upstream, sealed: str | None) -> Remote:
        def observe(seen: Observation) -> None:
            self._counts.observe(upstream.id, seen)
            if (line := self._lines.get(upstream.id)) is not None:
                line.gate.observe(seen)

        return Remote(
            self._outbound,
            upstream.name,
            upstream.origin,
            upstream.handshake,
            open_auth(self._seal, upstream, sealed),
            upstream.preset,
            self._clock,
            observe,
        )

    @asynccontextmanager
    async def _turn(self, line: _Line, *, transfers: bool) -> AsyncIterator[None]:
        """Raises UpstreamBusy for whoever waited long, or finds very many waiting."""
        if line.waiting >= _MOST_WAITING:
            raise self._crowded(line)
        async with AsyncExitStack() as stack:
            line.waiting += 1
            try:
                async with asyncio.timeout(_QUEUE_SECONDS):
                    if transfers:
                        await stack.enter_async_context(line.transfer_slots)
                    await stack.enter_async_context(line.slots)
            except TimeoutError as error:
                raise self._crowded(line) from error
            finally:
                line.waiting -= 1
            yield

    def _crowded(self, line: _Line) -> UpstreamBusy:
        message = (
            f"all {self._concurrency} calls that may go to the upstream {line.upstream.name} at"
            " once are under way; try again later, or have the operator allow more:"
            " ENTREPOT_OUTBOUND__CONCURRENCY"
        )
        return UpstreamBusy(message, retry_after=_RETRY_SECONDS)


def _dialled(upstream: Upstream) -> tuple[object, ...]:
    """What a remote is made of."""
    return upstream.name, upstream.origin, upstream.handshake, upstream.credential_version
