"""Manifests: their bytes, what they reference, and what refers to them."""

import json
from collections.abc import Iterable

from entrepot.db.database import Row, Transaction, Value
from entrepot.model.names import Reference, Tag
from entrepot.model.stored import ListedManifest, Referrer, StoredManifest


async def find(tx: Transaction, repository_id: int, reference: Reference) -> StoredManifest | None:
    """What `reference` names now."""
    if isinstance(reference, Tag):
        row = await tx.fetch_one(
            """
            SELECT m.digest, m.media_type, m.protected_until, m.size, m.body
              FROM tags AS t
              JOIN manifests AS m
                ON m.repository_id = t.repository_id AND m.digest = t.digest
             WHERE t.repository_id = :repository_id
               AND t.name = :tag
               AND m.deleted_at IS NULL
            """,
            repository_id=repository_id,
            tag=reference.text,
        )
    else:
        row = await tx.fetch_one(
            """
            SELECT digest, media_type, protected_until, size, body
              FROM manifests
             WHERE repository_id = :repository_id
               AND digest = :digest
               AND deleted_at IS NULL
            """,
            repository_id=repository_id,
            digest=str(reference),
        )
    return as_stored(row) if row else None


async def find_types(tx: Transaction, repository_id: int, digests: Iterable[str]) -> dict[str, str]:
    """The media types of those of these manifests that the repository has."""
    rows = await tx.fetch_all(
        """
        SELECT digest, media_type
          FROM manifests
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND deleted_at IS NULL
        """,
        repository_id=repository_id,
        digests=json.dumps(sorted(digests)),
    )
    return {str(row[0]): str(row[1]) for row in rows}


async def put(
    tx: Transaction,
    repository_id: int,
    *,
    digest: str,
    media_type: str,
    artifact_type: str | None,
    subject: str | None,
    annotations: str | None,
    depth: int,
    body: bytes,
    now: int,
    protected_until: int,
    is_pushed: bool = True,
) -> tuple[str, bool]:
    """Store a manifest, or note that it was pushed again; its media type, and whether it is new.

    Bytes that were damaged are right again. The first media type of a digest stays: two readings
    of the same bytes are an attack (CVE-2021-41190). Not `is_pushed`: it came from an upstream,
    which takes nothing from one that was pushed.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO manifests (repository_id, digest, media_type, artifact_type, subject,
                               annotations, depth, created_at, pushed_at, protected_until,
                               size, body, is_pushed)
        VALUES (:repository_id, :digest, :media_type, :artifact_type, :subject,
                :annotations, :depth, :now, :now, :protected_until,
                :size, :body, :is_pushed)
        ON CONFLICT (repository_id, digest) DO UPDATE
           SET pushed_at = CASE WHEN excluded.is_pushed = 1 THEN excluded.pushed_at
                                ELSE manifests.pushed_at END,
               depth = CASE WHEN excluded.is_pushed = 1 THEN excluded.depth
                            ELSE manifests.depth END,
               is_pushed = CASE WHEN excluded.is_pushed = 1 THEN 1
                                ELSE manifests.is_pushed END,
               size = excluded.size,
               body = excluded.body,
               protected_until = excluded.protected_until,
               deleted_at = NULL,
               orphaned_at = NULL
        RETURNING media_type, created_at = :now
        """,
        repository_id=repository_id,
        digest=digest,
        media_type=media_type,
        artifact_type=artifact_type,
        subject=subject,
        annotations=annotations,
        depth=depth,
        now=now,
        protected_until=protected_until,
        size=len(body),
        body=body,
        is_pushed=int(is_pushed),
    )
    return (str(row[0]), bool(row[1])) if row else (media_type, True)


async def add_references(
    tx: Transaction,
    repository_id: int,
    manifest: str,
    *,
    blobs: Iterable[str],
    children: Iterable[str],
) -> None:
    """Record what a manifest needs; the foreign keys hold it from now on."""
    for table, digests in (("manifest_blobs", blobs), ("manifest_children", children)):
        await tx.execute(
            f"""
            INSERT INTO {table} (repository_id, manifest, digest)
            SELECT CAST(:repository_id AS BIGINT), CAST(:manifest AS TEXT), value
              FROM json_each(:digests)
             WHERE true
            ON CONFLICT (repository_id, manifest, digest) DO NOTHING
            """,  # two table names of our own
            repository_id=repository_id,
            manifest=manifest,
            digests=json.dumps(sorted(digests)),
        )


async def protect(
    tx: Transaction, repository_id: int, digest: str, *, protected_until: int
) -> int | None:
    """Hold a manifest until then; its depth, or None where the repository has it not.

    Somebody needs it: it is an orphan no more. The update locks the row, as `blobs.protect` does
    for blobs.
    """
    row = await tx.fetch_one(
        """
        UPDATE manifests
           SET protected_until = CASE WHEN protected_until > :protected_until
                                      THEN protected_until ELSE :protected_until END,
               orphaned_at = NULL
         WHERE repository_id = :repository_id
           AND digest = :digest
           AND deleted_at IS NULL
        RETURNING depth
        """,
        repository_id=repository_id,
        digest=digest,
        protected_until=protected_until,
    )
    return int(row[0] or 0) if row else None


async def note_pulls(
    tx: Transaction, repository_id: int, digests: Iterable[str], *, at: int, step: int
) -> None:
    """These manifests were pulled until then; each is written at most once per `step`."""
    await tx.execute(
        """
        UPDATE manifests
           SET pulled_at = :at
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND (pulled_at IS NULL OR pulled_at <= :before)
        """,
        repository_id=repository_id,
        digests=json.dumps(sorted(digests)),
        at=at,
        before=at - step,
    )


async def delete(tx: Transaction, repository_id: int, digest: str, *, now: int) -> bool:
    """Take a manifest out of the repository, restorably; whether it was there."""
    changed = await tx.execute(
        """
        UPDATE manifests
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


async def find_parent(tx: Transaction, repository_id: int, digest: str) -> str | None:
    """An index of this repository that lists the manifest."""
    row = await tx.fetch_one(
        """
        SELECT m.digest
          FROM manifest_children AS c
          JOIN manifests AS m ON m.repository_id = c.repository_id AND m.digest = c.manifest
         WHERE c.repository_id = :repository_id
           AND c.digest = :digest
           AND m.deleted_at IS NULL
         LIMIT 1
        """,
        repository_id=repository_id,
        digest=digest,
    )
    return str(row[0]) if row else None


async def referrers(
    tx: Transaction,
    repository_id: int,
    subject: str,
    *,
    artifact_type: str | None,
    after: str,
    limit: int,
) -> list[Referrer]:
    """Manifests whose subject this is, by digest, those after `after`."""
    rows = await tx.fetch_all(
        """
        SELECT digest, media_type, size, artifact_type, annotations
          FROM manifests
         WHERE repository_id = :repository_id
           AND subject = :subject
           AND digest > :after
           AND deleted_at IS NULL
           AND (CAST(:artifact_type AS TEXT) IS NULL OR artifact_type = :artifact_type)
         ORDER BY digest
         LIMIT :limit
        """,
        repository_id=repository_id,
        subject=subject,
        artifact_type=artifact_type,
        after=after,
        limit=limit,
    )
    return [
        Referrer(
            digest=str(row[0]),
            media_type=str(row[1]),
            size=int(row[2] or 0),
            artifact_type=str(row[3]) if row[3] is not None else None,
            annotations=str(row[4]) if row[4] is not None else None,
        )
        for row in rows
    ]


async def get(
    tx: Transaction, repository_id: int, digest: str
) -> tuple[ListedManifest, bytes] | None:
    """A manifest as lists show it, and its bytes."""
    row = await tx.fetch_one(
        f"""
        SELECT {_LISTED}, body
          FROM manifests
         WHERE repository_id = :repository_id
           AND digest = :digest
           AND deleted_at IS NULL
        """,
        repository_id=repository_id,
        digest=digest,
    )
    return (_listed(row), _bytes(row[-1])) if row else None


async def find_all(
    tx: Transaction, repository_id: int, *, after: str, limit: int
) -> list[ListedManifest]:
    """Manifests by digest, those after `after`."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_LISTED}
          FROM manifests
         WHERE repository_id = :repository_id
           AND digest > :after
           AND deleted_at IS NULL
         ORDER BY digest
         LIMIT :limit
        """,
        repository_id=repository_id,
        after=after,
        limit=limit,
    )
    return [_listed(row) for row in rows]


_LISTED = "digest, media_type, artifact_type, subject, size, pushed_at, pulled_at"


def _listed(row: Row) -> ListedManifest:
    return ListedManifest(
        digest=str(row[0]),
        media_type=str(row[1]),
        artifact_type=str(row[2]) if row[2] is not None else None,
        subject=str(row[3]) if row[3] is not None else None,
        size=int(row[4] or 0),
        pushed_at=int(row[5] or 0),
        pulled_at=int(row[6]) if row[6] is not None else None,
    )


def as_stored(row: Row) -> StoredManifest:
    """From the columns digest, media_type, protected_until, size, body."""
    digest, media_type, protected_until, size, body = row
    return StoredManifest(
        str(digest), str(media_type), int(protected_until or 0), int(size or 0), _bytes(body)
    )


def _bytes(body: Value) -> bytes:
    if not isinstance(body, bytes):
        message = "a manifest's body is bytes"
        raise TypeError(message)
    return body
