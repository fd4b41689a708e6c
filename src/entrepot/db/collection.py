"""The review queue: what may have lost what kept it, and when collection looks."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.db.database import Transaction
from entrepot.model.ids import new_id


@dataclass(frozen=True, slots=True)
class Review:
    """A question: may this go? Each time it is asked its version is one that never was before.

    So whoever read it earlier does not take the next one for it, even if it was answered between.
    """

    kind: str
    repository_id: int
    digest: str
    version: int
    due_at: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many reviews of a kind wait for a reason, how many of them are due, and since when."""

    kind: str
    reason: str
    count: int
    due: int
    oldest_due_at: int


async def review(
    tx: Transaction, kind: str, repository_id: int, digest: str, *, due_at: int
) -> None:
    """Ask for another look at what may have lost its last root."""
    await tx.execute(
        f"""
        INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
        VALUES (:kind, :repository_id, :digest, :due_at, :version)
        {_ASKED_AGAIN}
        """,
        kind=kind,
        repository_id=repository_id,
        digest=digest,
        due_at=due_at,
        version=new_id(),
    )


async def review_all(
    tx: Transaction, kind: str, repository_id: int, digests: Iterable[str], *, due_at: int
) -> None:
    """Ask for another look at each of these."""
    await tx.execute(
        f"""
        INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
        SELECT CAST(:kind AS TEXT), CAST(:repository_id AS BIGINT), value,
               CAST(:due_at AS BIGINT), CAST(:version AS BIGINT)
          FROM json_each(:digests)
         WHERE true
        {_ASKED_AGAIN}
        """,
        kind=kind,
        repository_id=repository_id,
        digests=_sorted(digests),
        due_at=due_at,
        version=new_id(),
    )


_ASKED_AGAIN = """
        ON CONFLICT (kind, repository_id, digest)
        DO UPDATE SET due_at = excluded.due_at,
                      reason = NULL,
                      version = excluded.version
"""


_IS_AS_READ = "CAST(version AS TEXT) || ' ' || digest IN (SELECT value FROM json_each(:read))"


async def find_due(tx: Transaction, *, now: int, limit: int) -> list[Review]:
    """What is due, the oldest first."""
    rows = await tx.fetch_all(
        """
        SELECT kind, repository_id, digest, version, due_at
          FROM review_queue
         WHERE due_at <= :now
         ORDER BY due_at
         LIMIT :limit
        """,
        now=now,
        limit=limit,
    )
    return [
        Review(str(row[0]), int(row[1] or 0), str(row[2]), int(row[3] or 0), int(row[4] or 0))
        for row in rows
    ]


async def finish(tx: Transaction, reviews: Iterable[Review]) -> int:
    """Remove reviews, but those that were asked again since they were read; how many."""
    finished = 0
    for (kind, repository_id), alike in _alike(reviews).items():
        finished += await tx.execute(
            f"""
            DELETE FROM review_queue
             WHERE kind = :kind
               AND repository_id = :repository_id
               AND digest IN (SELECT value FROM json_each(:digests))
               AND {_IS_AS_READ}
            """,
            kind=kind,
            repository_id=repository_id,
            digests=_sorted(one.digest for one in alike),
            read=_sorted(f"{one.version} {one.digest}" for one in alike),
        )
    return finished


async def postpone(tx: Transaction, reviews: Iterable[Review], *, due_at: int, reason: str) -> int:
    """Look later, but at those that were asked again since they were read; how many."""
    postponed = 0
    for (kind, repository_id), alike in _alike(reviews).items():
        postponed += await tx.execute(
            f"""
            UPDATE review_queue
               SET due_at = :due_at, reason = :reason
             WHERE kind = :kind
               AND repository_id = :repository_id
               AND digest IN (SELECT value FROM json_each(:digests))
               AND {_IS_AS_READ}
            """,
            kind=kind,
            repository_id=repository_id,
            digests=_sorted(one.digest for one in alike),
            read=_sorted(f"{one.version} {one.digest}" for one in alike),
            due_at=due_at,
            reason=reason,
        )
    return postponed


async def find_waiting(tx: Transaction, *, now: int) -> list[Waiting]:
    """All that waits for a review, by kind and reason. Walks the queue."""
    rows = await tx.fetch_all(
        """
        SELECT kind, COALESCE(reason, ''), COUNT(*),
               SUM(CASE WHEN due_at <= :now THEN 1 ELSE 0 END), MIN(due_at)
          FROM review_queue
         GROUP BY kind, COALESCE(reason, '')
         ORDER BY 1, 2
        """,
        now=now,
    )
    return [
        Waiting(str(row[0]), str(row[1]), int(row[2] or 0), int(row[3] or 0), int(row[4] or 0))
        for row in rows
    ]


async def count_due(tx: Transaction, *, now: int) -> tuple[int, int]:
    """How many reviews are due, and since when the oldest is; 0 where none is."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*), COALESCE(MIN(due_at), 0)
          FROM review_queue
         WHERE due_at <= :now
        """,
        now=now,
    )
    return (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)


async def count_restorable_bytes(tx: Transaction) -> int:
    """How large all blobs are that only manifests need which wait to go. Walks the queue."""
    row = await tx.fetch_one(
        """
        SELECT SUM(b.size)
          FROM blobs AS b
         WHERE b.digest IN (SELECT p.digest
                              FROM review_queue AS q
                              JOIN manifest_blobs AS p
                                ON p.repository_id = q.repository_id AND p.manifest = q.digest
                             WHERE q.kind = 'manifest')
           AND NOT EXISTS (SELECT 1
                             FROM blob_links AS l
                             JOIN manifest_blobs AS p
                               ON p.repository_id = l.repository_id AND p.digest = l.digest
                             JOIN manifests AS m
                               ON m.repository_id = p.repository_id AND m.digest = p.manifest
                            WHERE l.digest = b.digest
                              AND m.deleted_at IS NULL
                              AND m.orphaned_at IS NULL)
        """
    )
    return int(row[0] or 0) if row else 0


async def count_unused_bytes(tx: Transaction) -> int:
    """How large all blobs are that wait to go and no manifest needs. Walks the queue."""
    row = await tx.fetch_one(
        """
        SELECT SUM(b.size)
          FROM blobs AS b
         WHERE b.digest IN (SELECT q.digest
                              FROM review_queue AS q
                             WHERE q.kind IN ('link', 'blob'))
           AND NOT EXISTS (SELECT 1
                             FROM blob_links AS l
                             JOIN manifest_blobs AS p
                               ON p.repository_id = l.repository_id AND p.digest = l.digest
                            WHERE l.digest = b.digest)
        """
    )
    return int(row[0] or 0) if row else 0


async def find_review(
    tx: Transaction, kind: str, repository_id: int, digest: str
) -> tuple[int, str] | None:
    """When somebody looks at this, and why not earlier."""
    row = await tx.fetch_one(
        """
        SELECT due_at, COALESCE(reason, '')
          FROM review_queue
         WHERE kind = :kind
           AND repository_id = :repository_id
           AND digest = :digest
        """,
        kind=kind,
        repository_id=repository_id,
        digest=digest,
    )
    return (int(row[0] or 0), str(row[1])) if row else None


async def count_gone(
    tx: Transaction,
    *,
    day: int,
    manifests: int = 0,
    links: int = 0,
    objects: int = 0,
    bytes_freed: int = 0,
) -> None:
    """Add what went to the day's line."""
    await tx.execute(
        """
        INSERT INTO collection_days (day, manifests, links, objects, bytes)
        VALUES (:day, :manifests, :links, :objects, :bytes_freed)
        ON CONFLICT (day) DO UPDATE
           SET manifests = collection_days.manifests + excluded.manifests,
               links = collection_days.links + excluded.links,
               objects = collection_days.objects + excluded.objects,
               bytes = collection_days.bytes + excluded.bytes
        """,
        day=day,
        manifests=manifests,
        links=links,
        objects=objects,
        bytes_freed=bytes_freed,
    )


async def find_days(tx: Transaction, *, limit: int) -> list[tuple[int, int, int, int, int]]:
    """Day, manifests, links, objects and bytes that went on it; the latest days first."""
    rows = await tx.fetch_all(
        """
        SELECT day, manifests, links, objects, bytes
          FROM collection_days
         ORDER BY day DESC
         LIMIT :limit
        """,
        limit=limit,
    )
    return [
        (int(day or 0), int(manifests or 0), int(links or 0), int(objects or 0), int(size or 0))
        for day, manifests, links, objects, size in rows
    ]


def _alike(reviews: Iterable[Review]) -> dict[tuple[str, int], list[Review]]:
    """Those of one kind and repository: what one statement can name."""
    alike: dict[tuple[str, int], list[Review]] = defaultdict(list)
    for found in reviews:
        alike[found.kind, found.repository_id].append(found)
    return alike


def _sorted(digests: Iterable[str]) -> str:
    return json.dumps(sorted(digests))
