"""What pull-through repositories hold of their upstreams."""

import json
from collections.abc import Iterable

from entrepot.db.database import Transaction
from entrepot.db.manifests import as_stored
from entrepot.model.upstreams import MirroredTag


async def find(tx: Transaction, repository_id: int, tag: str) -> MirroredTag:
    """What a tag names, whether somebody pushed it, and what the upstream said of it when."""
    row = await tx.fetch_one(
        """
        SELECT m.digest, m.media_type, m.protected_until, m.size, m.body,
               t.is_pushed, l.digest, l.checked_at
          FROM (SELECT 1 AS one) AS asked
          LEFT JOIN tags AS t ON t.repository_id = :repository_id AND t.name = :tag
          LEFT JOIN manifests AS m ON m.repository_id = t.repository_id AND m.digest = t.digest
                                  AND m.deleted_at IS NULL
          LEFT JOIN lookups AS l ON l.repository_id = :repository_id AND l.reference = :tag
        """,
        repository_id=repository_id,
        tag=tag,
    )
    if row is None:
        message = "a row that is made of nothing is always there"
        raise AssertionError(message)
    is_pushed, digest, checked_at = row[5:]
    return MirroredTag(
        manifest=as_stored(row[:5]) if row[0] is not None else None,
        is_pushed=bool(is_pushed),
        digest=str(digest) if digest is not None else None,
        checked_at=int(checked_at) if checked_at is not None else None,
    )


async def has_synced(tx: Transaction, repository_id: int) -> bool:
    """Whether a tag sync has ever ended well."""
    row = await tx.fetch_one(
        "SELECT last_synced_at FROM repositories WHERE id = :repository_id",
        repository_id=repository_id,
    )
    return row is not None and row[0] is not None


async def find_referrers(tx: Transaction, repository_id: int, subject: str) -> bytes | None:
    """The upstream's list of what refers to a digest, as it was kept."""
    row = await tx.fetch_one(
        """
        SELECT body
          FROM referrer_lists
         WHERE repository_id = :repository_id
           AND subject = :subject
        """,
        repository_id=repository_id,
        subject=subject,
    )
    return row[0] if row and isinstance(row[0], bytes) else None


async def put_referrers(tx: Transaction, repository_id: int, subject: str, body: bytes) -> None:
    """Keep the upstream's list of what refers to a digest, in place of the one before."""
    await tx.execute(
        """
        INSERT INTO referrer_lists (repository_id, subject, body)
        VALUES (:repository_id, :subject, :body)
        ON CONFLICT (repository_id, subject) DO UPDATE SET body = excluded.body
        """,
        repository_id=repository_id,
        subject=subject,
        body=body,
    )


async def delete_referrers(tx: Transaction, repository_id: int, subject: str) -> None:
    """Nothing refers to this digest any more, as the upstream says."""
    await tx.execute(
        """
        DELETE FROM referrer_lists
         WHERE repository_id = :repository_id
           AND subject = :subject
        """,
        repository_id=repository_id,
        subject=subject,
    )


async def put_children(
    tx: Transaction, repository_id: int, manifest: str, children: Iterable[str]
) -> None:
    """Record what an upstream's index lists: it keeps those of them that are here."""
    digests = sorted(children)
    if digests:
        await tx.execute(
            """
            INSERT INTO mirrored_children (repository_id, manifest, digest)
            SELECT CAST(:repository_id AS BIGINT), CAST(:manifest AS TEXT), value
              FROM json_each(:digests)
             WHERE true
            ON CONFLICT (repository_id, manifest, digest) DO NOTHING
            """,
            repository_id=repository_id,
            manifest=manifest,
            digests=json.dumps(digests),
        )


async def note_accesses(tx: Transaction, repository_ids: Iterable[int], *, at: int) -> None:
    """These repositories were read until then."""
    await tx.execute(
        """
        UPDATE repositories
           SET accessed_at = :at
         WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
           AND (accessed_at IS NULL OR accessed_at < :at)
        """,
        ids=json.dumps(sorted(repository_ids)),
        at=at,
    )
