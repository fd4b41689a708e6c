"""Manifests that come back: found with all that they list, locked, and no longer deleted."""

import json
from collections.abc import Iterable

from entrepot.db.database import Transaction


async def find_waiting(
    tx: Transaction, repository_id: int, digest: str
) -> tuple[int | None, int | None] | None:
    """When a manifest was deleted, and lost its last tag; None where it is gone."""
    row = await tx.fetch_one(
        """
        SELECT deleted_at, orphaned_at
          FROM manifests
         WHERE repository_id = :repository_id
           AND digest = :digest
        """,
        repository_id=repository_id,
        digest=digest,
    )
    if row is None:
        return None
    deleted_at, orphaned_at = row
    return (
        int(deleted_at) if deleted_at is not None else None,
        int(orphaned_at) if orphaned_at is not None else None,
    )


async def find_family(
    tx: Transaction, repository_id: int, digests: Iterable[str]
) -> frozenset[str]:
    """Those of these manifests that are there, deleted or not, and all that they list."""
    rows = await tx.fetch_all(
        """
        WITH RECURSIVE family (digest) AS (
            SELECT digest
              FROM manifests
             WHERE repository_id = :repository_id
               AND digest IN (SELECT value FROM json_each(:digests))
             UNION
            SELECT c.digest
              FROM family AS f
              JOIN manifest_children AS c
                ON c.repository_id = :repository_id AND c.manifest = f.digest
        )
        SELECT digest FROM family
        """,
        repository_id=repository_id,
        digests=json.dumps(sorted(digests)),
    )
    return frozenset(str(row[0]) for row in rows)


async def revive(tx: Transaction, repository_id: int, digests: Iterable[str]) -> None:
    """These manifests, which are locked, are neither deleted nor orphans, nor are their blobs.

    Every link is written, for its lock: whoever deletes a blob now waits, and then finds who needs
    it.
    """
    await tx.execute(
        """
        UPDATE manifests
           SET deleted_at = NULL, orphaned_at = NULL
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND (deleted_at IS NOT NULL OR orphaned_at IS NOT NULL)
        """,
        repository_id=repository_id,
        digests=json.dumps(sorted(digests)),
    )
    await tx.execute(
        """
        UPDATE blob_links
           SET deleted_at = NULL
         WHERE repository_id = :repository_id
           AND digest IN (SELECT b.digest
                            FROM manifest_blobs AS b
                           WHERE b.repository_id = :repository_id
                             AND b.manifest IN (SELECT value FROM json_each(:digests)))
        """,
        repository_id=repository_id,
        digests=json.dumps(sorted(digests)),
    )


async def note_push(tx: Transaction, repository_id: int, digest: str, *, now: int) -> None:
    """A manifest that came back ages from now on, as one that was pushed now."""
    await tx.execute(
        """
        UPDATE manifests
           SET pushed_at = :now
         WHERE repository_id = :repository_id
           AND digest = :digest
        """,
        repository_id=repository_id,
        digest=digest,
        now=now,
    )
