"""What was asked of upstream registries and how it went: summed in memory, written in batches."""

from dataclasses import replace

from entrepot.db import upstream_states, upstreams
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import Clock
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import Observation, UpstreamState
from entrepot.telemetry.upstreams import UpstreamTally

_REASONS: dict[type[UpstreamError], str] = {
    UpstreamForbidden: "forbidden",
    UpstreamRefused: "refused",
    UpstreamBusy: "busy",
    UpstreamSlow: "slow",
    UpstreamDown: "down",
    UpstreamBroken: "broken",
    UpstreamUnsafe: "unsafe",
}
_SUMS = ("requests", "bytes", "errors", "hits", "misses", "coalesced", "stale")


class UpstreamCounts:
    """Counts by upstream; `flush` writes them. What a crash takes is ten seconds of it."""

    def __init__(self, database: Database, clock: Clock, tally: UpstreamTally) -> None:
        self._database = database
        self._clock = clock
        self._tally = tally
        self._counted: dict[int, UpstreamState] = {}
        self._hits: dict[int, int] = {}
        self._reasons: dict[tuple[int, str], int] = {}

    def hit(self, upstream_id: int) -> None:
        """Count a warm read: by far the most frequent, and so no more than an addition."""
        self._hits[upstream_id] = self._hits.get(upstream_id, 0) + 1

    def add(self, upstream_id: int, **sums: int) -> None:
        """Add to sums of an upstream, by their names in `UpstreamState`."""
        before = self._counted.get(upstream_id, UpstreamState())
        new = {name: getattr(before, name) + number for name, number in sums.items()}
        self._counted[upstream_id] = replace(before, **new)

    def observe(self, upstream_id: int, seen: Observation) -> None:
        """Count an answer, and keep what it said of the limit."""
        self.add(upstream_id, requests=1)
        if seen.limit is None and seen.limit_remaining is None:
            return
        self._counted[upstream_id] = replace(
            self._counted[upstream_id],
            limit=seen.limit,
            limit_remaining=seen.limit_remaining,
            limit_window_seconds=seen.limit_window_seconds,
            limit_seen_at=self._clock.now(),
        )

    def fail(self, upstream_id: int, error: UpstreamError) -> None:
        """Count what went wrong; that there is no such thing is an answer like others."""
        if isinstance(error, UpstreamMissing):
            return
        self.add(upstream_id, errors=1)
        self._counted[upstream_id] = replace(
            self._counted[upstream_id],
            last_error=error.message,
            last_failed_at=self._clock.now(),
        )
        reason = next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), "other")
        self._reasons[upstream_id, reason] = self._reasons.get((upstream_id, reason), 0) + 1

    async def flush(self) -> int:
        """Write what was counted since the last time; of how many upstreams. Raises Unavailable."""
        hits, self._hits = self._hits, {}
        for upstream_id, number in hits.items():
            self.add(upstream_id, hits=number)
        counted, self._counted = self._counted, {}
        reasons, self._reasons = self._reasons, {}
        if not counted:
            return 0

        async def work(tx: Transaction) -> dict[int, str]:
            for upstream_id in sorted(counted):  # in one order: two processes never wait in a ring
                await upstream_states.add(tx, upstream_id, counted[upstream_id])
            found = [await upstreams.get(tx, upstream_id) for upstream_id in counted]
            return {upstream.id: upstream.preset for upstream in found if upstream is not None}

        presets = await self._database.write(work, durable=False)
        for upstream_id, state in counted.items():
            preset = presets.get(upstream_id, "gone")
            for name in _SUMS:
                if name != "errors":
                    self._tally.add(name, preset, getattr(state, name))
            if state.limit_remaining is not None:
                self._tally.remaining(preset, state.limit_remaining)
        for (upstream_id, reason), number in reasons.items():
            self._tally.fail(presets.get(upstream_id, "gone"), reason, number)
        return len(counted)
