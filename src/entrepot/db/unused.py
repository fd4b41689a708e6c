"""Blobs that nothing needs any more: locked, judged, taken out of a repository, then buried.

See `orphans` for why it is safe: the same holds for these rows.
"""

import json
from collections.abc import Iterable

from entrepot.db.database import Transaction


async def lock_links(tx: Transaction, repository_id: int, digests: Iterable[str]) -> None:
    """Let nobody come to rely on these blobs until they are judged.

    In the order of digests, as pushes lock them.
    """
    await tx.execute(
        """
        UPDATE blob_links
           SET protected_until = protected_until
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
    )


async def delete_links(
    tx: Transaction, repository_id: int, digests: Iterable[str], *, now: int
) -> list[str]:
    """Take out of a repository what nothing in it needs; which.

    What came from an upstream leaves by eviction, which marks it.
    """
    rows = await tx.fetch_all(
        """
        DELETE FROM blob_links
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND protected_until <= :now
           AND NOT EXISTS (SELECT 1
                             FROM manifest_blobs AS m
                            WHERE m.repository_id = blob_links.repository_id
                              AND m.digest = blob_links.digest)
           AND (deleted_at IS NOT NULL
             OR NOT EXISTS (SELECT 1
                              FROM repositories AS r
                             WHERE r.id = :repository_id
                               AND r.deleted_at IS NULL
                               AND r.upstream_id IS NOT NULL))
        RETURNING digest
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
        now=now,
    )
    return sorted(str(row[0]) for row in rows)


async def find_sizes(tx: Transaction, digests: Iterable[str]) -> dict[str, int]:
    """How large these blobs are. Not RETURNING: on SQLite a question there walks all blobs."""
    rows = await tx.fetch_all(
        """
        SELECT digest, size
          FROM blobs
         WHERE digest IN (SELECT value FROM json_each(:digests))
        """,
        digests=_sorted(digests),
    )
    return {str(row[0]): int(row[1] or 0) for row in rows}


async def find_protected_links(
    tx: Transaction, repository_id: int, digests: Iterable[str], *, now: int
) -> dict[str, int]:
    """Of these blobs those that nothing needs and that are protected; until when."""
    rows = await tx.fetch_all(
        """
        SELECT l.digest, l.protected_until
          FROM blob_links AS l
         WHERE l.repository_id = :repository_id
           AND l.digest IN (SELECT value FROM json_each(:digests))
           AND l.protected_until > :now
           AND NOT EXISTS (SELECT 1
                             FROM manifest_blobs AS m
                            WHERE m.repository_id = l.repository_id
                              AND m.digest = l.digest)
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
        now=now,
    )
    return {str(row[0]): int(row[1] or 0) for row in rows}


async def lock_blobs(tx: Transaction, digests: Iterable[str]) -> None:
    """Let nobody store these digests until they are judged."""
    await tx.execute(
        """
        UPDATE blobs
           SET size = size
         WHERE digest IN (SELECT value FROM json_each(:digests))
        """,
        digests=_sorted(digests),
    )


async def bury_blobs(tx: Transaction, digests: Iterable[str], *, due_at: int) -> int:
    """Forget digests that no repository has, and have their objects deleted; how many.

    What has a tombstone goes: all of it, or, where somebody links one meanwhile, none.
    """
    values = {"digests": _sorted(digests)}
    await tx.execute(
        """
        INSERT INTO tombstones (storage_key, digest, size, due_at)
        SELECT b.storage_key, b.digest, b.size, CAST(:due_at AS BIGINT)
          FROM blobs AS b
         WHERE b.digest IN (SELECT value FROM json_each(:digests))
           AND NOT EXISTS (SELECT 1
                             FROM blob_links AS l
                            WHERE l.digest = b.digest)
        ON CONFLICT (storage_key) DO UPDATE SET due_at = excluded.due_at
        """,
        due_at=due_at,
        **values,
    )
    return await tx.execute(
        """
        DELETE FROM blobs
         WHERE digest IN (SELECT value FROM json_each(:digests))
           AND EXISTS (SELECT 1
                         FROM tombstones AS t
                        WHERE t.storage_key = blobs.storage_key)
        """,
        **values,
    )


def _sorted(digests: Iterable[str]) -> str:
    return json.dumps(sorted(digests))
