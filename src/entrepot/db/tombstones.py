"""Objects that nothing points at any more, and when each is to be deleted."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.db.database import Row, Transaction


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An object that is to go; `failures` is how often the store has refused."""

    storage_key: str
    digest: str
    size: int
    due_at: int
    failures: int
    error: str


@dataclass(frozen=True, slots=True)
class Buried:
    """How many objects are to go, how large they are, and how many of them the store refused."""

    count: int
    size: int
    oldest_due_at: int
    refused: int
    refused_size: int


async def bury(tx: Transaction, *, storage_key: str, digest: str, size: int, due_at: int) -> None:
    """Have an object deleted when it is due."""
    await tx.execute(
        """
        INSERT INTO tombstones (storage_key, digest, size, due_at)
        VALUES (:storage_key, :digest, :size, :due_at)
        ON CONFLICT (storage_key) DO UPDATE SET due_at = excluded.due_at
        """,
        storage_key=storage_key,
        digest=digest,
        size=size,
        due_at=due_at,
    )


async def find_due(tx: Transaction, *, now: int, limit: int) -> list[Tombstone]:
    """Objects that may be deleted now: due, and the object of no blob and of no segment."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM tombstones AS t
         WHERE t.due_at <= :now
           AND NOT EXISTS (SELECT 1
                             FROM blobs AS b
                            WHERE b.storage_key = t.storage_key)
           AND NOT EXISTS (SELECT 1
                             FROM segments AS s
                            WHERE s.object_key = t.storage_key)
         ORDER BY t.due_at
         LIMIT :limit
        """,
        now=now,
        limit=limit,
    )
    return [_tombstone(row) for row in rows]


async def find_all_of(tx: Transaction, digest: str, *, limit: int) -> list[Tombstone]:
    """Objects that held this digest and are to go. Walks the tombstones."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM tombstones AS t WHERE t.digest = :digest LIMIT :limit",
        digest=digest,
        limit=limit,
    )
    return [_tombstone(row) for row in rows]


async def remove(tx: Transaction, storage_keys: Iterable[str]) -> tuple[int, int]:
    """Forget objects that are deleted; how many were known, and their bytes."""
    rows = await tx.fetch_all(
        """
        DELETE FROM tombstones
         WHERE storage_key IN (SELECT value FROM json_each(:storage_keys))
        RETURNING size
        """,
        storage_keys=json.dumps(sorted(storage_keys)),
    )
    return len(rows), sum(int(row[0] or 0) for row in rows)


async def refuse(tx: Transaction, storage_key: str, *, error: str, due_at: int) -> None:
    """Note that the store did not delete an object; it is tried again then."""
    await tx.execute(
        """
        UPDATE tombstones
           SET failures = failures + 1, error = :error, due_at = :due_at
         WHERE storage_key = :storage_key
        """,
        storage_key=storage_key,
        error=error,
        due_at=due_at,
    )


async def count(tx: Transaction) -> Buried:
    """All objects that are to go. Walks the tombstones."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*), COALESCE(SUM(size), 0), COALESCE(MIN(due_at), 0),
               COALESCE(SUM(CASE WHEN failures > 0 THEN 1 ELSE 0 END), 0),
               COALESCE(SUM(CASE WHEN failures > 0 THEN size ELSE 0 END), 0)
          FROM tombstones
        """
    )
    values = [int(value or 0) for value in row] if row else [0] * 5
    return Buried(*values)


async def find_error(tx: Transaction) -> str | None:
    """What the store said last when it did not delete something. Walks the tombstones."""
    row = await tx.fetch_one(
        """
        SELECT error
          FROM tombstones
         WHERE failures > 0
         ORDER BY due_at DESC
         LIMIT 1
        """
    )
    return str(row[0]) if row else None


_COLUMNS = "t.storage_key, t.digest, t.size, t.due_at, t.failures, COALESCE(t.error, '')"


def _tombstone(row: Row) -> Tombstone:
    key, digest, size, due_at, failures, error = row
    return Tombstone(
        str(key), str(digest), int(size or 0), int(due_at or 0), int(failures or 0), str(error)
    )
