"""What tags were, and bringing back what they were last."""

import json
from collections.abc import Collection

from entrepot.db.database import Row, Transaction
from entrepot.model.undo import TagVersion

_SELECT = """
        SELECT h.version, h.digest, h.started_at, h.ended_at, h.ended_by, h.token_id,
               COALESCE(u.name, k.name), m.digest, COALESCE(m.deleted_at, m.orphaned_at)
          FROM tag_history AS h
          LEFT JOIN manifests AS m ON m.repository_id = h.repository_id AND m.digest = h.digest
          LEFT JOIN tokens AS k ON k.id = h.ended_token_id
          LEFT JOIN users AS u ON u.id = k.user_id
         WHERE h.repository_id = :repository_id
           AND h.name = :name
"""


async def page(
    tx: Transaction, repository_id: int, name: str, *, before: int, limit: int
) -> list[TagVersion]:
    """What a tag was, the latest first, those before the version `before`."""
    rows = await tx.fetch_all(
        f"{_SELECT} AND h.version < :before ORDER BY h.version DESC LIMIT :limit",
        repository_id=repository_id,
        name=name,
        before=before,
        limit=limit,
    )
    return [_version(row) for row in rows]


async def find(
    tx: Transaction, repository_id: int, name: str, *, version: int
) -> TagVersion | None:
    """One version of a tag."""
    row = await tx.fetch_one(
        f"{_SELECT} AND h.version = :version",
        repository_id=repository_id,
        name=name,
        version=version,
    )
    return _version(row) if row else None


async def find_at(tx: Transaction, repository_id: int, name: str, *, at: int) -> TagVersion | None:
    """What a tag was at a moment."""
    row = await tx.fetch_one(
        f"""
        {_SELECT}
           AND h.started_at <= :at
           AND (h.ended_at IS NULL OR h.ended_at > :at)
         ORDER BY h.version DESC
         LIMIT 1
        """,
        repository_id=repository_id,
        name=name,
        at=at,
    )
    return _version(row) if row else None


async def find_ended_with(
    tx: Transaction, repository_id: int, digest: str, *, at: int
) -> list[str]:
    """The tags that the deletion of a manifest at that moment ended, by name.

    Between that moment and that moment: SQLite takes the index by time for nothing less.
    """
    rows = await tx.fetch_all(
        """
        SELECT name
          FROM tag_history
         WHERE repository_id = :repository_id
           AND ended_at BETWEEN :at AND :at
           AND ended_by = 'manifest'
           AND digest = :digest
        """,
        repository_id=repository_id,
        digest=digest,
        at=at,
    )
    return sorted(str(row[0]) for row in rows)


async def page_of_ended(
    tx: Transaction, repository_id: int, *, by: str, since: int, after: str, limit: int
) -> list[tuple[str, str]]:
    """Tags that are not there since something ended them at `since` or later, with the digests.

    By name, those after `after`. By name and not by time, so that each page goes on where the one
    before ended: `+` keeps either database from the index by time, which it would sort each time.
    """
    rows = await tx.fetch_all(
        """
        SELECT h.name, h.digest
          FROM tag_history AS h
         WHERE h.repository_id = :repository_id
           AND h.name > :after
           AND +h.ended_at >= :since
           AND h.ended_by = :by
           AND h.version = (SELECT MAX(l.version)
                              FROM tag_history AS l
                             WHERE l.repository_id = h.repository_id
                               AND l.name = h.name)
         ORDER BY h.name
         LIMIT :limit
        """,
        repository_id=repository_id,
        by=by,
        since=since,
        after=after,
        limit=limit,
    )
    return [(str(row[0]), str(row[1])) for row in rows]


async def reopen(
    tx: Transaction, repository_id: int, names: Collection[str], *, token_id: int, now: int
) -> dict[str, bool]:
    """Bring back these tags as they were last; which came, and whether each counts as pushed.

    Not those that are there, nor those whose manifest is not. What an upstream gave was moved
    without a token, and is the upstream's again. The tags come first, for their locks: whoever
    pushes one of them now is before or behind us.
    """
    rows = await tx.fetch_all(
        """
        INSERT INTO tags (repository_id, name, digest, version, pushed_at, is_pushed)
        SELECT h.repository_id, h.name, h.digest, 0, CAST(:now AS BIGINT),
               CASE WHEN h.token_id IS NULL AND r.upstream_id IS NOT NULL THEN 0 ELSE 1 END
          FROM tag_history AS h
          JOIN repositories AS r ON r.id = h.repository_id
          JOIN manifests AS m
            ON m.repository_id = h.repository_id AND m.digest = h.digest AND m.deleted_at IS NULL
         WHERE h.repository_id = :repository_id
           AND h.name IN (SELECT value FROM json_each(:names))
           AND h.ended_at IS NOT NULL
           AND h.version = (SELECT MAX(l.version)
                              FROM tag_history AS l
                             WHERE l.repository_id = h.repository_id
                               AND l.name = h.name)
        ON CONFLICT (repository_id, name) DO NOTHING
        RETURNING name, is_pushed
        """,
        repository_id=repository_id,
        names=json.dumps(sorted(names)),
        now=now,
    )
    back = {str(row[0]): bool(row[1]) for row in sorted(rows)}
    if back:
        await _begin(tx, repository_id, back, token_id=token_id, now=now)
    return back


async def _begin(
    tx: Transaction, repository_id: int, back: Collection[str], *, token_id: int, now: int
) -> None:
    """The next versions of these tags begin now."""
    await tx.execute(
        """
        INSERT INTO tag_history (repository_id, name, version, digest, started_at, token_id)
        SELECT t.repository_id, t.name,
               (SELECT MAX(h.version) + 1
                  FROM tag_history AS h
                 WHERE h.repository_id = t.repository_id
                   AND h.name = t.name),
               t.digest, CAST(:now AS BIGINT),
               CASE WHEN t.is_pushed = 1 THEN CAST(:token_id AS BIGINT) END
          FROM tags AS t
         WHERE t.repository_id = :repository_id
           AND t.name IN (SELECT value FROM json_each(:names))
        """,
        repository_id=repository_id,
        names=json.dumps(sorted(back)),
        token_id=token_id,
        now=now,
    )
    await tx.execute(
        """
        UPDATE tags
           SET version = (SELECT h.version
                            FROM tag_history AS h
                           WHERE h.repository_id = tags.repository_id
                             AND h.name = tags.name
                             AND h.ended_at IS NULL)
         WHERE repository_id = :repository_id
           AND name IN (SELECT value FROM json_each(:names))
        """,
        repository_id=repository_id,
        names=json.dumps(sorted(back)),
    )


def _version(row: Row) -> TagVersion:
    return TagVersion(
        version=int(row[0] or 0),
        digest=str(row[1]),
        started_at=int(row[2] or 0),
        ended_at=int(row[3]) if row[3] is not None else None,
        ended_by=str(row[4]) if row[4] is not None else None,
        ended_who=str(row[6]) if row[6] is not None else None,
        was_pushed=row[5] is not None,
        is_held=row[7] is not None,
        waits_since=int(row[8]) if row[8] is not None else None,
    )
