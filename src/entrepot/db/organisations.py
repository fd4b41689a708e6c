"""Organisations: their rows, and where addresses lead in them."""

import json

from entrepot.db.database import Row, Transaction
from entrepot.model.access import Place, Role
from entrepot.model.retention import Retention
from entrepot.model.tenancy import Organisation
from entrepot.model.usage import Quota

# What is read-only, if anything, as `Place.read_only` says it; o is the organisation.
READ_ONLY = """
               CASE WHEN o.is_read_only = 1 THEN 'organisation'
                    WHEN EXISTS (SELECT 1
                                   FROM installation AS s
                                  WHERE s.name = 'read_only') THEN 'registry' END
"""
# What an organisation may hold, as `Quota` has it.
QUOTA = "o.quota_bytes, o.quota_repositories, o.quota_tags"
_COLUMNS = f"""o.id, o.public_id, o.slug, o.name, o.created_at, o.repository_creation,
               o.allows_public, o.is_read_only, o.retention, o.price_micros, o.version,
               {QUOTA}"""


async def find_place(tx: Transaction, name: str, path: str) -> Place | None:
    """A path in the organisation with this public id or slug."""
    row = await tx.fetch_one(
        f"""
        SELECT o.id, o.repository_creation, {READ_ONLY}, {QUOTA}
          FROM organisations AS o
         WHERE (o.slug = :name OR o.public_id = :name)
           AND o.deleted_at IS NULL
        """,
        name=name,
    )
    return _place(row, path)


async def find_default_place(tx: Transaction, path: str) -> Place | None:
    """A path in the default organisation."""
    row = await tx.fetch_one(
        f"""
        SELECT o.id, o.repository_creation, {READ_ONLY}, {QUOTA}
          FROM installation AS i
          JOIN organisations AS o ON o.id = CAST(i.value AS BIGINT)
         WHERE i.name = 'default_organisation'
           AND o.deleted_at IS NULL
        """
    )
    return _place(row, path)


async def find_start(tx: Transaction, first: str, rest: str) -> Place | None:
    """Where the path `first/rest` leads: to `rest` of an organisation, or in the default one.

    Nowhere if `first` is a project, or belonged to somebody who is gone. One statement, whoever
    `first` belongs to: the time of an answer tells nobody who is here.
    """
    row = await tx.fetch_one(
        f"""
        SELECT o.id, o.repository_creation, {READ_ONLY}, {QUOTA}, 1
          FROM organisations AS o
         WHERE (o.slug = :first OR o.public_id = :first)
           AND o.deleted_at IS NULL
         UNION ALL
        SELECT o.id, o.repository_creation, {READ_ONLY}, {QUOTA}, 0
          FROM installation AS i
          JOIN organisations AS o ON o.id = CAST(i.value AS BIGINT)
         WHERE i.name = 'default_organisation'
           AND o.deleted_at IS NULL
           AND NOT EXISTS (SELECT 1
                             FROM organisations AS t
                            WHERE t.slug = :first OR t.public_id = :first)
           AND NOT EXISTS (SELECT 1
                             FROM projects AS p
                            WHERE p.public_id = :first)
        """,
        first=first,
    )
    whole = f"{first}/{rest}" if rest else first
    return _place(row, rest if row is not None and row[-1] else whole)


async def find(tx: Transaction, name: str) -> Organisation | None:
    """The organisation with this public id or slug."""
    row = await tx.fetch_one(
        f"""
        SELECT {_COLUMNS}
          FROM organisations AS o
         WHERE (o.slug = :name OR o.public_id = :name)
           AND o.deleted_at IS NULL
        """,
        name=name,
    )
    return _organisation(row) if row else None


async def get(tx: Transaction, organisation_id: int) -> Organisation | None:
    """The organisation in this row, unless it was deleted."""
    row = await tx.fetch_one(
        f"""
        SELECT {_COLUMNS}
          FROM organisations AS o
         WHERE o.id = :organisation_id
           AND o.deleted_at IS NULL
        """,
        organisation_id=organisation_id,
    )
    return _organisation(row) if row else None


async def is_taken(tx: Transaction, component: str) -> bool:
    """Whether an organisation or project has, or ever had, this slug or public id."""
    row = await tx.fetch_one(
        """
        SELECT 1
          FROM organisations
         WHERE slug = :component OR public_id = :component
         UNION ALL
        SELECT 1
          FROM projects
         WHERE public_id = :component
         LIMIT 1
        """,
        component=component,
    )
    return row is not None


async def page(tx: Transaction, *, after: str, limit: int) -> list[Organisation]:
    """Every organisation by slug, those after `after`; for server administrators."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM organisations AS o
         WHERE o.deleted_at IS NULL
           AND o.slug > :after
         ORDER BY o.slug
         LIMIT :limit
        """,
        after=after,
        limit=limit,
    )
    return [_organisation(row) for row in rows]


async def page_of_ids(
    tx: Transaction, ids: list[int], *, after: str, limit: int
) -> list[Organisation]:
    """The organisations in these rows by slug, those after `after`."""
    rows = await tx.fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM organisations AS o
         WHERE o.id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
           AND o.deleted_at IS NULL
           AND o.slug > :after
         ORDER BY o.slug
         LIMIT :limit
        """,
        ids=json.dumps([str(id) for id in ids]),  # noqa: A001
        after=after,
        limit=limit,
    )
    return [_organisation(row) for row in rows]


async def add(
    tx: Transaction,
    *,
    id: int,  # noqa: A002  # the column's name
    public_id: str,
    slug: str,
    name: str = "",
    now: int,
) -> None:
    """Create an organisation. Raises Conflict."""
    await tx.execute(
        """
        INSERT INTO organisations (id, public_id, slug, name, created_at)
        VALUES (:id, :public_id, :slug, :name, :now)
        """,
        id=id,
        public_id=public_id,
        slug=slug,
        name=name,
        now=now,
    )


async def update(tx: Transaction, changed: Organisation) -> bool:
    """Store every setting, as the next version; False when another change came first."""
    retention = changed.retention
    rows = await tx.execute(
        """
        UPDATE organisations
           SET name = :name,
               repository_creation = :creators,
               allows_public = :allows_public,
               is_read_only = :is_read_only,
               retention = :retention,
               price_micros = :price_micros,
               quota_bytes = :quota_bytes,
               quota_repositories = :quota_repositories,
               quota_tags = :quota_tags,
               version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=changed.id,
        name=changed.name,
        creators=str(changed.creators),
        allows_public=int(changed.allows_public),
        is_read_only=int(changed.is_read_only),
        retention=retention.to_json() if retention is not None else None,
        price_micros=changed.price_micros,
        quota_bytes=changed.quota.bytes,
        quota_repositories=changed.quota.repositories,
        quota_tags=changed.quota.tags,
        version=changed.version,
    )
    return rows > 0


async def lock(tx: Transaction, organisation_id: int) -> Quota:
    """Let nobody else past this line for an organisation until this transaction ends; its quota."""
    row = await tx.fetch_one(
        f"""
        UPDATE organisations
           SET version = version
         WHERE id = :organisation_id
        RETURNING {QUOTA.replace("o.", "")}
        """,
        organisation_id=organisation_id,
    )
    return as_quota(row) if row else Quota()


async def delete(tx: Transaction, organisation_id: int, *, now: int) -> None:
    """Mark an organisation as gone. Its slug and id are never given to another."""
    await tx.execute(
        "UPDATE organisations SET deleted_at = :now WHERE id = :organisation_id",
        organisation_id=organisation_id,
        now=now,
    )


def _place(row: Row | None, path: str) -> Place | None:
    if row is None:
        return None
    return Place(
        int(row[0] or 0),
        path,
        creators=Role(str(row[1])),
        read_only=str(row[2]) if row[2] is not None else None,
        quota=as_quota(row[3:6]),
    )


def as_quota(row: Row) -> Quota:
    """From the columns of QUOTA."""
    bytes_count, repositories, tags = (int(each) if each is not None else None for each in row)
    return Quota(bytes_count, repositories, tags)


def _organisation(row: Row) -> Organisation:
    return Organisation(
        id=int(row[0] or 0),
        public_id=str(row[1]),
        slug=str(row[2]),
        name=str(row[3]),
        created_at=int(row[4] or 0),
        creators=Role(str(row[5])),
        allows_public=bool(row[6]),
        is_read_only=bool(row[7]),
        retention=Retention.from_json(str(row[8])) if row[8] is not None else None,
        price_micros=int(row[9] or 0),
        version=int(row[10] or 0),
        quota=as_quota(row[11:]),
    )
