"""Projects of organisations, and the repositories that they are linked to."""

from entrepot.db.database import Row, Transaction
from entrepot.db.organisations import QUOTA, READ_ONLY, as_quota
from entrepot.model.access import Place, Role
from entrepot.model.tenancy import Project

_SELECT = """
        SELECT p.id, p.public_id, p.name, o.id, o.public_id, o.slug, p.created_at, p.version
          FROM projects AS p
          JOIN organisations AS o ON o.id = p.organisation_id
         WHERE p.deleted_at IS NULL
           AND o.deleted_at IS NULL
"""


async def find_place(tx: Transaction, public_id: str) -> Place | None:
    """Where the builds of the project with this public id are."""
    row = await tx.fetch_one(
        f"""
        SELECT p.id, p.organisation_id, o.repository_creation, {READ_ONLY}, {QUOTA}
          FROM projects AS p
          JOIN organisations AS o ON o.id = p.organisation_id
         WHERE p.public_id = :public_id
           AND p.deleted_at IS NULL
           AND o.deleted_at IS NULL
        """,
        public_id=public_id,
    )
    if row is None:
        return None
    return Place(
        int(row[1] or 0),
        public_id,
        project_id=int(row[0] or 0),
        creators=Role(str(row[2])),
        read_only=str(row[3]) if row[3] is not None else None,
        quota=as_quota(row[4:]),
    )


async def find(tx: Transaction, public_id: str) -> Project | None:
    """The project with this public id."""
    row = await tx.fetch_one(f"{_SELECT} AND p.public_id = :public_id", public_id=public_id)
    return _project(row) if row else None


async def page(tx: Transaction, organisation_id: int, *, after: str, limit: int) -> list[Project]:
    """Projects of an organisation by public id, those after `after`."""
    rows = await tx.fetch_all(
        f"""
        {_SELECT}
           AND p.organisation_id = :organisation_id
           AND p.public_id > :after
         ORDER BY p.public_id
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        after=after,
        limit=limit,
    )
    return [_project(row) for row in rows]


async def count(tx: Transaction, organisation_id: int, *, limit: int) -> int:
    """How many projects an organisation has, counted up to `limit`."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (SELECT 1
                  FROM projects
                 WHERE organisation_id = :organisation_id
                   AND deleted_at IS NULL
                 LIMIT :limit) AS projects_there
        """,
        organisation_id=organisation_id,
        limit=limit,
    )
    return int(row[0] or 0) if row else 0


async def add(
    tx: Transaction,
    *,
    id: int,  # noqa: A002  # the column's name
    public_id: str,
    organisation_id: int,
    name: str,
    now: int,
) -> None:
    """Create a project. Raises Conflict."""
    await tx.execute(
        """
        INSERT INTO projects (id, public_id, organisation_id, name, created_at)
        VALUES (:id, :public_id, :organisation_id, :name, :now)
        """,
        id=id,
        public_id=public_id,
        organisation_id=organisation_id,
        name=name,
        now=now,
    )


async def update(tx: Transaction, changed: Project) -> bool:
    """Store name and organisation, as the next version; False when another change came first."""
    rows = await tx.execute(
        """
        UPDATE projects
           SET name = :name, organisation_id = :organisation_id, version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=changed.id,
        name=changed.name,
        organisation_id=changed.organisation_id,
        version=changed.version,
    )
    return rows > 0


async def delete(tx: Transaction, project: Project, *, now: int) -> bool:
    """Mark a project as gone; False when another change came first."""
    rows = await tx.execute(
        """
        UPDATE projects
           SET deleted_at = :now, version = version + 1
         WHERE id = :id
           AND version = :version
           AND deleted_at IS NULL
        """,
        id=project.id,
        version=project.version,
        now=now,
    )
    return rows > 0


async def lock(tx: Transaction, project: Project) -> bool:
    """Let nobody else change, move or delete a project until this ends; False if one just did."""
    rows = await tx.execute(
        """
        UPDATE projects
           SET version = version
         WHERE id = :id
           AND organisation_id = :organisation_id
           AND deleted_at IS NULL
        """,
        id=project.id,
        organisation_id=project.organisation_id,
    )
    return rows > 0


async def link(tx: Transaction, project_id: int, repository_id: int, *, now: int) -> bool:
    """Let a project's credentials use a repository; whether that is new."""
    rows = await tx.execute(
        """
        INSERT INTO project_links (project_id, repository_id, created_at)
        VALUES (:project_id, :repository_id, :now)
        ON CONFLICT (project_id, repository_id) DO NOTHING
        """,
        project_id=project_id,
        repository_id=repository_id,
        now=now,
    )
    return rows > 0


async def unlink(tx: Transaction, project_id: int, repository_id: int) -> bool:
    """Take a repository from a project's credentials; whether they had it."""
    rows = await tx.execute(
        """
        DELETE FROM project_links
         WHERE project_id = :project_id
           AND repository_id = :repository_id
        """,
        project_id=project_id,
        repository_id=repository_id,
    )
    return rows > 0


async def unlink_all(tx: Transaction, project_id: int) -> None:
    """Take every repository from a project's credentials."""
    await tx.execute(
        "DELETE FROM project_links WHERE project_id = :project_id", project_id=project_id
    )


async def unlink_all_of(tx: Transaction, repository_id: int) -> None:
    """Take a repository from every project's credentials."""
    await tx.execute(
        "DELETE FROM project_links WHERE repository_id = :repository_id",
        repository_id=repository_id,
    )


async def count_links(tx: Transaction, project_id: int) -> int:
    """How many repositories a project is linked to."""
    row = await tx.fetch_one(
        "SELECT COUNT(*) FROM project_links WHERE project_id = :project_id", project_id=project_id
    )
    return int(row[0] or 0) if row else 0


async def links(tx: Transaction, project_id: int) -> frozenset[int]:
    """The repositories that a project's credentials may use: of its own organisation only."""
    rows = await tx.fetch_all(
        """
        SELECT l.repository_id
          FROM project_links AS l
          JOIN projects AS p ON p.id = l.project_id
          JOIN repositories AS r
            ON r.id = l.repository_id AND r.organisation_id = p.organisation_id
         WHERE l.project_id = :project_id
           AND r.deleted_at IS NULL
        """,
        project_id=project_id,
    )
    return frozenset(int(row[0] or 0) for row in rows)


def _project(row: Row) -> Project:
    return Project(
        id=int(row[0] or 0),
        public_id=str(row[1]),
        name=str(row[2]),
        organisation_id=int(row[3] or 0),
        organisation_public_id=str(row[4]),
        organisation_slug=str(row[5]),
        created_at=int(row[6] or 0),
        version=int(row[7] or 0),
    )
