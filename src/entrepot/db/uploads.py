"""Upload sessions. A session belongs to one repository and one credential."""

import json
from collections.abc import Iterable

from entrepot.db.database import Row, Transaction
from entrepot.model.stored import UploadSession

_COLUMNS = """id, repository_id, algorithm, storage_key, size, digest, boot_id, created_at,
               expires_at, committed_at, segment_count"""

# When a session expires that was ended before its time: it is nobody's any more, and goes with the
# next sweep.
_ENDED = 0


async def add(
    tx: Transaction,
    *,
    id: str,  # noqa: A002  # the column's name
    repository_id: int,
    token_id: int,
    algorithm: str,
    storage_key: str,
    now: int,
    expires_at: int,
) -> None:
    """Open a session; again after an unknown COMMIT."""
    await tx.execute(
        """
        INSERT INTO uploads (id, repository_id, token_id, algorithm, storage_key, size,
                             created_at, expires_at)
        VALUES (:id, :repository_id, :token_id, :algorithm, :storage_key, 0,
                :now, :expires_at)
        ON CONFLICT (id) DO NOTHING
        """,
        id=id,
        repository_id=repository_id,
        token_id=token_id,
        algorithm=algorithm,
        storage_key=storage_key,
        now=now,
        expires_at=expires_at,
    )


async def find(
    tx: Transaction,
    upload_id: str,
    *,
    repository_id: int,
    token_id: int,
    opened_before: int,
    now: int,
) -> UploadSession | None:
    """The session, if it is this repository's and this credential's (CVE-2026-32589) and lives."""
    row = await tx.fetch_one(
        f"""
        SELECT {_COLUMNS}
          FROM uploads
         WHERE id = :id
           AND repository_id = :repository_id
           AND token_id = :token_id
           AND created_at < :opened_before
           AND expires_at > :now
        """,  # a list of columns
        id=upload_id,
        repository_id=repository_id,
        token_id=token_id,
        opened_before=opened_before,
        now=now,
    )
    return _session(row) if row else None


async def get(tx: Transaction, upload_id: str) -> UploadSession | None:
    """The session as it is now, for whoever was let in before; None once it has ended."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM uploads WHERE id = :id AND expires_at > :ended",  # its columns
        id=upload_id,
        ended=_ENDED,
    )
    return _session(row) if row else None


async def advance(
    tx: Transaction,
    upload_id: str,
    *,
    size_before: int,
    size: int,
    digest: str | None,
    boot_id: str,
    segment_count: int,
    expires_at: int,
) -> bool:
    """Note that bytes came; whether nobody else noted any since `size_before`.

    `expires_at` is the caller's own: after an unknown COMMIT its second attempt knows the first by
    it.
    """
    changed = await tx.execute(
        """
        UPDATE uploads
           SET size = :size, digest = :digest, boot_id = :boot_id, expires_at = :expires_at,
               segment_count = :segment_count
         WHERE id = :id
           AND (size = :size_before OR (size = :size AND expires_at = :expires_at))
           AND committed_at IS NULL
           AND expires_at > :ended
        """,
        id=upload_id,
        size_before=size_before,
        size=size,
        digest=digest,
        boot_id=boot_id,
        segment_count=segment_count,
        expires_at=expires_at,
        ended=_ENDED,
    )
    return changed > 0


async def renew(tx: Transaction, upload_id: str, *, expires_at: int) -> None:
    """Let an open session live until then, while its bytes arrive."""
    await tx.execute(
        """
        UPDATE uploads
           SET expires_at = :expires_at
         WHERE id = :id
           AND committed_at IS NULL
           AND expires_at > :ended
           AND expires_at <= :expires_at
        """,
        id=upload_id,
        expires_at=expires_at,
        ended=_ENDED,
    )


async def find_open(tx: Transaction, upload_ids: Iterable[str]) -> list[UploadSession]:
    """Those of these sessions that are not committed."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM uploads
         WHERE id IN (SELECT value FROM json_each(:upload_ids))
           AND committed_at IS NULL
        """,  # a list of columns
        upload_ids=json.dumps(sorted(upload_ids)),
    )
    return [_session(row) for row in rows]


async def note_digest(tx: Transaction, upload_id: str, *, size: int, digest: str) -> bool:
    """Note what all bytes of an open session hash to; False when more have come meanwhile."""
    changed = await tx.execute(
        """
        UPDATE uploads
           SET digest = :digest
         WHERE id = :id
           AND size = :size
           AND committed_at IS NULL
        """,
        id=upload_id,
        size=size,
        digest=digest,
    )
    return changed > 0


async def commit(
    tx: Transaction, upload_id: str, *, digest: str, size: int, now: int, expires_at: int
) -> bool:
    """Close a session of this size whose blob is linked; whether it was open until now.

    It is kept a while, so that a repeated PUT succeeds too.
    """
    changed = await tx.execute(
        """
        UPDATE uploads
           SET committed_at = :now, digest = :digest, expires_at = :expires_at
         WHERE id = :id
           AND size = :size
           AND committed_at IS NULL
           AND expires_at > :ended
        """,
        id=upload_id,
        digest=digest,
        size=size,
        now=now,
        expires_at=expires_at,
        ended=_ENDED,
    )
    return changed > 0


async def put_off(tx: Transaction, upload_id: str, *, now: int, expires_at: int) -> bool:
    """Have a session that has expired expire later; whether nobody else did.

    Done again after an unknown COMMIT it finds its own moment.
    """
    changed = await tx.execute(
        """
        UPDATE uploads
           SET expires_at = :expires_at
         WHERE id = :id
           AND (expires_at <= :now OR expires_at = :expires_at)
        """,
        id=upload_id,
        now=now,
        expires_at=expires_at,
    )
    return changed > 0


async def delete(tx: Transaction, upload_id: str) -> None:
    """Forget a session."""
    await tx.execute("DELETE FROM uploads WHERE id = :id", id=upload_id)


async def delete_open(tx: Transaction, upload_id: str, *, expired_by: int) -> bool:
    """Forget a session unless it is committed, or was alive by then; whether it was there."""
    changed = await tx.execute(
        """
        DELETE FROM uploads
         WHERE id = :id
           AND committed_at IS NULL
           AND expires_at <= :expired_by
        """,
        id=upload_id,
        expired_by=expired_by,
    )
    return changed > 0


async def end_all_of(tx: Transaction, repository_id: int) -> None:
    """End every session of a repository, for good; the sweeper forgets them, with their bytes."""
    await tx.execute(
        "UPDATE uploads SET expires_at = :ended WHERE repository_id = :repository_id",
        repository_id=repository_id,
        ended=_ENDED,
    )


async def count_open(tx: Transaction, token_id: int, *, limit: int, now: int) -> int:
    """How many sessions a credential has open, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM uploads
                 WHERE token_id = :token_id
                   AND committed_at IS NULL
                   AND expires_at > :now
                 LIMIT :limit) AS open_sessions
        """,
        token_id=token_id,
        limit=limit,
        now=now,
    )
    return int(row[0] or 0) if row else 0


async def has_any_since(
    tx: Transaction, *, repository_id: int, token_id: int, opened_before: int
) -> bool:
    """Whether this credential opened an upload here before that moment, and it is remembered."""
    row = await tx.fetch_one(
        """
        SELECT 1
          FROM uploads
         WHERE token_id = :token_id
           AND repository_id = :repository_id
           AND created_at < :opened_before
           AND expires_at > :ended
         LIMIT 1
        """,
        repository_id=repository_id,
        token_id=token_id,
        opened_before=opened_before,
        ended=_ENDED,
    )
    return row is not None


async def expired(tx: Transaction, *, now: int, limit: int) -> list[UploadSession]:
    """Sessions past their time, oldest first."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM uploads
         WHERE expires_at <= :now
         ORDER BY expires_at
         LIMIT :limit
        """,  # a list of columns
        now=now,
        limit=limit,
    )
    return [_session(row) for row in rows]


async def is_expired(tx: Transaction, upload_id: str, *, now: int) -> bool:
    """Whether the session is past its time."""
    row = await tx.fetch_one(
        "SELECT 1 FROM uploads WHERE id = :id AND expires_at <= :now", id=upload_id, now=now
    )
    return row is not None


async def is_known(tx: Transaction, storage_key: str) -> bool:
    """Whether a session keeps its bytes at this key."""
    row = await tx.fetch_one(
        "SELECT 1 FROM uploads WHERE storage_key = :storage_key", storage_key=storage_key
    )
    return row is not None


async def sum_open(tx: Transaction, organisation_id: int, *, now: int) -> int:
    """How many bytes the open sessions of an organisation have received; walks all open ones."""
    row = await tx.fetch_one(
        """
        SELECT CAST(SUM(u.size) AS BIGINT)
          FROM uploads AS u
          JOIN repositories AS r ON r.id = u.repository_id
         WHERE u.committed_at IS NULL
           AND u.expires_at > :now
           AND r.organisation_id = :organisation_id
        """,
        organisation_id=organisation_id,
        now=now,
    )
    return int(row[0] or 0) if row else 0


async def count_all_open(tx: Transaction) -> int:
    """How many sessions are open, for the metric."""
    row = await tx.fetch_one("SELECT COUNT(*) FROM uploads WHERE committed_at IS NULL")
    return int(row[0] or 0) if row else 0


def _session(row: Row) -> UploadSession:
    committed_at = row[9]
    return UploadSession(
        id=str(row[0]),
        repository_id=int(row[1] or 0),
        algorithm=str(row[2]),
        storage_key=str(row[3]),
        size=int(row[4] or 0),
        digest=str(row[5]) if row[5] is not None else None,
        boot_id=str(row[6]) if row[6] is not None else None,
        created_at=int(row[7] or 0),
        expires_at=int(row[8] or 0),
        committed_at=int(committed_at) if committed_at is not None else None,
        segment_count=int(row[10] or 0),
    )
