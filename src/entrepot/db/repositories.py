"""Repositories: paths in an organisation, and their policies."""

import json
from dataclasses import replace

from entrepot.db.database import Row, Transaction
from entrepot.db.organisations import QUOTA, READ_ONLY, as_quota
from entrepot.model.access import Place, Repository
from entrepot.model.tenancy import RepositoryFacts
from entrepot.model.upstreams import DEFAULT_FRESHNESS, SYNCED, PullThrough, Source

# What a `Repository` is made of: r is the repository, o its organisation.
COLUMNS = f"""r.id, r.organisation_id, r.path, r.project_id, r.is_public * o.allows_public,
               CASE WHEN r.is_read_only = 1 THEN 'repository' ELSE {READ_ONLY} END,
               r.immutable_tags, r.protected_tags, r.upstream_id, r.upstream_path,
               COALESCE(r.freshness, CASE WHEN r.sync IS NULL THEN {DEFAULT_FRESHNESS}
                                          ELSE {SYNCED} END),
               r.accepts_push, r.may_shadow, {QUOTA}"""
_FACTS = """
        SELECT r.id, r.path, o.id, o.public_id, o.slug, p.id, p.public_id, p.name, r.is_public,
               r.is_read_only, r.immutable_tags, r.protected_tags, r.created_at, r.version,
               u.id, u.name, r.upstream_path, r.freshness, r.accepts_push, r.may_shadow, r.sync,
               r.keeps_deleted, r.warm_tags, r.warm_platforms, r.accessed_at, r.last_synced_at,
               r.last_sync_error
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
          LEFT JOIN projects AS p ON p.id = r.project_id
          LEFT JOIN upstreams AS u ON u.id = r.upstream_id
         WHERE r.deleted_at IS NULL
           AND o.deleted_at IS NULL
"""


async def find(tx: Transaction, place: Place) -> Repository | None:
    """The repository at this place."""
    row = await tx.fetch_one(
        f"""
        SELECT {COLUMNS}
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
         WHERE r.organisation_id = :organisation_id
           AND r.path = :path
           AND r.deleted_at IS NULL
        """,
        organisation_id=place.organisation_id,
        path=place.path,
    )
    return as_repository(row) if row else None


async def find_by_id(tx: Transaction, repository_id: int) -> Repository | None:
    """The repository in this row, unless it or its organisation was deleted."""
    row = await tx.fetch_one(
        f"""
        SELECT {COLUMNS}
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
         WHERE r.id = :repository_id
           AND r.deleted_at IS NULL
           AND o.deleted_at IS NULL
        """,
        repository_id=repository_id,
    )
    return as_repository(row) if row else None


async def get(tx: Transaction, repository_id: int) -> RepositoryFacts | None:
    """The repository in this row, with its policies, unless it was deleted."""
    row = await tx.fetch_one(f"{_FACTS} AND r.id = :repository_id", repository_id=repository_id)
    return _facts(row) if row else None


async def find_all(
    tx: Transaction,
    organisation_id: int,
    *,
    path: str | None = None,
    part: str = "",
    project_id: int | None = None,
    after: str,
    limit: int,
) -> list[RepositoryFacts]:
    """Repositories by path, those after `after`: at `path`, with `part` in it, of a project."""
    filters = {
        "path": (path, "r.path = :path"),
        "part": (_like(part) if part else None, "r.path LIKE :part ESCAPE '!'"),
        "project_id": (
            project_id,
            """r.id IN (SELECT l.repository_id
                          FROM project_links AS l
                         WHERE l.project_id = :project_id)""",
        ),
    }
    given = {name: value for name, (value, _) in filters.items() if value is not None}
    conditions = "".join(f" AND {sql}" for value, sql in filters.values() if value is not None)
    rows = await tx.fetch_all(
        f"""
        {_FACTS}
           AND r.organisation_id = :organisation_id
           AND r.path > :after{conditions}
         ORDER BY r.path
         LIMIT :limit
        """,  # conditions of our own, chosen by which filters were given
        organisation_id=organisation_id,
        after=after,
        limit=limit,
        **given,
    )
    return [_facts(row) for row in rows]


async def update(tx: Transaction, changed: RepositoryFacts) -> bool:
    """Store every policy, as the next version; False when another change came first.

    Another choice of tags to sync, or to keep warm, is due to be synced at once.
    """
    upstream = changed.upstream
    rows = await tx.execute(
        """
        UPDATE repositories
           SET is_public = :is_public,
               is_read_only = :is_read_only,
               immutable_tags = :immutable_tags,
               protected_tags = :protected_tags,
               freshness = :freshness,
               accepts_push = :accepts_push,
               may_shadow = :may_shadow,
               sync = :sync,
               sync_due_at = CASE WHEN COALESCE(sync, '') = COALESCE(CAST(:sync AS TEXT), '')
                                   AND COALESCE(warm_tags, '')
                                       = COALESCE(CAST(:warm_tags AS TEXT), '')
                                   AND COALESCE(warm_platforms, '')
                                       = COALESCE(CAST(:warm_platforms AS TEXT), '')
                                  THEN sync_due_at ELSE 0 END,
               keeps_deleted = :keeps_deleted,
               warm_tags = :warm_tags,
               warm_platforms = :warm_platforms,
               version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=changed.id,
        is_public=int(changed.is_public),
        is_read_only=int(changed.is_read_only),
        immutable_tags=_listing(changed.immutable_tags),
        protected_tags=_listing(changed.protected_tags),
        freshness=upstream.freshness if upstream else None,
        accepts_push=int(upstream.accepts_push) if upstream else 0,
        may_shadow=int(upstream.may_shadow) if upstream else 0,
        sync=upstream.sync if upstream else None,
        keeps_deleted=int(upstream.keeps_deleted) if upstream else 0,
        warm_tags=_listing(upstream.warm_tags) if upstream else None,
        warm_platforms=_listing(upstream.warm_platforms) if upstream else None,
        version=changed.version,
    )
    return rows > 0


async def delete(tx: Transaction, repository_id: int, *, version: int, now: int) -> bool:
    """Mark a repository as gone; False when another change came first. Its path is free again."""
    rows = await tx.execute(
        """
        UPDATE repositories
           SET deleted_at = :now, version = version + 1
         WHERE id = :repository_id
           AND version = :version
           AND deleted_at IS NULL
        """,
        repository_id=repository_id,
        version=version,
        now=now,
    )
    return rows > 0


async def transfer(tx: Transaction, repository_id: int, organisation_id: int) -> None:
    """Move a repository to another organisation, where it is not public."""
    await tx.execute(
        """
        UPDATE repositories
           SET organisation_id = :organisation_id, is_public = 0, version = version + 1
         WHERE id = :repository_id
        """,
        repository_id=repository_id,
        organisation_id=organisation_id,
    )


async def ensure(
    tx: Transaction, place: Place, *, new_id: int, now: int, source: Source | None = None
) -> Repository:
    """The repository at this place, made now if there was none; a new one comes from `source`.

    DO UPDATE, not DO NOTHING: it returns the row that a concurrent push made, and locks it.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO repositories (id, organisation_id, project_id, path, created_at, is_public,
                                  upstream_id, upstream_path, freshness)
        VALUES (:new_id, :organisation_id, :project_id, :path, :now, :is_public,
                :upstream_id, :upstream_path, :freshness)
        ON CONFLICT (organisation_id, path) WHERE deleted_at IS NULL
        DO UPDATE SET path = excluded.path
        RETURNING id, organisation_id, path, project_id, 0, NULL, NULL, NULL,
                  upstream_id, upstream_path, freshness, accepts_push, may_shadow,
                  NULL, NULL, NULL
        """,
        new_id=new_id,
        organisation_id=place.organisation_id,
        project_id=place.project_id,
        path=place.path,
        now=now,
        is_public=int(place.is_public),
        upstream_id=source.upstream_id if source else None,
        upstream_path=source.path if source else None,
        freshness=_freshness(source),
    )
    if row is None:
        message = "an upsert returns its row"
        raise AssertionError(message)
    return replace(as_repository(row), quota=place.quota)


def _freshness(source: Source | None) -> int | None:
    """What is usual is not stored, so that it is another where there is a sync."""
    return source.freshness if source and source.freshness != DEFAULT_FRESHNESS else None


async def count_of_upstream(tx: Transaction, upstream_id: int, *, limit: int) -> int:
    """How many repositories come from an upstream, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM repositories
                 WHERE upstream_id = :upstream_id
                   AND deleted_at IS NULL
                 LIMIT :limit) AS counted
        """,
        upstream_id=upstream_id,
        limit=limit,
    )
    return int(row[0] or 0) if row else 0


async def has_first_component(tx: Transaction, organisation_id: int, component: str) -> bool:
    """Whether a repository's path in this organisation is or begins with `component`.

    The same of the prefix of a namespace mirror.
    """
    row = await tx.fetch_one(
        """
        SELECT 1
          FROM repositories
         WHERE organisation_id = :organisation_id
           AND deleted_at IS NULL
           AND (path = :component OR (path >= :low AND path < :high))
         UNION ALL
        SELECT 1
          FROM namespace_mirrors
         WHERE organisation_id = :organisation_id
           AND deleted_at IS NULL
           AND (prefix = :component OR (prefix >= :low AND prefix < :high))
         LIMIT 1
        """,
        organisation_id=organisation_id,
        component=component,
        low=f"{component}/",
        high=f"{component}0",  # "0" follows "/" in ASCII
    )
    return row is not None


async def page(
    tx: Transaction, organisation_id: int, *, after: str, limit: int
) -> list[Repository]:
    """Repositories that hold a manifest, by path, those after `after`."""
    rows = await tx.fetch_all(
        f"""
        SELECT {COLUMNS}
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
         WHERE r.organisation_id = :organisation_id
           AND r.deleted_at IS NULL
           AND r.path > :after
           AND EXISTS (SELECT 1
                         FROM manifests AS m
                        WHERE m.repository_id = r.id
                          AND m.deleted_at IS NULL)
         ORDER BY r.path
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        after=after,
        limit=limit,
    )
    return [as_repository(row) for row in rows]


def as_repository(row: Row) -> Repository:
    """From the columns of COLUMNS."""
    project_id = row[3]
    return Repository(
        id=int(row[0] or 0),
        organisation_id=int(row[1] or 0),
        path=str(row[2]),
        project_id=int(project_id) if project_id is not None else None,
        is_public=bool(row[4]),
        read_only=str(row[5]) if row[5] is not None else None,
        immutable_tags=_patterns(row[6]),
        protected_tags=_patterns(row[7]),
        source=_source(row),
        quota=as_quota(row[13:16]),
    )


def _source(row: Row) -> Source | None:
    upstream_id, path, freshness, accepts_push, may_shadow = row[8:13]
    if upstream_id is None:
        return None
    return Source(
        int(upstream_id),
        str(path),
        int(freshness if freshness is not None else DEFAULT_FRESHNESS),
        accepts_push=bool(accepts_push),
        may_shadow=bool(may_shadow),
    )


def _facts(row: Row) -> RepositoryFacts:
    return RepositoryFacts(
        id=int(row[0] or 0),
        path=str(row[1]),
        organisation_id=int(row[2] or 0),
        organisation_public_id=str(row[3]),
        organisation_slug=str(row[4]),
        project_id=int(row[5]) if row[5] is not None else None,
        project_public_id=str(row[6]) if row[6] is not None else None,
        project_name=str(row[7]) if row[7] is not None else None,
        is_public=bool(row[8]),
        is_read_only=bool(row[9]),
        immutable_tags=_patterns(row[10]),
        protected_tags=_patterns(row[11]),
        created_at=int(row[12] or 0),
        version=int(row[13] or 0),
        upstream=_pull_through(row[14:]),
    )


def _pull_through(row: Row) -> PullThrough | None:
    if row[0] is None:
        return None
    return PullThrough(
        upstream_id=int(row[0]),
        upstream_name=str(row[1]),
        path=str(row[2]),
        freshness=_number(row[3]),
        accepts_push=bool(row[4]),
        may_shadow=bool(row[5]),
        sync=str(row[6]) if row[6] is not None else None,
        keeps_deleted=bool(row[7]),
        warm_tags=_patterns(row[8]),
        warm_platforms=_patterns(row[9]),
        accessed_at=_number(row[10]),
        last_synced_at=_number(row[11]),
        last_sync_error=str(row[12]) if row[12] is not None else None,
    )


def _number(value: str | float | bytes | None) -> int | None:
    return int(value) if value is not None else None


def _listing(words: tuple[str, ...]) -> str | None:
    return json.dumps(words) if words else None


def _patterns(value: object) -> tuple[str, ...]:
    return tuple(json.loads(str(value))) if value is not None else ()


def _like(part: str) -> str:
    """A LIKE pattern for this text and nothing more: `_` and `%` are letters in it."""
    for letter in "!%_":
        part = part.replace(letter, f"!{letter}")
    return f"%{part}%"
