"""Repositories and projects that were deleted, and their return."""

from entrepot.db.database import Transaction
from entrepot.db.repositories import COLUMNS, as_repository
from entrepot.model.access import Repository
from entrepot.model.tenancy import Project
from entrepot.model.undo import Deleted


async def page(
    tx: Transaction, organisation_id: int, *, since: int, before: int, limit: int
) -> list[Deleted]:
    """What an organisation lost after `since`: the newest by row first, those before `before`.

    Not the builds of a project that is deleted, which come back with it.
    """
    rows = await tx.fetch_all(
        """
        SELECT 'repository', r.id, '', r.path, r.deleted_at
          FROM repositories AS r
          LEFT JOIN projects AS p ON p.id = r.project_id
         WHERE r.organisation_id = :organisation_id
           AND r.deleted_at > :since
           AND r.id < :before
           AND p.deleted_at IS NULL
         UNION ALL
        SELECT 'project', p.id, p.public_id, p.name, p.deleted_at
          FROM projects AS p
         WHERE p.organisation_id = :organisation_id
           AND p.deleted_at > :since
           AND p.id < :before
         ORDER BY 2 DESC
         LIMIT :limit
        """,
        organisation_id=organisation_id,
        since=since,
        before=before,
        limit=limit,
    )
    return [
        Deleted(str(row[0]), int(row[1] or 0), str(row[2]), str(row[3]), int(row[4] or 0))
        for row in rows
    ]


async def find_repository(tx: Transaction, repository_id: int) -> tuple[Repository, int] | None:
    """A deleted repository of an organisation that is there, and when it was deleted."""
    row = await tx.fetch_one(
        f"""
        SELECT r.deleted_at, {COLUMNS}
          FROM repositories AS r
          JOIN organisations AS o ON o.id = r.organisation_id
         WHERE r.id = :repository_id
           AND r.deleted_at IS NOT NULL
           AND o.deleted_at IS NULL
        """,
        repository_id=repository_id,
    )
    return (as_repository(row[1:]), int(row[0] or 0)) if row else None


async def find_builds(tx: Transaction, project: Project, *, deleted_at: int) -> int | None:
    """The repository that was deleted with its project at that moment."""
    row = await tx.fetch_one(
        """
        SELECT id
          FROM repositories
         WHERE organisation_id = :organisation_id
           AND path = :path
           AND project_id = :project_id
           AND deleted_at = :deleted_at
        """,
        organisation_id=project.organisation_id,
        path=project.public_id,
        project_id=project.id,
        deleted_at=deleted_at,
    )
    return int(row[0] or 0) if row else None


async def restore_repository(tx: Transaction, repository_id: int, *, retention_due_at: int) -> None:
    """A repository is there again. Raises Conflict where its path is another's by now."""
    await tx.execute(
        """
        UPDATE repositories
           SET deleted_at = NULL, version = version + 1, retention_due_at = :retention_due_at
         WHERE id = :repository_id
        """,
        repository_id=repository_id,
        retention_due_at=retention_due_at,
    )


async def find_project(tx: Transaction, public_id: str) -> tuple[Project, int] | None:
    """A deleted project of an organisation that is there, locked, and when it was deleted."""
    row = await tx.fetch_one(
        """
        UPDATE projects
           SET version = version
         WHERE public_id = :public_id
           AND deleted_at IS NOT NULL
        RETURNING deleted_at, id, public_id, name, organisation_id, created_at, version
        """,
        public_id=public_id,
    )
    if row is None:
        return None
    organisation = await tx.fetch_one(
        """
        SELECT public_id, slug
          FROM organisations
         WHERE id = :organisation_id
           AND deleted_at IS NULL
        """,
        organisation_id=row[4],
    )
    if organisation is None:
        return None
    found = Project(
        id=int(row[1] or 0),
        public_id=str(row[2]),
        name=str(row[3]),
        organisation_id=int(row[4] or 0),
        organisation_public_id=str(organisation[0]),
        organisation_slug=str(organisation[1]),
        created_at=int(row[5] or 0),
        version=int(row[6] or 0),
    )
    return found, int(row[0] or 0)


async def restore_project(tx: Transaction, project_id: int) -> None:
    """A project is there again."""
    await tx.execute(
        """
        UPDATE projects
           SET deleted_at = NULL, version = version + 1
         WHERE id = :project_id
        """,
        project_id=project_id,
    )
