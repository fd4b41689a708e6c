"""Tags, and what each was before."""

from entrepot.db.database import Row, Transaction
from entrepot.model.access import is_match
from entrepot.model.stored import HeldTag, ListedTag

_SELECT = """
        SELECT t.name, t.digest, m.media_type, m.size, t.pushed_at
          FROM tags AS t
          JOIN manifests AS m ON m.repository_id = t.repository_id AND m.digest = t.digest
         WHERE t.repository_id = :repository_id
"""
_CANDIDATES = 1_000


async def move(
    tx: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    *,
    token_id: int | None,
    now: int,
    is_pushed: bool = True,
) -> str | None:
    """Point the tag at `digest`; the digest that it leaves behind, if another.

    Versions never repeat: a tag that was deleted goes on where its history ended. Not `is_pushed`:
    an upstream moves it, which leaves a tag alone that was pushed.
    """
    before, version, may_move = await _lock(
        tx, repository_id, name, digest, now=now, is_pushed=is_pushed
    )
    if not may_move or (before == digest and await _is_open(tx, repository_id, name, version)):
        return None
    await _end(tx, repository_id, name, now=now)
    version = await _begin(tx, repository_id, name, digest, token_id=token_id, now=now)
    await _point(tx, repository_id, name, digest, version=version)
    return before if before != digest else None


async def _lock(
    tx: Transaction, repository_id: int, name: str, digest: str, *, now: int, is_pushed: bool
) -> tuple[str, int, bool]:
    """Digest and version of the tag as it is, made if it is new; whether it may move so.

    The no-op upsert takes the row's lock before it is read: two pushes of one tag go in turn.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO tags (repository_id, name, digest, version, pushed_at, is_pushed)
        VALUES (:repository_id, :name, :digest, 0, :now, :is_pushed)
        ON CONFLICT (repository_id, name) DO UPDATE
           SET pushed_at = CASE WHEN excluded.is_pushed >= tags.is_pushed THEN excluded.pushed_at
                                ELSE tags.pushed_at END,
               is_pushed = CASE WHEN excluded.is_pushed = 1 THEN 1 ELSE tags.is_pushed END
        RETURNING digest, version, is_pushed
        """,
        repository_id=repository_id,
        name=name,
        digest=digest,
        now=now,
        is_pushed=int(is_pushed),
    )
    if row is None:
        return digest, 0, True
    return str(row[0]), int(row[1] or 0), bool(row[2]) is is_pushed


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
    tx: Transaction, repository_id: int, name: str, digest: str, *, version: int
) -> None:
    """The tag names this digest from here on."""
    await tx.execute(
        """
        UPDATE tags
           SET digest = :digest, version = :version
         WHERE repository_id = :repository_id
           AND name = :name
        """,
        repository_id=repository_id,
        name=name,
        digest=digest,
        version=version,
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


async def delete(tx: Transaction, repository_id: int, name: str, *, now: int) -> str | None:
    """Remove the tag, not what it pointed at; the digest it pointed at."""
    row = await tx.fetch_one(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name = :name
        RETURNING digest
        """,
        repository_id=repository_id,
        name=name,
    )
    if row is None:
        return None
    await _end(tx, repository_id, name, now=now)
    return str(row[0])


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
    await _end(tx, repository_id, name, now=now)
    return str(row[0])


async def delete_all_of(tx: Transaction, repository_id: int, digest: str, *, now: int) -> list[str]:
    """Remove every tag that points at a manifest; their names."""
    rows = await tx.fetch_all(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND digest = :digest
        RETURNING name
        """,
        repository_id=repository_id,
        digest=digest,
    )
    names = sorted(str(row[0]) for row in rows)
    for name in names:
        await _end(tx, repository_id, name, now=now)
    return names


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


async def find_match(tx: Transaction, repository_id: int, pattern: str) -> str | None:
    """A tag that fits `pattern`. Walks the tags that begin as the pattern does.

    LIKE narrows them down; it ignores case on SQLite, so what it finds is matched once more.
    """
    prefix = pattern.partition("*")[0]
    like = pattern
    for letter in "!%_":
        like = like.replace(letter, f"!{letter}")
    after = ""
    while True:
        rows = await tx.fetch_all(
            """
            SELECT name
              FROM tags
             WHERE repository_id = :repository_id
               AND name > :after
               AND name >= :prefix
               AND name < :end
               AND name LIKE :pattern ESCAPE '!'
             ORDER BY name
             LIMIT :limit
            """,
            repository_id=repository_id,
            after=after,
            prefix=prefix,
            end=f"{prefix}~",
            pattern=like.replace("*", "%"),
            limit=_CANDIDATES,
        )
        names = [str(row[0]) for row in rows]
        found = next((name for name in names if is_match(pattern, name)), None)
        if found is not None or len(names) < _CANDIDATES:
            return found
        after = names[-1]


async def end_all(tx: Transaction, repository_id: int, *, now: int) -> None:
    """Remove every tag of a repository; their history ends now."""
    await tx.execute(
        """
        UPDATE tag_history
           SET ended_at = :now
         WHERE repository_id = :repository_id
           AND ended_at IS NULL
        """,
        repository_id=repository_id,
        now=now,
    )
    await tx.execute(
        "DELETE FROM tags WHERE repository_id = :repository_id", repository_id=repository_id
    )


def _listed(row: Row) -> ListedTag:
    return ListedTag(
        name=str(row[0]),
        digest=str(row[1]),
        media_type=str(row[2]),
        size=int(row[3] or 0),
        pushed_at=int(row[4] or 0),
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


async def _end(tx: Transaction, repository_id: int, name: str, *, now: int) -> None:
    await tx.execute(
        """
        UPDATE tag_history
           SET ended_at = :now
         WHERE repository_id = :repository_id
           AND name = :name
           AND ended_at IS NULL
        """,
        repository_id=repository_id,
        name=name,
        now=now,
    )
