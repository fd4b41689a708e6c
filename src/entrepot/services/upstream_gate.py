"""Whether an upstream registry may be asked now: its breaker, and the pauses that it asks for.

Both are rows that all processes read (every few seconds) and write (at once).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from entrepot.db import upstream_states
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamRefused,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import Observation, UpstreamState

PAUSE_SECONDS = 30
FAILURES = 3  # in a row, before nobody asks
_LONGEST_SECONDS = 3_600  # whatever Retry-After says
_SPENT_SECONDS = 60  # an upstream whose limit is spent is asked again after this
_PATIENCE = 5 * SECOND  # a shorter pause is waited for


class Gate:
    """What this process knows of one upstream's health."""

    def __init__(self, database: Database, clock: Clock, upstream_id: int) -> None:
        self._database = database
        self._clock = clock
        self._upstream_id = upstream_id
        self._name = ""
        self._reason = ""
        self._failures = 0  # in a row
        self._open_until = 0
        self._is_tried = False  # by somebody here
        self._busy_until = 0
        self._transfers_busy_until = 0
        self.is_outdated = False

    def take(self, name: str, state: UpstreamState) -> None:
        """Believe what the rows say."""
        self._name, self._reason = name, state.reason
        self._open_until = state.open_until
        self._busy_until = max(state.busy_until, _spent_until(state))
        self.is_outdated = False

    def reset(self) -> None:
        """Forget failures: it is another upstream than it was."""
        self._failures = self._transfers_busy_until = 0
        self.is_outdated = True

    @property
    def is_failing(self) -> bool:
        """Whether the last call failed, or none may be made."""
        return self._failures > 0 or self._open_until > self._clock.now()

    def observe(self, seen: Observation) -> None:
        """Note what an answer said of the upstream's limit."""
        state = UpstreamState(
            limit_remaining=seen.limit_remaining,
            limit_window_seconds=seen.limit_window_seconds,
            limit_seen_at=self._clock.now(),
        )
        self._busy_until = max(self._busy_until, _spent_until(state))

    @asynccontextmanager
    async def passing(self, *, transfers: bool) -> AsyncIterator[None]:
        """Make one call, of which the next ones learn. Raises UpstreamDown, UpstreamBusy."""
        is_trial = await self._require_closed()
        try:
            await self._wait_out(self._transfers_busy_until if transfers else self._busy_until)
            try:
                yield
            except UpstreamBusy as error:
                await self._pause(error, transfers=transfers)
                raise
            except (UpstreamDown, UpstreamRefused) as error:
                await self._fail(error, is_trial=is_trial)
                raise
            except (UpstreamBroken, UpstreamUnsafe):
                raise  # tells nothing of the next call
            except UpstreamError:
                await self._succeed()  # it is there, and says no
                raise
            await self._succeed()
        finally:
            if is_trial:
                self._is_tried = False

    async def _require_closed(self) -> bool:
        """Whether this call tries, for all processes, an upstream that was down.

        Raises UpstreamDown.
        """
        if not self._open_until:
            return False
        now, seen = self._clock.now(), self._open_until
        if seen > now or self._is_tried:
            raise UpstreamDown(self._closed(), retry_after=_seconds(seen - now))
        self._is_tried = True
        until = now + PAUSE_SECONDS * SECOND

        async def work(tx: Transaction) -> bool:
            return await upstream_states.claim(tx, self._upstream_id, seen=seen, until=until)

        try:
            is_ours = await self._database.write(work, durable=False)
        except BaseException:
            self._is_tried = False
            raise
        if not is_ours:  # another process is trying, or found it well
            self._is_tried = False
            self.is_outdated = True
            raise UpstreamDown(self._closed(), retry_after=1)
        self._open_until = until
        return True

    def _closed(self) -> str:
        reason = self._reason or "it did not answer"
        return f"the upstream {self._name} is not asked for a moment: {reason}"

    async def _wait_out(self, until: int) -> None:
        """Raises UpstreamBusy for what would take long."""
        wait = until - self._clock.now()
        if wait > _PATIENCE:
            message = (
                f"the upstream {self._name} allows no more requests now, again in"
                f" {_seconds(wait)} s; wait, or give it a credential that may make more:"
                f" entrepot upstream rotate {self._name}"
            )
            raise UpstreamBusy(message, retry_after=_seconds(wait))
        if wait > 0:
            await asyncio.sleep(wait / SECOND)

    async def _pause(self, error: UpstreamBusy, *, transfers: bool) -> None:
        """A limit on manifests is not one on blobs: what was begun may end."""
        until = self._clock.now() + _told(error, PAUSE_SECONDS) * SECOND
        if transfers:
            self._transfers_busy_until = until
            return
        self._busy_until = until
        await self._database.write(
            lambda tx: upstream_states.pause(
                tx, self._upstream_id, until=until, reason=error.message
            ),
            durable=False,
        )

    async def _fail(self, error: UpstreamError, *, is_trial: bool) -> None:
        self._failures += 1
        is_told = isinstance(error.values.get("retry_after"), int)
        if not (is_trial or is_told or self._failures >= FAILURES):
            return
        until = self._clock.now() + _told(error, PAUSE_SECONDS) * SECOND
        self._open_until, self._reason = until, error.message
        await self._database.write(
            lambda tx: upstream_states.trip(
                tx, self._upstream_id, until=until, reason=error.message
            ),
            durable=False,
        )

    async def _succeed(self) -> None:
        self._failures = 0
        if self._open_until:
            self._open_until = 0
            await self._database.write(
                lambda tx: upstream_states.close(tx, self._upstream_id), durable=False
            )


def _spent_until(state: UpstreamState) -> int:
    seen_at, window = state.limit_seen_at, state.limit_window_seconds
    if state.limit_remaining != 0 or seen_at is None or not window:
        return 0
    return seen_at + min(window, _SPENT_SECONDS) * SECOND


def _told(error: UpstreamError, default: int) -> int:
    """How many seconds the upstream asked for."""
    seconds = error.values.get("retry_after")
    return min(max(seconds, 1), _LONGEST_SECONDS) if isinstance(seconds, int) else default


def _seconds(wait: int) -> int:
    return max(1, -(-wait // SECOND))
