"""Who has a digest, and what holds it there, one step at a time: for people who ask why."""

from dataclasses import dataclass

from entrepot.db.database import Transaction
from entrepot.db.reachability import belongs_to


@dataclass(frozen=True, slots=True)
class Holder:
    """A repository that has a digest, as a `blob` or a `manifest`. Times in µs."""

    repository_id: int
    path: str
    kind: str
    protected_until: int
    deleted_at: int | None
    orphaned_at: int | None
    is_mirror: bool
    repository_deleted_at: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """What holds a manifest: as an `index` that lists it, its `subject`, a `referrer`, or a tag."""

    kind: str
    name: str


async def find_holders(tx: Transaction, digest: str, *, after: int, limit: int) -> list[Holder]:
    """Repositories that have this digest, those after `after`. Walks the repositories."""
    rows = await tx.fetch_all(
        """
        SELECT h.repository_id, o.slug || '/' || r.path, h.kind, h.protected_until, h.deleted_at,
               h.orphaned_at, r.upstream_id IS NOT NULL, COALESCE(r.deleted_at, o.deleted_at)
          FROM (SELECT repository_id, 'blob' AS kind, protected_until, deleted_at,
                       CAST(NULL AS BIGINT) AS orphaned_at
                  FROM blob_links
                 WHERE digest = :digest
                 UNION ALL
                SELECT m.repository_id, 'manifest', m.protected_until, m.deleted_at, m.orphaned_at
                  FROM repositories AS a
                 CROSS JOIN manifests AS m
                 WHERE m.repository_id = a.id
                   AND m.digest = :digest) AS h
          JOIN repositories AS r ON r.id = h.repository_id
          JOIN organisations AS o ON o.id = r.organisation_id
         WHERE h.repository_id > :after
         ORDER BY h.repository_id, h.kind
         LIMIT :limit
        """,
        digest=digest,
        after=after,
        limit=limit,
    )
    return [
        Holder(
            int(row[0] or 0),
            str(row[1]),
            str(row[2]),
            int(row[3] or 0),
            int(row[4]) if row[4] is not None else None,
            int(row[5]) if row[5] is not None else None,
            bool(row[6]),
            int(row[7]) if row[7] is not None else None,
        )
        for row in rows
    ]


async def find_users(tx: Transaction, repository_id: int, digest: str, *, limit: int) -> list[str]:
    """Manifests of a repository that need this blob."""
    rows = await tx.fetch_all(
        """
        SELECT manifest
          FROM manifest_blobs
         WHERE repository_id = :repository_id
           AND digest = :digest
         LIMIT :limit
        """,
        repository_id=repository_id,
        digest=digest,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


async def find_steps(tx: Transaction, repository_id: int, digest: str, *, limit: int) -> list[Step]:
    """What may hold this manifest: tags first, then what it hangs below, then its referrers."""
    rows = await tx.fetch_all(
        f"""
        SELECT 1, 'tag', t.name
          FROM tags AS t
         WHERE t.repository_id = :repository_id
           AND t.digest = :digest
           AND NOT EXISTS (SELECT 1 FROM manifests AS o WHERE {belongs_to("t", "o")})
         UNION ALL
        SELECT 2, 'index', c.manifest
          FROM manifest_children AS c
         WHERE c.repository_id = :repository_id
           AND c.digest = :digest
         UNION ALL
        SELECT 2, 'index', c.manifest
          FROM mirrored_children AS c
         WHERE c.repository_id = :repository_id
           AND c.digest = :digest
         UNION ALL
        SELECT 3, 'subject', m.subject
          FROM manifests AS m
         WHERE m.repository_id = :repository_id
           AND m.digest = :digest
           AND m.subject IS NOT NULL
         UNION ALL
        SELECT 3, 'subject', o.digest
          FROM tags AS t
          JOIN manifests AS o ON {belongs_to("t", "o")}
         WHERE t.repository_id = :repository_id
           AND t.digest = :digest
         UNION ALL
        SELECT 4, 'referrer', m.digest
          FROM manifests AS m
         WHERE m.repository_id = :repository_id
           AND m.subject = :digest
         ORDER BY 1, 3
         LIMIT :limit
        """,
        repository_id=repository_id,
        digest=digest,
        limit=limit,
    )
    return [Step(str(row[1]), str(row[2])) for row in rows]
