"""Blobs, and the links that make a blob part of a repository."""

from entrepot.db.database import Row, Transaction
from entrepot.db.repositories import COLUMNS, as_repository
from entrepot.model.access import Repository
from entrepot.model.stored import LinkedBlob


async def find(tx: Transaction, repository_id: int, digest: str) -> LinkedBlob | None:
    """The blob, if this repository has it."""
    row = await tx.fetch_one(
        """
        SELECT b.size, b.storage_key, l.protected_until, b.stamp, b.damaged_at
          FROM blob_links AS l
          JOIN blobs AS b ON b.digest = l.digest
         WHERE l.repository_id = :repository_id
           AND l.digest = :digest
           AND l.deleted_at IS NULL
        """,
        repository_id=repository_id,
        digest=digest,
    )
    return _blob(digest, row) if row else None


async def find_from(tx: Transaction, upstream_id: int, digest: str) -> LinkedBlob | None:
    """The blob, if anybody has it from the registry that this upstream is, and undamaged.

    That registry's word proves access to it, and to nothing else: whoever runs a registry can have
    it say that it holds what others pushed here or pulled from elsewhere. What may have been
    pushed, now or while that was allowed, counts for its own organisation alone.
    """
    row = await tx.fetch_one(
        """
        SELECT b.size, b.storage_key, 0, b.stamp, b.damaged_at
          FROM blobs AS b
         WHERE b.digest = :digest
           AND b.damaged_at IS NULL
           AND EXISTS
               (
                   SELECT 1
                     FROM upstreams AS ours
                     JOIN upstreams AS theirs ON theirs.origin = ours.origin
                     JOIN repositories AS r ON r.upstream_id = theirs.id
                     JOIN blob_links AS l ON l.repository_id = r.id
                    WHERE ours.id = :upstream_id
                      AND l.digest = b.digest
                      AND r.deleted_at IS NULL
                      AND (r.organisation_id = ours.organisation_id
                        OR r.accepts_push = 0
                       AND NOT EXISTS (SELECT 1
                                         FROM manifest_blobs AS m
                                        WHERE m.repository_id = l.repository_id
                                          AND m.digest = l.digest))
               )
        """,
        digest=digest,
        upstream_id=upstream_id,
    )
    return _blob(digest, row) if row else None


async def put(
    tx: Transaction, *, digest: str, size: int, storage_key: str, stamp: int, now: int
) -> LinkedBlob:
    """Record that `storage_key` holds this digest; where it is from now on.

    Another key comes back when somebody else was first: then ours is a duplicate. DO UPDATE locks
    the row, so that a collector that is looking at it waits.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO blobs (digest, size, storage_key, stamp, created_at, scrubbed_at)
        VALUES (:digest, :size, :storage_key, :stamp, :now, :now)
        ON CONFLICT (digest) DO UPDATE SET size = blobs.size
        RETURNING size, storage_key, 0, stamp, damaged_at
        """,
        digest=digest,
        size=size,
        storage_key=storage_key,
        stamp=stamp,
        now=now,
    )
    return _blob(digest, row) if row else LinkedBlob(digest, size, storage_key, stamp=stamp)


async def heal(
    tx: Transaction, digest: str, *, size: int, storage_key: str, stamp: int, now: int
) -> None:
    """Let a blob whose object is lost, or not known to be right, live at another key."""
    await tx.execute(
        """
        UPDATE blobs
           SET size = :size, storage_key = :storage_key, stamp = :stamp, scrubbed_at = :now,
               damaged_at = NULL
         WHERE digest = :digest
        """,
        size=size,
        storage_key=storage_key,
        stamp=stamp,
        now=now,
        digest=digest,
    )


async def move(tx: Transaction, blob: LinkedBlob, *, storage_key: str, stamp: int) -> bool:
    """Let a blob live at another key, which is right; False when it lives elsewhere by now."""
    changed = await tx.execute(
        """
        UPDATE blobs
           SET storage_key = :storage_key, stamp = :stamp, damaged_at = NULL
         WHERE digest = :digest
           AND storage_key IN (:seen, :storage_key)
        """,
        digest=blob.digest,
        seen=blob.storage_key,
        storage_key=storage_key,
        stamp=stamp,
    )
    return changed > 0


async def is_key_known(tx: Transaction, storage_key: str) -> bool:
    """Whether a blob lives at this key, or its object already waits to be deleted."""
    row = await tx.fetch_one(
        """
        SELECT 1 FROM blobs WHERE storage_key = :storage_key
         UNION ALL
        SELECT 1 FROM tombstones WHERE storage_key = :storage_key
        """,
        storage_key=storage_key,
    )
    return row is not None


async def link(
    tx: Transaction, repository_id: int, digest: str, *, now: int, protected_until: int
) -> bool:
    """Make the blob part of the repository; whether it was no part before, deleted or not.

    `now` is this attempt's own: after an unknown COMMIT the second attempt finds the first one's
    row, which is older, and counts nothing twice.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO blob_links (repository_id, digest, created_at, protected_until)
        VALUES (:repository_id, :digest, :now, :protected_until)
        ON CONFLICT (repository_id, digest)
        DO UPDATE SET deleted_at = NULL, protected_until = excluded.protected_until
        RETURNING created_at = :now
        """,
        repository_id=repository_id,
        digest=digest,
        now=now,
        protected_until=protected_until,
    )
    return row is not None and bool(row[0])


async def holders(
    tx: Transaction, organisation_id: int, digest: str, *, limit: int
) -> list[Repository]:
    """Repositories of an organisation that have the blob.

    CROSS JOIN keeps SQLite from walking the organisation's repositories instead of the blob's.
    """
    rows = await tx.fetch_all(
        f"""
        SELECT {COLUMNS}
          FROM blob_links AS l
         CROSS JOIN repositories AS r
         CROSS JOIN organisations AS o
         WHERE l.digest = :digest
           AND l.deleted_at IS NULL
           AND r.id = l.repository_id
           AND r.organisation_id = :organisation_id
           AND r.deleted_at IS NULL
           AND o.id = r.organisation_id
         ORDER BY l.repository_id
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        digest=digest,
        limit=limit,
    )
    return [as_repository(row) for row in rows]


async def protect(
    tx: Transaction, repository_id: int, digest: str, *, protected_until: int
) -> bool:
    """Hold a blob of this repository until then; whether the repository has it, undamaged.

    The update locks the link: a deletion that runs at the same time waits and then sees what was
    written behind this (READ COMMITTED re-reads the row), or has won and this finds nothing.
    """
    changed = await tx.execute(
        """
        UPDATE blob_links
           SET protected_until = CASE WHEN protected_until > :protected_until
                                      THEN protected_until ELSE :protected_until END
         WHERE repository_id = :repository_id
           AND digest = :digest
           AND deleted_at IS NULL
           AND NOT EXISTS (SELECT 1
                             FROM blobs AS b
                            WHERE b.digest = blob_links.digest
                              AND b.damaged_at IS NOT NULL)
        """,
        repository_id=repository_id,
        digest=digest,
        protected_until=protected_until,
    )
    return changed > 0


async def delete_link(tx: Transaction, repository_id: int, digest: str, *, now: int) -> bool:
    """Take the blob out of the repository, restorably; whether it was there."""
    changed = await tx.execute(
        """
        UPDATE blob_links
           SET deleted_at = :now
         WHERE repository_id = :repository_id
           AND digest = :digest
           AND deleted_at IS NULL
        """,
        repository_id=repository_id,
        digest=digest,
        now=now,
    )
    return changed > 0


async def find_user_of(tx: Transaction, repository_id: int, digest: str) -> str | None:
    """A manifest of this repository that needs the blob."""
    row = await tx.fetch_one(
        """
        SELECT m.digest
          FROM manifest_blobs AS r
          JOIN manifests AS m ON m.repository_id = r.repository_id AND m.digest = r.manifest
         WHERE r.repository_id = :repository_id
           AND r.digest = :digest
           AND m.deleted_at IS NULL
         LIMIT 1
        """,
        repository_id=repository_id,
        digest=digest,
    )
    return str(row[0]) if row else None


def _blob(digest: str, row: Row) -> LinkedBlob:
    size, storage_key, protected_until, stamp, damaged_at = row
    return LinkedBlob(
        digest,
        int(size or 0),
        str(storage_key),
        int(protected_until or 0),
        int(stamp) if stamp is not None else None,
        damaged_at is not None,
    )
