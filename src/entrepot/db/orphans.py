"""Manifests that nothing keeps any more: locked, judged, deleted, in one transaction.

Whoever comes to rely on a row updates it first. A lock that waited for them is followed by another
statement, which sees what they wrote; one that was first makes them find nothing. Foreign keys fail
what slips through.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from entrepot.db.database import Transaction
from entrepot.db.reachability import belongs_to


@dataclass(frozen=True, slots=True)
class Place:
    """The repository that something is collected from; times in µs."""

    organisation_id: int
    accessed_at: int
    deleted_at: int | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A manifest that may go. `has_parent`: an index that lists it has a row, deleted or not."""

    digest: str
    size: int
    is_pushed: bool
    deleted_at: int | None
    orphaned_at: int | None
    protected_until: int
    has_parent: bool
    has_subject: bool


async def lock_repository(tx: Transaction, repository_id: int) -> Place | None:
    """Where something is collected from; it keeps its organisation until this is over."""
    row = await tx.fetch_one(
        """
        UPDATE repositories
           SET path = path
         WHERE id = :repository_id
        RETURNING organisation_id, COALESCE(accessed_at, created_at), deleted_at
        """,
        repository_id=repository_id,
    )
    if row is None:
        return None
    return Place(int(row[0] or 0), int(row[1] or 0), int(row[2]) if row[2] is not None else None)


async def lock_manifests(tx: Transaction, repository_id: int, digests: Iterable[str]) -> None:
    """Let nobody come to rely on these manifests until they are judged."""
    await tx.execute(
        """
        UPDATE manifests
           SET protected_until = protected_until
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
    )


async def find_suspects(
    tx: Transaction, repository_id: int, digests: Iterable[str]
) -> list[Suspect]:
    """What is known of these manifests, by digest."""
    rows = await tx.fetch_all(
        """
        SELECT m.digest, m.size, m.is_pushed, m.deleted_at, m.orphaned_at, m.protected_until,
               EXISTS (SELECT 1
                         FROM manifest_children AS c
                        WHERE c.repository_id = m.repository_id
                          AND c.digest = m.digest)
            OR EXISTS (SELECT 1
                         FROM mirrored_children AS c
                        WHERE c.repository_id = m.repository_id
                          AND c.digest = m.digest),
               EXISTS (SELECT 1
                         FROM manifests AS s
                        WHERE s.repository_id = m.repository_id
                          AND s.digest = m.subject)
          FROM manifests AS m
         WHERE m.repository_id = :repository_id
           AND m.digest IN (SELECT value FROM json_each(:digests))
         ORDER BY m.digest
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
    )
    return [
        Suspect(
            str(row[0]),
            int(row[1] or 0),
            bool(row[2]),
            int(row[3]) if row[3] is not None else None,
            int(row[4]) if row[4] is not None else None,
            int(row[5] or 0),
            bool(row[6]),
            bool(row[7]),
        )
        for row in rows
    ]


async def find_tagged(tx: Transaction, repository_id: int, digests: Iterable[str]) -> set[str]:
    """Those of these manifests that a tag points at."""
    rows = await tx.fetch_all(
        """
        SELECT DISTINCT digest
          FROM tags
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
    )
    return {str(row[0]) for row in rows}


async def adopt(tx: Transaction, repository_id: int, digests: Iterable[str]) -> None:
    """These manifests turned out to be kept: they are orphans no more."""
    await tx.execute(
        """
        UPDATE manifests
           SET orphaned_at = NULL
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND orphaned_at IS NOT NULL
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
    )


async def find_below(
    tx: Transaction, repository_id: int, digests: Collection[str]
) -> list[tuple[str, str]]:
    """What may lose its last root with these manifests, as (kind, digest).

    A `link` is a blob, `below` a manifest that hangs below one of them, `beside` a subject.
    """
    rows = await tx.fetch_all(
        """
        SELECT 'link', digest
          FROM manifest_blobs
         WHERE repository_id = :repository_id
           AND manifest IN (SELECT value FROM json_each(:digests))
         UNION
        SELECT 'below', digest
          FROM manifest_children
         WHERE repository_id = :repository_id
           AND manifest IN (SELECT value FROM json_each(:digests))
         UNION
        SELECT 'below', digest
          FROM mirrored_children
         WHERE repository_id = :repository_id
           AND manifest IN (SELECT value FROM json_each(:digests))
         UNION
        SELECT 'below', digest
          FROM manifests
         WHERE repository_id = :repository_id
           AND subject IN (SELECT value FROM json_each(:digests))
         UNION
        SELECT 'below', t.digest
          FROM json_each(:tags)
         CROSS JOIN tags AS t
         WHERE t.repository_id = :repository_id
           AND t.name >= json_each.value
           AND t.name < json_each.value || '/'
           AND substr(t.name, length(json_each.value) + 1, 1) IN ('', '.')
         UNION
        SELECT 'beside', COALESCE(subject, '')
          FROM manifests
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
        tags=_tags_of(digests),
    )
    return sorted((str(row[0]), str(row[1])) for row in rows if row[1])


async def end_tags(
    tx: Transaction, repository_id: int, digests: Collection[str], *, now: int
) -> int:
    """Remove the tags that say to belong to these manifests, and those at them; pushed ones."""
    rows = await tx.fetch_all(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
        RETURNING name, is_pushed
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
    )
    rows += await tx.fetch_all(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name IN (SELECT t.name
                          FROM json_each(:tags)
                         CROSS JOIN tags AS t
                         WHERE t.repository_id = :repository_id
                           AND t.name >= json_each.value
                           AND t.name < json_each.value || '/'
                           AND substr(t.name, length(json_each.value) + 1, 1) IN ('', '.'))
        RETURNING name, is_pushed
        """,
        repository_id=repository_id,
        tags=_tags_of(digests),
    )
    if rows:
        await tx.execute(
            """
            UPDATE tag_history
               SET ended_at = :now, ended_by = 'retention'
             WHERE repository_id = :repository_id
               AND ended_at IS NULL
               AND name IN (SELECT value FROM json_each(:names))
            """,
            repository_id=repository_id,
            names=_sorted(str(row[0]) for row in rows),
            now=now,
        )
    return sum(int(row[1] or 0) for row in rows)


async def orphan(
    tx: Transaction, repository_id: int, digests: Iterable[str], *, since: int
) -> None:
    """These hung below what goes: without a tag of their own they have waited since then."""
    await tx.execute(
        f"""
        UPDATE manifests
           SET orphaned_at = COALESCE(orphaned_at, :since)
         WHERE repository_id = :repository_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND NOT EXISTS (SELECT 1
                             FROM tags AS t
                            WHERE t.repository_id = manifests.repository_id
                              AND t.digest = manifests.digest
                              AND NOT EXISTS (SELECT 1
                                                FROM manifests AS o
                                               WHERE {belongs_to("t", "o")}))
        """,
        repository_id=repository_id,
        digests=_sorted(digests),
        since=since,
    )


async def delete_manifests(tx: Transaction, repository_id: int, digests: Iterable[str]) -> None:
    """Delete manifests with what is recorded of them. Raises Conflict when one is needed."""
    for table, column in (
        ("manifest_blobs", "manifest"),
        ("manifest_children", "manifest"),
        ("mirrored_children", "manifest"),
        ("referrer_lists", "subject"),
        ("manifests", "digest"),
    ):
        await tx.execute(
            f"""
            DELETE FROM {table}
             WHERE repository_id = :repository_id
               AND {column} IN (SELECT value FROM json_each(:digests))
            """,  # names of our own
            repository_id=repository_id,
            digests=_sorted(digests),
        )


def _sorted(digests: Iterable[str]) -> str:
    return json.dumps(sorted(digests))


def _tags_of(digests: Iterable[str]) -> str:
    """How the names of tags begin that belong to these (distribution-spec, "Referrers Tag")."""
    split = (digest.partition(":") for digest in digests)
    return _sorted(f"{algorithm}-{hexadecimal[:64]}" for algorithm, _, hexadecimal in split)
