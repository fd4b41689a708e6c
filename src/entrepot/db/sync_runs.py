"""Runs of the tag sync: who does which, how far it came, and when the next is due."""

import json
from collections.abc import Collection

from entrepot.db.database import Row, Transaction
from entrepot.model.sync_runs import Cause, SyncCounts, SyncFailure, SyncRun, Turn

_COLUMNS = """id, repository_id, cause, started_at, ended_at, wanted, done, changed, removed,
               failed, fetched, error, failures, leader, beat"""

# How many runs of each organisation go on, in all processes.
_RUNNING = """
          WITH running AS (SELECT c.organisation_id, COUNT(*) AS number
                             FROM sync_runs AS s
                             JOIN repositories AS c ON c.id = s.repository_id
                            WHERE s.ended_at IS NULL
                              AND s.leader <> ''
                            GROUP BY c.organisation_id)
"""


async def find_due(
    tx: Transaction, *, now: int, latest: int, without: Collection[int]
) -> Turn | None:
    """The repository whose sync is due and not going on, and whose turn it is; deleted ones too.

    That is one of the organisation with the fewest runs, `without` some; of those the longest due.
    One that is due later than `latest` was put off by a schedule that holds no more.
    """
    row = await tx.fetch_one(
        f"""
        {_RUNNING}
        SELECT d.id, d.organisation_id, COALESCE(n.number, 0)
          FROM (SELECT r.id, r.organisation_id, r.sync_due_at
                  FROM repositories AS r
                 WHERE r.sync IS NOT NULL
                   AND r.sync_due_at <= :now
                 UNION ALL
                SELECT r.id, r.organisation_id, r.sync_due_at
                  FROM repositories AS r
                 WHERE r.sync IS NOT NULL
                   AND r.sync_due_at > :latest) AS d
          LEFT JOIN running AS n ON n.organisation_id = d.organisation_id
         WHERE d.organisation_id NOT IN (SELECT CAST(value AS BIGINT) FROM json_each(:without))
           AND NOT EXISTS (SELECT 1
                             FROM sync_runs AS s
                            WHERE s.repository_id = d.id
                              AND s.ended_at IS NULL)
         ORDER BY 3, d.sync_due_at
         LIMIT 1
        """,
        now=now,
        latest=latest,
        without=json.dumps(sorted(without)),
    )
    if row is None:
        return None
    return Turn(int(row[0] or 0), int(row[1] or 0), int(row[2] or 0))


async def find_waiting(tx: Transaction, *, without: Collection[int]) -> Turn | None:
    """The run that no process does, and whose turn it is: in the order of `find_due`."""
    row = await tx.fetch_one(
        f"""
        {_RUNNING}
        SELECT d.organisation_id, COALESCE(n.number, 0), {_COLUMNS}
          FROM (SELECT r.organisation_id, s.*
                  FROM sync_runs AS s
                  JOIN repositories AS r ON r.id = s.repository_id
                 WHERE s.ended_at IS NULL
                   AND s.leader = '') AS d
          LEFT JOIN running AS n ON n.organisation_id = d.organisation_id
         WHERE d.organisation_id NOT IN (SELECT CAST(value AS BIGINT) FROM json_each(:without))
         ORDER BY 2, d.id
         LIMIT 1
        """,
        without=json.dumps(sorted(without)),
    )
    if row is None:
        return None
    run = _run(row[2:])
    return Turn(run.repository_id, int(row[0] or 0), int(row[1] or 0), run)


async def put_off(tx: Transaction, repository_id: int, *, due_at: int) -> None:
    """Have the repository's next sync be due then."""
    await tx.execute(
        "UPDATE repositories SET sync_due_at = :due_at WHERE id = :repository_id",
        repository_id=repository_id,
        due_at=due_at,
    )


async def begin(
    tx: Transaction, run_id: int, repository_id: int, *, cause: Cause, leader: str, now: int
) -> SyncRun:
    """Begin a run, or find the one that goes on: a repository has one at a time.

    `leader` is who does it, empty for whoever takes it.
    """
    row = await tx.fetch_one(
        f"""
        INSERT INTO sync_runs (id, repository_id, cause, leader, beat, started_at,
                               wanted, done, changed, removed, failed, fetched)
        VALUES (:run_id, :repository_id, :cause, :leader, 1, :now, 0, 0, 0, 0, 0, 0)
        ON CONFLICT (repository_id) WHERE ended_at IS NULL
        DO UPDATE SET beat = sync_runs.beat
        RETURNING {_COLUMNS}
        """,
        run_id=run_id,
        repository_id=repository_id,
        cause=str(cause),
        leader=leader,
        now=now,
    )
    if row is None:
        message = "an upsert returns its row"
        raise AssertionError(message)
    return _run(row)


async def find_running(tx: Transaction, *, limit: int) -> list[SyncRun]:
    """Runs that some process does, or did until it stopped."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM sync_runs
         WHERE ended_at IS NULL
           AND leader <> ''
         ORDER BY repository_id
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_run(row) for row in rows]


async def take(tx: Transaction, run_id: int, *, seen: int, leader: str) -> bool:
    """Do a run from its beginning, in place of whoever gave no sign of life since beat `seen`.

    An empty `leader` leaves it to whoever takes it.
    """
    changed = await tx.execute(
        """
        UPDATE sync_runs
           SET leader = :leader, beat = beat + 1,
               wanted = 0, done = 0, changed = 0, removed = 0, failed = 0, fetched = 0
         WHERE id = :run_id
           AND ended_at IS NULL
           AND (beat = :seen OR leader = :leader)
        """,
        run_id=run_id,
        seen=seen,
        leader=leader,
    )
    return changed > 0


async def beat(tx: Transaction, run_id: int, *, leader: str, counts: SyncCounts) -> bool:
    """Give a sign of life, and say how far the run came; False when it is somebody else's now."""
    changed = await tx.execute(
        """
        UPDATE sync_runs
           SET beat = beat + 1, wanted = :wanted, done = :done, changed = :changed,
               removed = :removed, failed = :failed, fetched = :fetched
         WHERE id = :run_id
           AND leader = :leader
           AND ended_at IS NULL
        """,
        run_id=run_id,
        leader=leader,
        **_values(counts),
    )
    return changed > 0


async def let_go(tx: Transaction, run_id: int, *, leader: str) -> None:
    """Leave a run to whoever takes it."""
    await tx.execute(
        """
        UPDATE sync_runs
           SET leader = '', beat = beat + 1
         WHERE id = :run_id
           AND leader = :leader
           AND ended_at IS NULL
        """,
        run_id=run_id,
        leader=leader,
    )


async def end(tx: Transaction, run: SyncRun) -> bool:
    """Keep how a run ended, with its repository; False when it was not its leader's any more.

    The end of the last full success stays, whatever fails later.
    """
    changed = await tx.execute(
        """
        UPDATE sync_runs
           SET ended_at = :ended_at, wanted = :wanted, done = :done, changed = :changed,
               removed = :removed, failed = :failed, fetched = :fetched, error = :error,
               failures = :failures
         WHERE id = :run_id
           AND leader = :leader
           AND (ended_at IS NULL OR ended_at = :ended_at)
        """,
        run_id=run.id,
        leader=run.leader,
        ended_at=run.ended_at,
        error=run.error,
        failures=_written(run.failures),
        **_values(run.counts),
    )
    if changed:
        await tx.execute(
            """
            UPDATE repositories
               SET last_synced_at = CASE WHEN CAST(:error AS TEXT) IS NULL
                                         THEN CAST(:ended_at AS BIGINT)
                                         ELSE last_synced_at END,
                   last_sync_error = CAST(:error AS TEXT)
             WHERE id = :repository_id
            """,
            repository_id=run.repository_id,
            ended_at=run.ended_at,
            error=run.error,
        )
    return changed > 0


async def forget_old(tx: Transaction, repository_id: int, *, keep: int) -> None:
    """Forget all runs of a repository but the newest."""
    await tx.execute(
        """
        DELETE FROM sync_runs
         WHERE repository_id = :repository_id
           AND ended_at IS NOT NULL
           AND id NOT IN (SELECT id
                            FROM sync_runs
                           WHERE repository_id = :repository_id
                           ORDER BY id DESC
                           LIMIT :keep)
        """,
        repository_id=repository_id,
        keep=keep,
    )


async def page(tx: Transaction, repository_id: int, *, before: int, limit: int) -> list[SyncRun]:
    """Runs of a repository with ids below `before`, the newest first."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM sync_runs
         WHERE repository_id = :repository_id
           AND id < :before
         ORDER BY id DESC
         LIMIT :limit
        """,
        repository_id=repository_id,
        before=before,
        limit=limit,
    )
    return [_run(row) for row in rows]


def _values(counts: SyncCounts) -> dict[str, int]:
    return {
        "wanted": counts.wanted,
        "done": counts.done,
        "changed": counts.changed,
        "removed": counts.removed,
        "failed": counts.failed,
        "fetched": counts.fetched,
    }


def _written(failures: tuple[SyncFailure, ...]) -> str | None:
    if not failures:
        return None
    return json.dumps([[each.tag, each.reason, each.message] for each in failures])


def _run(row: Row) -> SyncRun:
    ended_at, error, failures = row[4], row[11], row[12]
    return SyncRun(
        id=int(row[0] or 0),
        repository_id=int(row[1] or 0),
        cause=Cause(str(row[2])),
        started_at=int(row[3] or 0),
        ended_at=int(ended_at) if ended_at is not None else None,
        counts=SyncCounts(*(int(value or 0) for value in row[5:11])),
        error=str(error) if error is not None else None,
        failures=tuple(SyncFailure(*each) for each in json.loads(str(failures or "[]"))),
        leader=str(row[13]),
        beat=int(row[14] or 0),
    )
