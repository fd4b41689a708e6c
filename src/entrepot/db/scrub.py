"""When each stored object was read again, what it was then, and who suffers from damage."""

from dataclasses import dataclass

from entrepot.db.database import Row, Transaction
from entrepot.model.stored import LinkedBlob

_COLUMNS = "digest, size, storage_key, stamp, damaged_at"


@dataclass(frozen=True, slots=True)
class Damaged:
    """A blob whose object is lost or wrong, and since when that is known."""

    digest: str
    size: int
    damaged_at: int


@dataclass(frozen=True, slots=True)
class Affected:
    """A repository that has a damaged blob, and a tag that leads to it, if any does."""

    organisation: str
    repository: str
    tag: str | None


async def note_right(tx: Transaction, blob: LinkedBlob, *, stamp: int | None, now: int) -> bool:
    """The object was read and is what its digest says; False when the blob moved meanwhile."""
    changed = await tx.execute(
        """
        UPDATE blobs
           SET stamp = :stamp, scrubbed_at = :now, damaged_at = NULL
         WHERE digest = :digest
           AND storage_key = :storage_key
        """,
        digest=blob.digest,
        storage_key=blob.storage_key,
        stamp=stamp,
        now=now,
    )
    return changed > 0


async def note_damaged(tx: Transaction, blob: LinkedBlob, *, stamp: int | None, now: int) -> bool:
    """The object is not what its digest says; False when the blob moved meanwhile.

    `stamp` is that of the object which was right, should it come back; None if its bytes are wrong.
    """
    changed = await tx.execute(
        """
        UPDATE blobs
           SET stamp = :stamp, scrubbed_at = :now, damaged_at = COALESCE(damaged_at, :now)
         WHERE digest = :digest
           AND storage_key = :storage_key
        """,
        digest=blob.digest,
        storage_key=blob.storage_key,
        stamp=stamp,
        now=now,
    )
    return changed > 0


async def claim(tx: Transaction, *, before: int, until: int) -> LinkedBlob | None:
    """The blob that was read longest ago, before then, for nobody else to read.

    It counts as read at `until`, which makes it due again before long unless it is really read.
    """
    row = await tx.fetch_one(
        f"""
        UPDATE blobs
           SET scrubbed_at = :until
         WHERE scrubbed_at < :before
           AND digest = (SELECT digest
                           FROM blobs
                          WHERE scrubbed_at < :before
                          ORDER BY scrubbed_at, digest
                          LIMIT 1)
        RETURNING {_COLUMNS}
        """,
        before=before,
        until=until,
    )
    return _blob(row) if row else None


async def claim_damaged(tx: Transaction, *, before: int, until: int) -> LinkedBlob | None:
    """A damaged blob that was read before then, for nobody else to read."""
    row = await tx.fetch_one(
        f"""
        UPDATE blobs
           SET scrubbed_at = :until
         WHERE scrubbed_at < :before
           AND damaged_at IS NOT NULL
           AND digest = (SELECT MIN(digest)
                           FROM blobs
                          WHERE damaged_at IS NOT NULL
                            AND scrubbed_at < :before)
        RETURNING {_COLUMNS}
        """,
        before=before,
        until=until,
    )
    return _blob(row) if row else None


async def find(tx: Transaction, digest: str) -> LinkedBlob | None:
    """A blob, whoever has it."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM blobs WHERE digest = :digest", digest=digest)
    return _blob(row) if row else None


async def page(tx: Transaction, *, after: str, limit: int) -> list[LinkedBlob]:
    """All blobs by digest, those after `after`."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM blobs WHERE digest > :after ORDER BY digest LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [_blob(row) for row in rows]


async def page_of_manifests(
    tx: Transaction, *, after: tuple[int, str], limit: int
) -> list[tuple[int, str, bytes]]:
    """All manifests by repository and digest, those after `after`, with their bytes."""
    rows = await tx.fetch_all(
        """
        SELECT repository_id, digest, body
          FROM manifests
         WHERE (repository_id, digest) > (:repository_id, :digest)
         ORDER BY repository_id, digest
         LIMIT :limit
        """,
        repository_id=after[0],
        digest=after[1],
        limit=limit,
    )
    return [(int(row[0] or 0), str(row[1]), row[2]) for row in rows if isinstance(row[2], bytes)]


async def count_due(tx: Transaction, *, before: int) -> tuple[int, int]:
    """How many objects were not read since then, and how many bytes they have."""
    row = await tx.fetch_one(
        "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blobs WHERE scrubbed_at < :before",
        before=before,
    )
    return (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)


async def count_damaged(tx: Transaction) -> int:
    """How many blobs are known to be damaged."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM blobs WHERE damaged_at IS NOT NULL")
    return int(row[0] or 0) if row else 0


async def find_damaged(tx: Transaction, *, after: str, limit: int) -> list[Damaged]:
    """Damaged blobs by digest, those after `after`."""
    rows = await tx.fetch_all(
        """
        SELECT digest, size, damaged_at
          FROM blobs
         WHERE damaged_at IS NOT NULL
           AND digest > :after
         ORDER BY digest
         LIMIT :limit
        """,
        after=after,
        limit=limit,
    )
    return [Damaged(str(row[0]), int(row[1] or 0), int(row[2] or 0)) for row in rows]


async def find_affected(tx: Transaction, digest: str, *, limit: int) -> list[Affected]:
    """Repositories that have the blob, with the tags that lead to it, through indexes too."""
    rows = await tx.fetch_all(
        """
        WITH RECURSIVE users (repository_id, digest) AS (
            SELECT m.repository_id, m.manifest
              FROM blob_links AS l
              JOIN manifest_blobs AS m
                ON m.repository_id = l.repository_id AND m.digest = l.digest
             WHERE l.digest = :digest
             UNION
            SELECT c.repository_id, c.manifest
              FROM users AS u
              JOIN manifest_children AS c
                ON c.repository_id = u.repository_id AND c.digest = u.digest
        )
        SELECT o.slug, r.path, found.name
          FROM blob_links AS l
          JOIN repositories AS r ON r.id = l.repository_id
          JOIN organisations AS o ON o.id = r.organisation_id
          LEFT JOIN (SELECT DISTINCT t.repository_id, t.name
                       FROM users AS u
                       JOIN tags AS t
                         ON t.repository_id = u.repository_id AND t.digest = u.digest) AS found
            ON found.repository_id = l.repository_id
         WHERE l.digest = :digest
           AND l.deleted_at IS NULL
           AND r.deleted_at IS NULL
         ORDER BY o.slug, r.path, found.name
         LIMIT :limit
        """,
        digest=digest,
        limit=limit,
    )
    return [_affected(row) for row in rows]


async def find_affected_by_manifest(
    tx: Transaction, repository_id: int, digest: str, *, limit: int
) -> list[Affected]:
    """The repository of a manifest, with the tags that lead to it, through indexes too."""
    rows = await tx.fetch_all(
        """
        WITH RECURSIVE users (digest) AS (
            SELECT digest
              FROM manifests
             WHERE repository_id = :repository_id AND digest = :digest
             UNION
            SELECT c.manifest
              FROM users AS u
              JOIN manifest_children AS c
                ON c.repository_id = :repository_id AND c.digest = u.digest
        )
        SELECT DISTINCT o.slug, r.path, t.name
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
          LEFT JOIN tags AS t
            ON t.repository_id = r.id AND t.digest IN (SELECT u.digest FROM users AS u)
         WHERE r.id = :repository_id
         ORDER BY o.slug, r.path, t.name
         LIMIT :limit
        """,
        repository_id=repository_id,
        digest=digest,
        limit=limit,
    )
    return [_affected(row) for row in rows]


def _affected(row: Row) -> Affected:
    return Affected(str(row[0]), str(row[1]), str(row[2]) if row[2] is not None else None)


def _blob(row: Row) -> LinkedBlob:
    return LinkedBlob(
        digest=str(row[0]),
        size=int(row[1] or 0),
        storage_key=str(row[2]),
        stamp=int(row[3]) if row[3] is not None else None,
        is_damaged=row[4] is not None,
    )
