"""What retention looks at: policies, pushed tags by age, manifests without a tag.

Lists of tags and manifests go by the moment of the push, and come in pages: each statement reads as
many rows of one index as it returns, whatever the size of the repository.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from entrepot.db.database import Row, Transaction
from entrepot.db.reachability import belongs_to
from entrepot.db.repositories import COLUMNS, as_repository
from entrepot.model.access import Repository
from entrepot.model.retention import Retention
from entrepot.model.retention_rules import TagFacts, UntaggedFacts


@dataclass(frozen=True, slots=True)
class Policies:
    """A repository, its policy and that of its organisation, and the version of its row."""

    repository: Repository
    own: Retention | None
    organisations: Retention | None
    version: int


@dataclass(frozen=True, slots=True)
class Freed:
    """What goes with manifests, and is nowhere else in the organisation."""

    blobs: int
    bytes: int


async def find_policies(tx: Transaction, repository_id: int) -> Policies | None:
    """What is said of a repository, unless it or its organisation was deleted."""
    row = await tx.fetch_one(
        f"""
        SELECT r.retention, o.retention, r.version, {COLUMNS}
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
         WHERE r.id = :repository_id
           AND r.deleted_at IS NULL
           AND o.deleted_at IS NULL
        """,
        repository_id=repository_id,
    )
    if row is None:
        return None
    return Policies(as_repository(row[3:]), _policy(row[0]), _policy(row[1]), int(row[2] or 0))


async def set_policy(
    tx: Transaction, repository_id: int, policy: Retention | None, *, version: int
) -> bool:
    """Store a repository's policy, as its next version; False when another change came first."""
    rows = await tx.execute(
        """
        UPDATE repositories
           SET retention = :retention, version = version + 1
         WHERE id = :repository_id
           AND version = :version
           AND deleted_at IS NULL
        """,
        repository_id=repository_id,
        retention=policy.to_json() if policy else None,
        version=version,
    )
    return rows > 0


# Of t, a pushed tag. When its manifest was pulled is read where somebody asks for it.
_TAG = f"""
        SELECT t.name, t.digest, t.pushed_at, t.expires_at,
               CASE WHEN :pulled = 1 THEN (SELECT m.pulled_at
                                             FROM manifests AS m
                                            WHERE m.repository_id = t.repository_id
                                              AND m.digest = t.digest) END,
               (SELECT o.digest
                  FROM manifests AS o
                 WHERE {belongs_to("t", "o")}
                 LIMIT 1)
          FROM tags AS t
         WHERE t.repository_id = :repository_id
           AND t.is_pushed = 1
"""


async def page_of_oldest(
    tx: Transaction,
    repository_id: int,
    *,
    after: tuple[int, str],
    before: tuple[int, str],
    pulled: bool,
    limit: int,
) -> list[TagFacts]:
    """Pushed tags by their last push and name, between the two."""
    rows = await tx.fetch_all(
        f"""
        {_TAG}
           AND (t.pushed_at, t.name) > (:moment, :name)
           AND (t.pushed_at, t.name) < (:end, :end_name)
         ORDER BY t.pushed_at, t.name
         LIMIT :limit
        """,
        repository_id=repository_id,
        moment=after[0],
        name=after[1],
        end=before[0],
        end_name=before[1],
        pulled=int(pulled),
        limit=limit,
    )
    return [_tag(row) for row in rows]


async def page_of_newest(
    tx: Transaction, repository_id: int, *, before: tuple[int, str], limit: int
) -> list[TagFacts]:
    """Pushed tags from the last push on backwards, those before that moment and name."""
    rows = await tx.fetch_all(
        f"""
        {_TAG}
           AND (t.pushed_at, t.name) < (:moment, :name)
         ORDER BY t.pushed_at DESC, t.name DESC
         LIMIT :limit
        """,
        repository_id=repository_id,
        moment=before[0],
        name=before[1],
        pulled=0,
        limit=limit,
    )
    return [_tag(row) for row in rows]


async def find_nth_newest(
    tx: Transaction, repository_id: int, n: int, *, now: int
) -> tuple[int, str] | None:
    """When the last of the `n` newest pushed tags was pushed, and its name.

    Without those that go by their max-age, or with what they belong to.
    """
    row = await tx.fetch_one(
        f"""
        SELECT t.pushed_at, t.name
          FROM tags AS t
         WHERE t.repository_id = :repository_id
           AND t.is_pushed = 1
           AND (t.expires_at IS NULL OR t.expires_at > :now)
           AND NOT (substr(t.name, 1, 7) = 'sha512-'
                AND length(substr(t.name, 8, 64)) = 64
                AND ltrim(substr(t.name, 8, 64), '0123456789abcdef') = ''
                AND substr(t.name, 72, 1) IN ('', '.'))
           AND (SELECT 1
                  FROM manifests AS o
                 WHERE {belongs_to("t", "o")}
                 LIMIT 1) IS NULL
         ORDER BY t.pushed_at DESC, t.name DESC
         LIMIT 1 OFFSET :others
        """,
        repository_id=repository_id,
        now=now,
        others=n - 1,
    )
    return (int(row[0] or 0), str(row[1])) if row else None


async def page_of_expired(
    tx: Transaction, repository_id: int, *, now: int, after: tuple[int, str], limit: int
) -> list[TagFacts]:
    """Pushed tags whose max-age has ended, by when and name, those after that."""
    rows = await tx.fetch_all(
        f"""
        {_TAG}
           AND t.expires_at <= :now
           AND (t.expires_at, t.name) > (:moment, :name)
         ORDER BY t.expires_at, t.name
         LIMIT :limit
        """,
        repository_id=repository_id,
        now=now,
        moment=after[0],
        name=after[1],
        pulled=0,
        limit=limit,
    )
    return [_tag(row) for row in rows]


async def find_tags(
    tx: Transaction, repository_id: int, names: Collection[str], *, pulled: bool
) -> list[TagFacts]:
    """Those of these tags that are there, and pushed."""
    rows = await tx.fetch_all(
        f"{_TAG} AND t.name IN (SELECT value FROM json_each(:names)) ORDER BY t.name",
        repository_id=repository_id,
        names=_sorted(names),
        pulled=int(pulled),
    )
    return [_tag(row) for row in rows]


async def page_of_untagged(
    tx: Transaction,
    repository_id: int,
    *,
    after: tuple[int, str],
    before: int,
    pulled: bool,
    limit: int,
) -> tuple[list[UntaggedFacts], tuple[int, str] | None]:
    """Pushed manifests by their last push and digest, without those that have a tag.

    With what the next page is after, if there may be one: `limit` is how many are looked at.
    """
    rows = await tx.fetch_all(
        f"""
        {_UNTAGGED}
           AND (m.pushed_at, m.digest) > (:moment, :digest)
           AND m.pushed_at < :before
         ORDER BY m.pushed_at, m.digest
         LIMIT :limit
        """,
        repository_id=repository_id,
        moment=after[0],
        digest=after[1],
        before=before,
        pulled=int(pulled),
        limit=limit,
    )
    reached = (int(rows[-1][1] or 0), str(rows[-1][0])) if len(rows) == limit else None
    return [_untagged(row) for row in rows if not row[3]], reached


async def find_untagged(
    tx: Transaction, repository_id: int, digests: Collection[str], *, pulled: bool
) -> list[UntaggedFacts]:
    """Those of these manifests that are there, pushed, and without a tag."""
    rows = await tx.fetch_all(
        f"{_UNTAGGED} AND m.digest IN (SELECT value FROM json_each(:digests)) ORDER BY m.digest",
        repository_id=repository_id,
        digests=_sorted(digests),
        pulled=int(pulled),
    )
    return [_untagged(row) for row in rows if not row[3]]


# Of m, a manifest that ages by its own push unless it has a tag. One that belongs to a manifest is
# none: two that are tagged as belonging to each other would stay for ever.
_UNTAGGED = f"""
        SELECT m.digest, m.pushed_at,
               CASE WHEN :pulled = 1 THEN (SELECT p.pulled_at
                                             FROM manifests AS p
                                            WHERE p.repository_id = m.repository_id
                                              AND p.digest = m.digest) END,
               EXISTS (SELECT 1
                         FROM tags AS t
                        WHERE t.repository_id = m.repository_id
                          AND t.digest = m.digest
                          AND NOT EXISTS (SELECT 1
                                            FROM manifests AS o
                                           WHERE {belongs_to("t", "o")}))
          FROM manifests AS m
         WHERE m.repository_id = :repository_id
           AND m.is_pushed = 1
           AND m.deleted_at IS NULL
           AND m.orphaned_at IS NULL
"""


async def lock_tags(tx: Transaction, repository_id: int, names: Iterable[str]) -> None:
    """Let nobody move these tags until they are judged."""
    await tx.execute(
        """
        UPDATE tags
           SET version = version
         WHERE repository_id = :repository_id
           AND name IN (SELECT value FROM json_each(:names))
        """,
        repository_id=repository_id,
        names=_sorted(names),
    )


async def remove_tags(
    tx: Transaction, repository_id: int, names: Collection[str], *, now: int
) -> None:
    """Remove tags that are locked; their history ends by retention."""
    await tx.execute(
        """
        DELETE FROM tags
         WHERE repository_id = :repository_id
           AND name IN (SELECT value FROM json_each(:names))
        """,
        repository_id=repository_id,
        names=_sorted(names),
    )
    await tx.execute(
        """
        UPDATE tag_history
           SET ended_at = :now, ended_by = 'retention'
         WHERE repository_id = :repository_id
           AND name IN (SELECT value FROM json_each(:names))
           AND ended_at IS NULL
        """,
        repository_id=repository_id,
        names=_sorted(names),
        now=now,
    )


async def count_freed(
    tx: Transaction, organisation_id: int, repository_id: int, manifests: Collection[str]
) -> Freed:
    """What of these manifests and their blobs nothing else in the organisation holds.

    CROSS JOIN keeps SQLite from walking all blobs of the repository, or of the organisation.
    """
    row = await tx.fetch_one(
        """
        SELECT COUNT(*), SUM(b.size)
          FROM (SELECT DISTINCT r.digest AS digest
                  FROM json_each(:manifests)
                 CROSS JOIN manifest_blobs AS r
                 WHERE r.repository_id = :repository_id
                   AND r.manifest = json_each.value) AS used
         CROSS JOIN blobs AS b
         CROSS JOIN organisation_content AS c
         WHERE b.digest = used.digest
           AND c.organisation_id = :organisation_id
           AND c.digest = used.digest
           AND c.holders = 1
           AND NOT EXISTS (SELECT 1
                             FROM manifest_blobs AS o
                            WHERE o.repository_id = :repository_id
                              AND o.digest = used.digest
                              AND o.manifest NOT IN (SELECT value FROM json_each(:manifests)))
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
        manifests=_sorted(manifests),
    )
    own = await tx.fetch_one(
        """
        SELECT SUM(m.size)
          FROM manifests AS m
          JOIN organisation_content AS c
            ON c.organisation_id = :organisation_id AND c.digest = m.digest AND c.holders = 1
         WHERE m.repository_id = :repository_id
           AND m.digest IN (SELECT value FROM json_each(:manifests))
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
        manifests=_sorted(manifests),
    )
    blobs, size = (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)
    return Freed(blobs, size + (int(own[0] or 0) if own else 0))


def _policy(value: object) -> Retention | None:
    return Retention.from_json(str(value)) if value is not None else None


def _tag(row: Row) -> TagFacts:
    return TagFacts(
        name=str(row[0]),
        digest=str(row[1]),
        pushed_at=int(row[2] or 0),
        expires_at=int(row[3]) if row[3] is not None else None,
        pulled_at=int(row[4]) if row[4] is not None else None,
        belongs_to=str(row[5]) if row[5] is not None else None,
    )


def _untagged(row: Row) -> UntaggedFacts:
    return UntaggedFacts(str(row[0]), int(row[1] or 0), int(row[2]) if row[2] is not None else None)


def _sorted(values: Iterable[str]) -> str:
    return json.dumps(sorted(values))
