"""How upstream registries are doing, as all processes see it: a row for each that was called."""

import json
from collections.abc import Sequence

from entrepot.db.database import Row, Transaction
from entrepot.model.upstreams import UpstreamState

_COLUMNS = """open_until, busy_until, reason, rate_limit, rate_remaining, rate_window,
               rate_seen_at, last_error, last_failed_at, requests, bytes, errors, hits, misses,
               coalesced, stale"""


async def get(tx: Transaction, upstream_id: int) -> UpstreamState:
    """How an upstream is doing; all zero before the first call."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM upstream_states WHERE upstream_id = :upstream_id",
        upstream_id=upstream_id,
    )
    return _state(row) if row else UpstreamState()


async def find_all(tx: Transaction, upstream_ids: Sequence[int]) -> dict[int, UpstreamState]:
    """How these upstreams are doing, those that were ever called."""
    rows = await tx.fetch_all(
        f"""
        SELECT upstream_id, {_COLUMNS}
          FROM upstream_states
         WHERE upstream_id IN (SELECT CAST(value AS BIGINT) FROM json_each(:upstream_ids))
        """,
        upstream_ids=json.dumps(list(upstream_ids)),
    )
    return {int(row[0] or 0): _state(row[1:]) for row in rows}


async def ensure(tx: Transaction, upstream_id: int) -> None:
    """Make the row of an upstream, if there is none."""
    await tx.execute(
        """
        INSERT INTO upstream_states (upstream_id, open_until, busy_until, failures, reason,
                                     requests, bytes, errors, hits, misses, coalesced, stale)
        VALUES (:upstream_id, 0, 0, 0, '', 0, 0, 0, 0, 0, 0, 0)
        ON CONFLICT (upstream_id) DO NOTHING
        """,
        upstream_id=upstream_id,
    )


async def trip(tx: Transaction, upstream_id: int, *, until: int, reason: str) -> None:
    """Nobody asks before `until`."""
    await tx.execute(
        """
        UPDATE upstream_states
           SET open_until = :until, reason = :reason, failures = failures + 1
         WHERE upstream_id = :upstream_id
        """,
        upstream_id=upstream_id,
        until=until,
        reason=reason,
    )


async def claim(tx: Transaction, upstream_id: int, *, seen: int, until: int) -> bool:
    """Be the one who tries again: whether nobody else was, since `seen` was read."""
    rows = await tx.execute(
        """
        UPDATE upstream_states
           SET open_until = :until
         WHERE upstream_id = :upstream_id
           AND open_until = :seen
        """,
        upstream_id=upstream_id,
        seen=seen,
        until=until,
    )
    return rows > 0


async def close(tx: Transaction, upstream_id: int) -> None:
    """It answers, or is another than it was: everybody may ask again."""
    await tx.execute(
        """
        UPDATE upstream_states
           SET open_until = 0, busy_until = 0, reason = '', failures = 0
         WHERE upstream_id = :upstream_id
        """,
        upstream_id=upstream_id,
    )


async def pause(tx: Transaction, upstream_id: int, *, until: int, reason: str) -> None:
    """Nobody asks for what the upstream counts before `until`."""
    await tx.execute(
        """
        UPDATE upstream_states
           SET busy_until = :until, reason = :reason
         WHERE upstream_id = :upstream_id
           AND busy_until < :until
        """,
        upstream_id=upstream_id,
        until=until,
        reason=reason,
    )


async def add(tx: Transaction, upstream_id: int, counted: UpstreamState) -> None:
    """Add what a process counted; what it saw of limit and failures counts if nobody saw later."""
    await tx.execute(
        """
        UPDATE upstream_states
           SET requests = requests + :requests,
               bytes = bytes + :bytes,
               errors = errors + :errors,
               hits = hits + :hits,
               misses = misses + :misses,
               coalesced = coalesced + :coalesced,
               stale = stale + :stale
         WHERE upstream_id = :upstream_id
        """,
        upstream_id=upstream_id,
        requests=counted.requests,
        bytes=counted.bytes,
        errors=counted.errors,
        hits=counted.hits,
        misses=counted.misses,
        coalesced=counted.coalesced,
        stale=counted.stale,
    )
    if counted.last_failed_at is not None:
        await tx.execute(
            """
            UPDATE upstream_states
               SET last_error = :error,
                   last_failed_at = :failed_at
             WHERE upstream_id = :upstream_id
               AND COALESCE(last_failed_at, 0) <= :failed_at
            """,
            upstream_id=upstream_id,
            error=counted.last_error,
            failed_at=counted.last_failed_at,
        )
    if counted.limit_seen_at is None:
        return
    await tx.execute(
        """
        UPDATE upstream_states
           SET rate_limit = :rate_limit,
               rate_remaining = :rate_remaining,
               rate_window = :rate_window,
               rate_seen_at = :rate_seen_at
         WHERE upstream_id = :upstream_id
           AND COALESCE(rate_seen_at, 0) <= :rate_seen_at
        """,
        upstream_id=upstream_id,
        rate_limit=counted.limit,
        rate_remaining=counted.limit_remaining,
        rate_window=counted.limit_window_seconds,
        rate_seen_at=counted.limit_seen_at,
    )


def _state(row: Row) -> UpstreamState:
    numbers = [int(value or 0) for value in row[9:16]]
    limit, remaining, window, seen_at, failed_at = (
        int(value) if value is not None else None for value in (*row[3:7], row[8])
    )
    return UpstreamState(
        int(row[0] or 0),
        int(row[1] or 0),
        str(row[2]),
        limit,
        remaining,
        window,
        seen_at,
        str(row[7]) if row[7] is not None else None,
        failed_at,
        *numbers,
    )
