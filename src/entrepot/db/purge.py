"""What is left of a deleted repository or organisation once nobody can restore it."""

import json
from collections.abc import Iterable

from entrepot.db.database import Transaction
from entrepot.model.ids import new_id

# In an order in which no row needs one that is gone.
TABLES = {
    "tag_history": "name, version",
    "manifest_children": "manifest, digest",
    "manifest_blobs": "manifest, digest",
    "mirrored_children": "manifest, digest",
    "referrer_lists": "subject",
    "lookups": "reference",
    "sync_runs": "id",
    "project_links": "project_id",
}


async def condemn(tx: Transaction, repository_id: int) -> None:
    """Let nobody restore a deleted repository from now on, by whatever clock or window."""
    await tx.execute(
        "UPDATE repositories SET deleted_at = 0 WHERE id = :repository_id AND deleted_at > 0",
        repository_id=repository_id,
    )


async def delete_some(tx: Transaction, table: str, repository_id: int, *, limit: int) -> int:
    """Delete rows of a repository from one of `TABLES`; how many."""
    key = TABLES[table]
    return await tx.execute(
        f"""
        DELETE FROM {table}
         WHERE repository_id = :repository_id
           AND ({key}) IN (SELECT {key}
                             FROM {table}
                            WHERE repository_id = :repository_id
                            LIMIT :limit)
        """,  # names of our own
        repository_id=repository_id,
        limit=limit,
    )


async def delete_tags(tx: Transaction, repository_id: int, *, limit: int) -> tuple[int, int]:
    """Delete tags of a repository; how many, and how many of them had been pushed."""
    rows = await tx.fetch_all(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name IN (SELECT name
                          FROM tags
                         WHERE repository_id = :repository_id
                         LIMIT :limit)
        RETURNING is_pushed
        """,
        repository_id=repository_id,
        limit=limit,
    )
    return len(rows), sum(int(row[0] or 0) for row in rows)


async def delete_manifests(tx: Transaction, repository_id: int, *, limit: int) -> dict[str, int]:
    """Delete manifests of a repository that have no parts any more; the sizes by digest."""
    rows = await tx.fetch_all(
        """
        DELETE FROM manifests
         WHERE repository_id = :repository_id
           AND digest IN (SELECT digest
                            FROM manifests
                           WHERE repository_id = :repository_id
                           LIMIT :limit)
        RETURNING digest, size
        """,
        repository_id=repository_id,
        limit=limit,
    )
    return {str(row[0]): int(row[1] or 0) for row in rows}


async def delete_links(tx: Transaction, repository_id: int, *, limit: int) -> list[str]:
    """Take blobs out of a repository without manifests; which."""
    rows = await tx.fetch_all(
        """
        DELETE FROM blob_links
         WHERE repository_id = :repository_id
           AND digest IN (SELECT digest
                            FROM blob_links
                           WHERE repository_id = :repository_id
                           LIMIT :limit)
        RETURNING digest
        """,
        repository_id=repository_id,
        limit=limit,
    )
    return sorted(str(row[0]) for row in rows)


async def is_in_use(tx: Transaction, repository_id: int) -> bool:
    """Whether an upload or a fetch is not over: sweeps end those, and know their objects."""
    row = await tx.fetch_one(
        """
        SELECT 1 FROM uploads WHERE repository_id = :repository_id
         UNION ALL
        SELECT 1 FROM fetches WHERE repository_id = :repository_id
         LIMIT 1
        """,
        repository_id=repository_id,
    )
    return row is not None


async def delete_repository(tx: Transaction, repository_id: int) -> None:
    """Delete the row of a repository that has nothing any more, and what waits for its review.

    Not the review of the repository itself. Raises Conflict when there is something after all.
    """
    await tx.execute(
        """
        DELETE FROM review_queue
         WHERE kind IN ('link', 'manifest')
           AND repository_id = :repository_id
        """,
        repository_id=repository_id,
    )
    await tx.execute(
        "DELETE FROM repositories WHERE id = :repository_id", repository_id=repository_id
    )


async def lock_organisation(tx: Transaction, organisation_id: int) -> int | None:
    """When an organisation was deleted; None where it is not."""
    row = await tx.fetch_one(
        """
        UPDATE organisations
           SET slug = slug
         WHERE id = :organisation_id
        RETURNING deleted_at
        """,
        organisation_id=organisation_id,
    )
    return int(row[0]) if row and row[0] is not None else None


async def delete_repositories_of(
    tx: Transaction, organisation_id: int, *, at: int, limit: int
) -> list[int]:
    """Mark repositories of an organisation as gone since then; which."""
    rows = await tx.fetch_all(
        """
        UPDATE repositories
           SET deleted_at = :at, version = version + 1
         WHERE deleted_at IS NULL
           AND id IN (SELECT id
                        FROM repositories
                       WHERE organisation_id = :organisation_id
                         AND deleted_at IS NULL
                       LIMIT :limit)
        RETURNING id
        """,
        organisation_id=organisation_id,
        at=at,
        limit=limit,
    )
    return sorted(int(row[0] or 0) for row in rows)


async def review_repositories(
    tx: Transaction, repository_ids: Iterable[int], *, due_at: int
) -> None:
    """Have deleted repositories purged when it is due."""
    await tx.execute(
        """
        INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
        SELECT 'repository', CAST(value AS BIGINT), '', CAST(:due_at AS BIGINT),
               CAST(:version AS BIGINT)
          FROM json_each(:repository_ids)
         WHERE true
        ON CONFLICT (kind, repository_id, digest)
        DO UPDATE SET due_at = excluded.due_at,
                      reason = NULL,
                      version = excluded.version
        """,
        repository_ids=json.dumps([str(id_) for id_ in repository_ids]),
        due_at=due_at,
        version=new_id(),
    )
