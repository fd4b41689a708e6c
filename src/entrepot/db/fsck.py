"""What a check of database and store asks, each over everything: whether all of it fits together.

A statement sees one moment, and every change keeps these promises when it commits: so whatever one
of these finds is wrong, however busy the registry is.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from entrepot.db.database import Row, Transaction
from entrepot.model.stored import IN_SEGMENTS


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that leads nowhere: what it is, and the repository that it is in."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Account:
    """A count that is not what is there; `digest` for holders, else the bytes of a repository.

    `repository_id` 0 is the organisation's own line.
    """

    organisation_id: int
    repository_id: int
    digest: str
    kept: int
    actual: int


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A manifest's bytes, and where they are."""

    repository_id: int
    digest: str
    media_type: str
    is_whole: bool  # pushed and not deleted: all that it needs is here
    body: bytes


_WHERE = """
          JOIN repositories AS r ON r.id = x.repository_id
          JOIN organisations AS o ON o.id = r.organisation_id
"""

# Of each kind of breakage: its repository, and what it is.
BROKEN: Mapping[str, str] = {
    "tag of no manifest": f"""
        SELECT o.slug || '/' || r.path, x.name || ' is ' || x.digest
          FROM tags AS x
        {_WHERE}
          LEFT JOIN manifests AS m ON m.repository_id = x.repository_id AND m.digest = x.digest
         WHERE m.digest IS NULL OR m.deleted_at IS NOT NULL
    """,
    "manifest that lacks a blob": f"""
        SELECT o.slug || '/' || r.path, x.manifest || ' needs ' || x.digest
          FROM manifest_blobs AS x
        {_WHERE}
          JOIN manifests AS m ON m.repository_id = x.repository_id AND m.digest = x.manifest
          LEFT JOIN blob_links AS l ON l.repository_id = x.repository_id AND l.digest = x.digest
         WHERE m.deleted_at IS NULL
           AND (l.digest IS NULL OR l.deleted_at IS NOT NULL)
    """,
    "index that lacks a manifest": f"""
        SELECT o.slug || '/' || r.path, x.manifest || ' lists ' || x.digest
          FROM manifest_children AS x
        {_WHERE}
          JOIN manifests AS m ON m.repository_id = x.repository_id AND m.digest = x.manifest
          LEFT JOIN manifests AS c ON c.repository_id = x.repository_id AND c.digest = x.digest
         WHERE m.deleted_at IS NULL
           AND (c.digest IS NULL OR c.deleted_at IS NOT NULL)
    """,
    "link to no blob": f"""
        SELECT o.slug || '/' || r.path, x.digest
          FROM blob_links AS x
        {_WHERE}
          LEFT JOIN blobs AS b ON b.digest = x.digest
         WHERE b.digest IS NULL
    """,
    "tag without its history": f"""
        SELECT o.slug || '/' || r.path, x.name || ' is ' || x.digest
          FROM tags AS x
        {_WHERE}
          LEFT JOIN tag_history AS h
            ON h.repository_id = x.repository_id AND h.name = x.name AND h.ended_at IS NULL
         WHERE h.name IS NULL OR h.digest <> x.digest OR h.version <> x.version
    """,
    "history of no tag": f"""
        SELECT o.slug || '/' || r.path, x.name || ' was ' || x.digest
          FROM tag_history AS x
        {_WHERE}
          LEFT JOIN tags AS t ON t.repository_id = x.repository_id AND t.name = x.name
         WHERE x.ended_at IS NULL
           AND t.name IS NULL
    """,
}


async def find_broken(tx: Transaction, kind: str, *, limit: int) -> list[Broken]:
    """What is broken in one of the ways of BROKEN. Walks a table."""
    rows = await tx.fetch_all(f"{BROKEN[kind]} LIMIT :limit", limit=limit)
    return [Broken(str(row[0]), str(row[1])) for row in rows]


async def find_buried_in_use(tx: Transaction, *, limit: int) -> list[str]:
    """Keys of objects that are to be deleted although a blob or an upload needs them.

    Walks the tombstones.
    """
    rows = await tx.fetch_all(
        """
        SELECT t.storage_key
          FROM tombstones AS t
         WHERE EXISTS (SELECT 1 FROM blobs AS b WHERE b.storage_key = t.storage_key)
            OR EXISTS (SELECT 1 FROM segments AS s WHERE s.object_key = t.storage_key)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


async def unbury(tx: Transaction, storage_key: str) -> None:
    """Do not delete an object that a blob or an upload needs."""
    await tx.execute(
        """
        DELETE FROM tombstones
         WHERE storage_key = :storage_key
           AND (EXISTS (SELECT 1 FROM blobs AS b WHERE b.storage_key = :storage_key)
             OR EXISTS (SELECT 1 FROM segments AS s WHERE s.object_key = :storage_key))
        """,
        storage_key=storage_key,
    )


async def find_unknown(tx: Transaction, storage_keys: Iterable[str]) -> list[str]:
    """Those of these keys that no blob, tombstone, upload, segment or fetch knows.

    What is named after an upload is known for as long as that, or what it has become in segments:
    whatever writers left of it goes with it.
    """
    rows = await tx.fetch_all(
        """
        SELECT k.key
          FROM (SELECT value AS key,
                       SUBSTR(value, 1, 32) AS upload_key,
                       SUBSTR(value, 1, 32) || :in_segments AS parts_key
                  FROM json_each(:storage_keys)) AS k
         WHERE NOT EXISTS (SELECT 1
                             FROM blobs AS b
                            WHERE b.storage_key IN (k.key, k.parts_key))
           AND NOT EXISTS (SELECT 1
                             FROM tombstones AS t
                            WHERE t.storage_key IN (k.key, k.parts_key))
           AND k.upload_key NOT IN (SELECT storage_key FROM uploads)
           AND NOT EXISTS (SELECT 1 FROM segments AS s WHERE s.object_key = k.key)
           AND NOT EXISTS (SELECT 1 FROM fetches AS f WHERE f.id = k.key)
        """,
        in_segments=IN_SEGMENTS,
        storage_keys=json.dumps(list(storage_keys)),
    )
    return [str(row[0]) for row in rows]


async def count(tx: Transaction) -> tuple[int, int]:
    """How many blobs and manifests there are."""
    row = await tx.fetch_one(
        "SELECT (SELECT COUNT(*) FROM blobs), (SELECT COUNT(*) FROM manifests)"
    )
    return (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)


async def page_of_bodies(
    tx: Transaction, *, after: tuple[int, str], limit: int
) -> list[StoredBody]:
    """All manifests by repository and digest, those after `after`."""
    rows = await tx.fetch_all(
        """
        SELECT repository_id, digest, media_type, is_pushed, deleted_at, body
          FROM manifests
         WHERE (repository_id, digest) > (:repository_id, :digest)
         ORDER BY repository_id, digest
         LIMIT :limit
        """,
        repository_id=after[0],
        digest=after[1],
        limit=limit,
    )
    return [_body(row) for row in rows]


async def find_body(tx: Transaction, repository_id: int, digest: str) -> StoredBody | None:
    """One manifest, as it is by now."""
    row = await tx.fetch_one(
        """
        SELECT repository_id, digest, media_type, is_pushed, deleted_at, body
          FROM manifests
         WHERE repository_id = :repository_id
           AND digest = :digest
        """,
        repository_id=repository_id,
        digest=digest,
    )
    return _body(row) if row else None


async def find_references(tx: Transaction, repository_id: int, digest: str) -> set[str]:
    """All that a manifest is recorded to need."""
    rows = await tx.fetch_all(
        """
        SELECT digest
          FROM manifest_blobs
         WHERE repository_id = :repository_id AND manifest = :digest
         UNION
        SELECT digest
          FROM manifest_children
         WHERE repository_id = :repository_id AND manifest = :digest
        """,
        repository_id=repository_id,
        digest=digest,
    )
    return {str(row[0]) for row in rows}


async def find_wrong_holders(tx: Transaction, *, limit: int) -> list[Account]:
    """Digests that an organisation holds more or less often than is kept. Walks everything."""
    rows = await tx.fetch_all(
        """
        SELECT w.organisation_id, 0, w.digest, COALESCE(c.holders, 0), w.holders
          FROM (SELECT r.organisation_id, h.digest, COUNT(*) AS holders
                  FROM (SELECT repository_id, digest FROM blob_links
                         UNION ALL
                        SELECT repository_id, digest FROM manifests) AS h
                  JOIN repositories AS r ON r.id = h.repository_id
                 GROUP BY r.organisation_id, h.digest) AS w
          LEFT JOIN organisation_content AS c
            ON c.organisation_id = w.organisation_id AND c.digest = w.digest
         WHERE c.holders IS NULL OR c.holders <> w.holders
         UNION ALL
        SELECT c.organisation_id, 0, c.digest, c.holders, 0
          FROM organisation_content AS c
         WHERE NOT EXISTS (SELECT 1
                             FROM blob_links AS l
                             JOIN repositories AS r ON r.id = l.repository_id
                            WHERE l.digest = c.digest
                              AND r.organisation_id = c.organisation_id)
           AND NOT EXISTS (SELECT 1
                             FROM repositories AS r
                             JOIN manifests AS m ON m.repository_id = r.id
                            WHERE r.organisation_id = c.organisation_id
                              AND m.digest = c.digest)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_account(row) for row in rows]


async def find_wrong_bytes(tx: Transaction, *, limit: int) -> list[Account]:
    """Repositories and organisations whose bytes do not add up. Walks everything."""
    rows = await tx.fetch_all(
        """
        WITH held AS (
            SELECT r.organisation_id, h.repository_id, h.digest, h.size
              FROM (SELECT l.repository_id, l.digest, b.size
                      FROM blob_links AS l
                      JOIN blobs AS b ON b.digest = l.digest
                     UNION ALL
                    SELECT repository_id, digest, size FROM manifests) AS h
              JOIN repositories AS r ON r.id = h.repository_id
        )
        SELECT organisation_id, repository_id, '', CAST(SUM(kept) AS BIGINT),
               CAST(SUM(actual) AS BIGINT)
          FROM (SELECT organisation_id, repository_id, 0 AS kept, size AS actual
                  FROM held
                 UNION ALL
                SELECT once.organisation_id, 0, 0, once.size
                  FROM (SELECT organisation_id, digest, MIN(size) AS size
                          FROM held
                         GROUP BY organisation_id, digest) AS once
                 UNION ALL
                SELECT organisation_id, COALESCE(repository_id, 0), bytes, 0
                  FROM byte_deltas
                 UNION ALL
                SELECT p.organisation_id, p.repository_id, p.bytes, 0
                  FROM usage_points AS p
                 WHERE p.repository_id >= 0
                   AND p.at = (SELECT MAX(q.at)
                                 FROM usage_points AS q
                                WHERE q.organisation_id = p.organisation_id
                                  AND q.repository_id = p.repository_id)) AS line
         GROUP BY organisation_id, repository_id
        HAVING SUM(kept) <> SUM(actual)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_account(row) for row in rows]


async def find_wrong_tags(tx: Transaction, *, limit: int) -> list[Account]:
    """Organisations whose pushed tags do not add up. Walks all tags."""
    rows = await tx.fetch_all(
        """
        SELECT organisation_id, 0, '', CAST(SUM(kept) AS BIGINT), CAST(SUM(actual) AS BIGINT)
          FROM (SELECT r.organisation_id, 0 AS kept, 1 AS actual
                  FROM tags AS t
                  JOIN repositories AS r ON r.id = t.repository_id
                 WHERE t.is_pushed = 1
                 UNION ALL
                SELECT organisation_id, tags, 0
                  FROM byte_deltas
                 UNION ALL
                SELECT p.organisation_id, p.tags, 0
                  FROM usage_points AS p
                 WHERE p.repository_id = 0
                   AND p.at = (SELECT MAX(q.at)
                                 FROM usage_points AS q
                                WHERE q.organisation_id = p.organisation_id
                                  AND q.repository_id = 0)) AS line
         GROUP BY organisation_id
        HAVING SUM(kept) <> SUM(actual)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_account(row) for row in rows]


async def correct_holders(tx: Transaction, account: Account) -> bool:
    """Count the difference in; whether the count is now what it was to be.

    Once: after an unknown COMMIT the second attempt finds the first one's count. And not where
    something came or went since it was seen.
    """
    difference = account.actual - account.kept
    await tx.execute(
        """
        INSERT INTO organisation_content (organisation_id, digest, holders)
        VALUES (:organisation_id, :digest, :difference)
        ON CONFLICT (organisation_id, digest)
        DO UPDATE SET holders = organisation_content.holders + :difference
         WHERE organisation_content.holders = :kept
        """,
        organisation_id=account.organisation_id,
        digest=account.digest,
        difference=difference,
        kept=account.kept,
    )
    await tx.execute(
        """
        DELETE FROM organisation_content
         WHERE organisation_id = :organisation_id
           AND digest = :digest
           AND holders <= 0
        """,
        organisation_id=account.organisation_id,
        digest=account.digest,
    )
    row = await tx.fetch_one(
        """
        SELECT holders
          FROM organisation_content
         WHERE organisation_id = :organisation_id
           AND digest = :digest
        """,
        organisation_id=account.organisation_id,
        digest=account.digest,
    )
    return (row[0] if row else 0) == account.actual


async def correct_sum(
    tx: Transaction,
    account: Account,
    *,
    of_tags: bool,
    id: int,  # noqa: A002  # the column's name
    now: int,
) -> None:
    """Count the difference in bytes, or in tags, from now on: once for each `id`."""
    difference = account.actual - account.kept
    await tx.execute(
        """
        INSERT INTO byte_deltas (id, organisation_id, repository_id, at, bytes, tags)
        VALUES (:id, :organisation_id, :repository_id, :now, :bytes, :tags)
        ON CONFLICT (id) DO NOTHING
        """,
        id=id,
        organisation_id=account.organisation_id,
        repository_id=account.repository_id or None,
        now=now,
        bytes=0 if of_tags else difference,
        tags=difference if of_tags else 0,
    )


def _account(row: Row) -> Account:
    return Account(
        int(row[0] or 0), int(row[1] or 0), str(row[2]), int(row[3] or 0), int(row[4] or 0)
    )


def _body(row: Row) -> StoredBody:
    repository_id, digest, media_type, is_pushed, deleted_at, body = row
    return StoredBody(
        int(repository_id or 0),
        str(digest),
        str(media_type),
        bool(is_pushed) and deleted_at is None,
        body if isinstance(body, bytes) else b"",
    )
