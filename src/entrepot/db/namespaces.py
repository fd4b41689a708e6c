"""Namespace mirrors: prefixes of an organisation's paths that mirror a whole upstream."""

import json

from entrepot.db.database import Row, Transaction
from entrepot.model.upstreams import NamespaceMirror

_SELECT = """
        SELECT n.id, n.organisation_id, o.slug, n.prefix, n.upstream_id, u.name, n.upstream_prefix,
               n.allow, n.deny, n.freshness, n.created_at, n.version, u.preset, u.origin
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
    )


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(json.loads(str(value))) if value is not None else ()
