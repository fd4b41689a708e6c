"""Which mirrored blobs may leave, and letting them go.

A blob is held by any manifest that was pushed to its repository, deleted restorably or not, and
while its link is protected. What an upstream gave has no rows in manifest_blobs and holds nothing.
"""

from entrepot.db.database import Transaction

# Of l, a link.
_MAY_LEAVE = """
               l.deleted_at IS NULL
           AND l.protected_until < :now
           AND NOT EXISTS (SELECT 1
                             FROM manifest_blobs AS m
                            WHERE m.repository_id = l.repository_id
                              AND m.digest = l.digest)
"""


async def find_idle(tx: Transaction, *, idle_since: int, now: int, limit: int) -> list[int]:
    """Pull-through repositories that hold what may leave, and that nobody has read since then.

    The one that was read longest ago comes first.
    """
    rows = await tx.fetch_all(
        f"""
        SELECT r.id
          FROM repositories AS r
         WHERE r.upstream_id IS NOT NULL
           AND r.deleted_at IS NULL
           AND COALESCE(r.accessed_at, r.created_at) < :idle_since
           AND EXISTS (SELECT 1
                         FROM blob_links AS l
                        WHERE l.repository_id = r.id
                          AND {_MAY_LEAVE})
         ORDER BY COALESCE(r.accessed_at, r.created_at)
         LIMIT :limit
        """,
        idle_since=idle_since,
        now=now,
        limit=limit,
    )
    return [int(row[0] or 0) for row in rows]


async def delete_links(
    tx: Transaction, repository_id: int, *, idle_since: int, now: int, limit: int
) -> list[str]:
    """Take blobs that may leave out of a repository that nobody has read since then; which.

    Whoever comes to need a blob updates its link first and protects it, so this waits for the row,
    reads it again (READ COMMITTED), and leaves it alone; or was first, and they find it deleted.
    """
    rows = await tx.fetch_all(
        f"""
        UPDATE blob_links
           SET deleted_at = :now
         WHERE repository_id = :repository_id
           AND deleted_at IS NULL
           AND protected_until < :now
           AND digest IN (SELECT l.digest
                            FROM blob_links AS l
                           WHERE l.repository_id = :repository_id
                             AND {_MAY_LEAVE}
                           ORDER BY l.digest
                           LIMIT :limit)
           AND EXISTS (SELECT 1
                         FROM repositories AS r
                        WHERE r.id = :repository_id
                          AND r.upstream_id IS NOT NULL
                          AND COALESCE(r.accessed_at, r.created_at) < :idle_since)
        RETURNING digest
        """,
        repository_id=repository_id,
        idle_since=idle_since,
        now=now,
        limit=limit,
    )
    return sorted(str(row[0]) for row in rows)


async def count_bytes(tx: Transaction) -> int:
    """How large all blobs are together that pull-through repositories hold, each counted once."""
    row = await tx.fetch_one(
        """
        SELECT SUM(b.size)
          FROM blobs AS b
         WHERE EXISTS (SELECT 1
                         FROM blob_links AS l
                         JOIN repositories AS r ON r.id = l.repository_id
                        WHERE l.digest = b.digest
                          AND l.deleted_at IS NULL
                          AND r.upstream_id IS NOT NULL
                          AND r.deleted_at IS NULL)
        """
    )
    return int(row[0] or 0) if row else 0
