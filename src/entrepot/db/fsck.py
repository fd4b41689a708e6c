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


def _body(row: Row) -> StoredBody:
    repository_id, digest, media_type, is_pushed, deleted_at, body = row
    return StoredBody(
        int(repository_id or 0),
        str(digest),
        str(media_type),
        bool(is_pushed) and deleted_at is None,
        body if isinstance(body, bytes) else b"",
    )
