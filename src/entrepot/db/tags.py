"""Tags, and what each was before."""

from dataclasses import dataclass

from entrepot.db.database import Row, Transaction
from entrepot.model.stored import HeldTag, ListedTag

_SELECT = """
        SELECT t.name, t.digest, m.media_type, m.size, t.pushed_at, m.pulled_at, t.expires_at
          FROM tags AS t
          JOIN manifests AS m ON m.repository_id = t.repository_id AND m.digest = t.digest
         WHERE t.repository_id = :repository_id
"""
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Moved:
    """The digest that a tag left behind, if another; whether it is a pushed tag only now."""

    left: str | None
    is_new: bool


async def move(
    tx: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    *,
    token_id: int | None,
    now: int,
    is_pushed: bool = True,
    expires_at: int | None = None,
    by: str = "push",
) -> Moved:
    """Point the tag at `digest`, until it expires if it does; `by` ends the version before.

    Versions never repeat: a tag that was deleted goes on where its history ended. Not `is_pushed`:
    an upstream moves it, which leaves a tag alone that was pushed.
    """
    before, version, was_pushed = await _lock(
        tx, repository_id, name, digest, now=now, is_pushed=is_pushed, expires_at=expires_at
    )
    is_new = is_pushed and (version == 0 or not was_pushed)
    if was_pushed and not is_pushed:
        return Moved(None, is_new=False)
    if before != digest or not await _is_open(tx, repository_id, name, version):
        ended_by = by if is_pushed else "sync"
        await _end(tx, repository_id, name, by=ended_by, token_id=token_id, now=now)
        version = await _begin(tx, repository_id, name, digest, token_id=token_id, now=now)
    elif not is_new:
        return Moved(None, is_new=False)
    await _point(tx, repository_id, name, digest, version=version, is_pushed=is_pushed)
    return Moved(before if before != digest else None, is_new=is_new)


async def _lock(
    tx: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    *,
    now: int,
    is_pushed: bool,
    expires_at: int | None,
) -> tuple[str, int, bool]:
    """Digest and version of the tag as it is, and whether it was pushed; made if it is new.

    The no-op upsert takes the row's lock before it is read: two pushes of one tag go in turn.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO tags (repository_id, name, digest, version, pushed_at, is_pushed, expires_at)
        VALUES (:repository_id, :name, :digest, 0, :now, :is_pushed, :expires_at)
        ON CONFLICT (repository_id, name) DO UPDATE
           SET pushed_at = CASE WHEN excluded.is_pushed >= tags.is_pushed THEN excluded.pushed_at
                                ELSE tags.pushed_at END,
               expires_at = CASE WHEN excluded.is_pushed >= tags.is_pushed THEN excluded.expires_at
                                 ELSE tags.expires_at END
        RETURNING digest, version, is_pushed
        """,
        repository_id=repository_id,
        name=name,
        digest=digest,
        now=now,
        is_pushed=int(is_pushed),
        expires_at=expires_at,
    )
    if row is None:
        return digest, 0, is_pushed
    return str(row[0]), int(row[1] or 0), bool(row[2])


async def _begin(
    tx: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    *,
    token_id: int | None,
    now: int,
) -> int:
    """The next version of the tag's history, which begins now.

    A statement of its own: one that waited for the lock still counts what it saw before.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO tag_history (repository_id, name, version, digest, started_at, token_id)
        SELECT CAST(:repository_id AS BIGINT), CAST(:name AS TEXT), COALESCE(MAX(version), 0) + 1,
               CAST(:digest AS TEXT), CAST(:now AS BIGINT), CAST(:token_id AS BIGINT)
          FROM tag_history
         WHERE repository_id = :repository_id
           AND name = :name
        RETURNING version
        """,
        repository_id=repository_id,
        name=name,
        digest=digest,
        now=now,
        token_id=token_id,
    )
    return int(row[0] or 0) if row else 0


async def _point(
    tx: Transaction, repository_id: int, name: str, digest: str, *, version: int, is_pushed: bool
) -> None:
    """The tag names this digest from here on."""
    await tx.execute(
        """
        UPDATE tags
           SET digest = :digest, version = :version, is_pushed = :is_pushed
         WHERE repository_id = :repository_id
           AND name = :name
        """,
        repository_id=repository_id,
        name=name,
        digest=digest,
        version=version,
        is_pushed=int(is_pushed),
    )


async def is_mirrored(tx: Transaction, repository_id: int, name: str) -> bool:
    """Whether the upstream is known to have this tag, and nobody has pushed it here."""
    row = await tx.fetch_one(
        """
        SELECT COALESCE((SELECT 1 - t.is_pushed
                           FROM tags AS t
                          WHERE t.repository_id = :repository_id
                            AND t.name = :name),
                        (SELECT 1
                           FROM lookups AS l
                          WHERE l.repository_id = :repository_id
                            AND l.reference = :name
                            AND (l.digest IS NOT NULL
                              OR (l.checked_at IS NULL AND l.listed_at IS NOT NULL))))
        """,
        repository_id=repository_id,
        name=name,
    )
    return row is not None and bool(row[0])


async def delete(
    tx: Transaction, repository_id: int, name: str, *, token_id: int | None, now: int
) -> tuple[str, bool] | None:
    """Remove the tag, not what it pointed at; the digest it pointed at, and whether pushed."""
    row = await tx.fetch_one(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name = :name
        RETURNING digest, is_pushed
        """,
        repository_id=repository_id,
        name=name,
    )
    if row is None:
        return None
    await _end(tx, repository_id, name, by="delete", token_id=token_id, now=now)
    return str(row[0]), bool(row[1])


async def delete_mirrored(
    tx: Transaction, repository_id: int, name: str, *, now: int
) -> str | None:
    """Remove a tag that the upstream has no more; the digest that it pointed at.

    Not one that was pushed, and none where deleted tags are kept.
    """
    row = await tx.fetch_one(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name = :name
           AND is_pushed = 0
           AND EXISTS (SELECT 1
                         FROM repositories
                        WHERE id = :repository_id
                          AND keeps_deleted = 0)
        RETURNING digest
        """,
        repository_id=repository_id,
        name=name,
    )
    if row is None:
        return None
    await _end(tx, repository_id, name, by="sync", token_id=None, now=now)
    return str(row[0])


async def delete_all_of(
    tx: Transaction, repository_id: int, digest: str, *, token_id: int | None, now: int
) -> dict[str, bool]:
    """Remove every tag that points at a manifest; their names, and whether each was pushed."""
    rows = await tx.fetch_all(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND digest = :digest
        RETURNING name, is_pushed
        """,
        repository_id=repository_id,
        digest=digest,
    )
    found = {str(name): bool(is_pushed) for name, is_pushed in sorted(rows)}
    for name in found:
        await _end(tx, repository_id, name, by="manifest", token_id=token_id, now=now)
    return found


async def page(tx: Transaction, repository_id: int, *, after: str, limit: int) -> list[str]:
    """Names of tags in byte order, those after `after`."""
    rows = await tx.fetch_all(
        """
        SELECT name
          FROM tags
         WHERE repository_id = :repository_id
           AND name > :after
         ORDER BY name
         LIMIT :limit
        """,
        repository_id=repository_id,
        after=after,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


async def page_of_digests(
    tx: Transaction, repository_id: int, *, after: str, limit: int
) -> list[HeldTag]:
    """Tags in byte order, those after `after`, with when the upstream was last asked for them."""
    rows = await tx.fetch_all(
        """
        SELECT t.name, t.digest, t.is_pushed, COALESCE(l.checked_at, 0)
          FROM tags AS t
          LEFT JOIN lookups AS l ON l.repository_id = t.repository_id AND l.reference = t.name
         WHERE t.repository_id = :repository_id
           AND t.name > :after
         ORDER BY t.name
         LIMIT :limit
        """,
        repository_id=repository_id,
        after=after,
        limit=limit,
    )
    return [HeldTag(str(row[0]), str(row[1]), bool(row[2]), int(row[3] or 0)) for row in rows]


async def find(tx: Transaction, repository_id: int, name: str) -> ListedTag | None:
    """The tag with this name."""
    row = await tx.fetch_one(
        f"{_SELECT} AND t.name = :name", repository_id=repository_id, name=name
    )
    return _listed(row) if row else None


async def find_all(
    tx: Transaction, repository_id: int, *, prefix: str, after: str, limit: int
) -> list[ListedTag]:
    """Tags that begin with `prefix`, by name in byte order, those after `after`."""
    rows = await tx.fetch_all(
        f"""
        {_SELECT}
           AND t.name > :after
           AND t.name >= :prefix
           AND t.name < :end
         ORDER BY t.name
         LIMIT :limit
        """,
        repository_id=repository_id,
        after=after,
        prefix=prefix,
        end=f"{prefix}~",  # behind every letter of tags
        limit=limit,
    )
    return [_listed(row) for row in rows]


async def names_of(tx: Transaction, repository_id: int, digest: str, *, limit: int) -> list[str]:
    """Some of the tags that point at a manifest, in no order."""
    rows = await tx.fetch_all(
        """
        SELECT name
          FROM tags
         WHERE repository_id = :repository_id
           AND digest = :digest
         LIMIT :limit
        """,
        repository_id=repository_id,
        digest=digest,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


async def end_all(tx: Transaction, repository_id: int, *, token_id: int | None, now: int) -> int:
    """Remove every tag of a repository, whose history ends now; how many were pushed."""
    await tx.execute(
        """
        UPDATE tag_history
           SET ended_at = :now, ended_by = 'repository', ended_token_id = :token_id
         WHERE repository_id = :repository_id
           AND ended_at IS NULL
        """,
        repository_id=repository_id,
        token_id=token_id,
        now=now,
    )
    pushed = 0
    while rows := await tx.fetch_all(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name IN (SELECT name
                          FROM tags
                         WHERE repository_id = :repository_id
                         ORDER BY name
                         LIMIT :limit)
        RETURNING is_pushed
        """,
        repository_id=repository_id,
        limit=_AT_ONCE,
    ):
        pushed += sum(1 for row in rows if row[0])
    return pushed


def _listed(row: Row) -> ListedTag:
    return ListedTag(
        name=str(row[0]),
        digest=str(row[1]),
        media_type=str(row[2]),
        size=int(row[3] or 0),
        pushed_at=int(row[4] or 0),
        pulled_at=int(row[5]) if row[5] is not None else None,
        expires_at=int(row[6]) if row[6] is not None else None,
    )


async def _is_open(tx: Transaction, repository_id: int, name: str, version: int) -> bool:
    row = await tx.fetch_one(
        """
        SELECT 1
          FROM tag_history
         WHERE repository_id = :repository_id
           AND name = :name
           AND version = :version
           AND ended_at IS NULL
        """,
        repository_id=repository_id,
        name=name,
        version=version,
    )
    return row is not None


async def _end(
    tx: Transaction, repository_id: int, name: str, *, by: str, token_id: int | None, now: int
) -> None:
    """Close the tag's open line of history: by `push`, `delete` or `sync`, or with a `manifest`."""
    await tx.execute(
        """
        UPDATE tag_history
           SET ended_at = :now, ended_by = :by, ended_token_id = :token_id
         WHERE repository_id = :repository_id
           AND name = :name
           AND ended_at IS NULL
        """,
        repository_id=repository_id,
        name=name,
        by=by,
        token_id=token_id,
        now=now,
    )
