"""Namespace mirrors: prefixes of an organisation's paths that mirror a whole upstream."""

import json

from entrepot.db.database import Row, Transaction
from entrepot.model.upstreams import NamespaceMirror

_SELECT = """
        SELECT n.id, n.organisation_id, o.slug, n.prefix, n.upstream_id, u.name, n.upstream_prefix,
               n.allow, n.deny, n.freshness, n.created_at, n.version, u.preset, u.origin,
               n.is_public, o.allows_public
          FROM namespace_mirrors AS n
          JOIN organisations AS o ON o.id = n.organisation_id
          JOIN upstreams AS u ON u.id = n.upstream_id
         WHERE n.deleted_at IS NULL
           AND o.deleted_at IS NULL
           AND u.deleted_at IS NULL
"""


async def above(
    tx: Transaction, organisation_id: int, prefixes: list[str]
) -> list[NamespaceMirror]:
    """The mirrors at these prefixes, the longest first."""
    rows = await tx.fetch_all(
        f"""
        {_SELECT}
           AND n.organisation_id = :organisation_id
           AND n.prefix IN (SELECT value FROM json_each(:prefixes))
         ORDER BY LENGTH(n.prefix) DESC
        """,
        organisation_id=organisation_id,
        prefixes=json.dumps(prefixes),
    )
    return [_mirror(row) for row in rows]


async def of_host(
    tx: Transaction, organisation_id: int, *, presets: list[str], origins: list[str]
) -> list[NamespaceMirror]:
    """The mirrors of upstreams that are one of `presets` or at one of `origins`, shortest first."""
    rows = await tx.fetch_all(
        f"""
        {_SELECT}
           AND n.organisation_id = :organisation_id
           AND (u.preset IN (SELECT value FROM json_each(:presets))
             OR u.origin IN (SELECT value FROM json_each(:origins)))
         ORDER BY LENGTH(n.prefix), n.prefix
        """,
        organisation_id=organisation_id,
        presets=json.dumps(presets),
        origins=json.dumps(origins),
    )
    return [_mirror(row) for row in rows]


async def get(tx: Transaction, mirror_id: int) -> NamespaceMirror | None:
    """The mirror in this row."""
    row = await tx.fetch_one(f"{_SELECT} AND n.id = :mirror_id", mirror_id=mirror_id)
    return _mirror(row) if row else None


async def find(tx: Transaction, organisation_id: int, prefix: str) -> NamespaceMirror | None:
    """The mirror at exactly this prefix."""
    row = await tx.fetch_one(
        f"""
        {_SELECT}
           AND n.organisation_id = :organisation_id
           AND n.prefix = :prefix
        """,
        organisation_id=organisation_id,
        prefix=prefix,
    )
    return _mirror(row) if row else None


async def page(
    tx: Transaction, organisation_id: int, *, before: int, limit: int
) -> list[NamespaceMirror]:
    """Mirrors of an organisation, the newest first, those before the row `before`."""
    rows = await tx.fetch_all(
        f"""
        {_SELECT}
           AND n.organisation_id = :organisation_id
           AND n.id < :before
         ORDER BY n.id DESC
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        before=before,
        limit=limit,
    )
    return [_mirror(row) for row in rows]


async def count(tx: Transaction, organisation_id: int) -> int:
    """How many mirrors an organisation has; it never has many."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM namespace_mirrors
         WHERE organisation_id = :organisation_id
           AND deleted_at IS NULL
        """,
        organisation_id=organisation_id,
    )
    return int(row[0] or 0) if row else 0


async def add(tx: Transaction, new: NamespaceMirror) -> None:
    """Create a mirror. Raises Conflict."""
    await tx.execute(
        """
        INSERT INTO namespace_mirrors (id, organisation_id, prefix, upstream_id, upstream_prefix,
                                       allow, deny, freshness, is_public, created_at, version)
        VALUES (:id, :organisation_id, :prefix, :upstream_id, :upstream_prefix,
                :allow, :deny, :freshness, :is_public, :created_at, :version)
        """,
        id=new.id,
        organisation_id=new.organisation_id,
        prefix=new.prefix,
        upstream_id=new.upstream_id,
        upstream_prefix=new.upstream_prefix,
        allow=_listing(new.allow),
        deny=_listing(new.deny),
        freshness=new.freshness,
        is_public=int(new.is_public),
        created_at=new.created_at,
        version=new.version,
    )


async def update(tx: Transaction, changed: NamespaceMirror) -> bool:
    """Store what can change, as the next version; False when another change came first."""
    rows = await tx.execute(
        """
        UPDATE namespace_mirrors
           SET allow = :allow, deny = :deny, freshness = :freshness, is_public = :is_public,
               version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=changed.id,
        allow=_listing(changed.allow),
        deny=_listing(changed.deny),
        freshness=changed.freshness,
        is_public=int(changed.is_public),
        version=changed.version,
    )
    return rows > 0


async def delete(tx: Transaction, mirror: NamespaceMirror, *, now: int) -> bool:
    """Mark a mirror as gone; False when another change came first. Its prefix is free again."""
    rows = await tx.execute(
        """
        UPDATE namespace_mirrors
           SET deleted_at = :now, version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=mirror.id,
        version=mirror.version,
        now=now,
    )
    return rows > 0


def _mirror(row: Row) -> NamespaceMirror:
    return NamespaceMirror(
        id=int(row[0] or 0),
        organisation_id=int(row[1] or 0),
        organisation_slug=str(row[2]),
        prefix=str(row[3]),
        upstream_id=int(row[4] or 0),
        upstream_name=str(row[5]),
        upstream_prefix=str(row[6]),
        allow=_patterns(row[7]),
        deny=_patterns(row[8]),
        freshness=int(row[9] or 0),
        created_at=int(row[10] or 0),
        version=int(row[11] or 0),
        preset=str(row[12]),
        origin=str(row[13]),
        is_public=bool(row[14]),
        allows_public=bool(row[15]),
    )


def _listing(words: tuple[str, ...]) -> str | None:
    return json.dumps(words) if words else None


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(json.loads(str(value))) if value is not None else ()
