"""Whose turn it is: which repositories retention looks at next."""

import json
from collections.abc import Iterable

from entrepot.db.database import Transaction


async def find_due(
    tx: Transaction, *, after: int, now: int, limit: int
) -> tuple[dict[int, int], int | None]:
    """Of each organisation the repository that is due the longest, those of rows after `after`.

    With the row of the last organisation that was looked at, if there may be more.
    """
    rows = await tx.fetch_all(
        """
        SELECT o.id, (SELECT r.id
                        FROM repositories AS r
                       WHERE r.organisation_id = o.id
                         AND r.deleted_at IS NULL
                         AND r.retention_due_at <= :now
                       ORDER BY r.retention_due_at
                       LIMIT 1)
          FROM organisations AS o
         WHERE o.id > :after
           AND o.deleted_at IS NULL
         ORDER BY o.id
         LIMIT :limit
        """,
        after=after,
        now=now,
        limit=limit,
    )
    due = {int(row[0] or 0): int(row[1]) for row in rows if row[1] is not None}
    return due, int(rows[-1][0] or 0) if len(rows) == limit else None


async def claim(
    tx: Transaction, repository_ids: Iterable[int], *, now: int, until: int
) -> list[int]:
    """Those of these repositories that are still due, which nobody else takes before `until`.

    Or before a tag of them expires.
    """
    rows = await tx.fetch_all(
        """
        UPDATE repositories
           SET retention_due_at = COALESCE((SELECT MIN(t.expires_at)
                                              FROM tags AS t
                                             WHERE t.repository_id = repositories.id
                                               AND t.expires_at > :now
                                               AND t.expires_at < :until), :until)
         WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
           AND retention_due_at <= :now
        RETURNING id
        """,
        ids=json.dumps(sorted(str(one) for one in repository_ids)),
        now=now,
        until=until,
    )
    return sorted(int(row[0] or 0) for row in rows)


async def make_due(tx: Transaction, repository_id: int, *, at: int) -> None:
    """Have a repository looked at by then."""
    await tx.execute(
        """
        UPDATE repositories
           SET retention_due_at = :at
         WHERE id = :repository_id
           AND retention_due_at > :at
        """,
        repository_id=repository_id,
        at=at,
    )
