"""Projects, and the repositories that they are linked to."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from entrepot.api.call import (
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    Version,
    declares,
    moment,
    page_of,
    restorable_until,
    row_of,
    tag,
)
from entrepot.api.repositories import OwnerShown, Repository, shown_repository
from entrepot.model import tenancy
from entrepot.model.access import Action
from entrepot.services.projects import LINKS

router = APIRouter(tags=["projects"])

Name = Annotated[str, Field(min_length=1, max_length=200)]


class Project(Shown):
    """A project. Its builds are pushed to `HOST/ID`, one tag each."""

    id: str
    name: str
    organisation: OwnerShown
    created_at: datetime


class NewProject(Body):
    """A project to make."""

    name: Name
    id: Annotated[str | None, Field(description="given by you, for migrations")] = None


class ProjectChanges(Body):
    """What to change."""

    name: Name


class Destination(Body):
    """Where a project goes."""

    organisation: Annotated[str, Field(max_length=63, description="slug or id")]


@router.get("/organisations/{organisation}/projects", **declares(Action.BROWSE))
async def list_projects(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Project]:
    """The projects of an organisation, by id."""
    found = await services.projects.page(
        caller, organisation, after=window.after, limit=window.limit
    )
    return page_of(found, shown_project, lambda project: project.public_id)


@router.post(
    "/organisations/{organisation}/projects", **declares(Action.CREATE_PROJECT, creates=True)
)
async def create_project(
    services: Services, caller: Caller, organisation: str, new: NewProject, response: Response
) -> Project:
    """Make a project. An id is never given twice, so it has to be nobody's."""
    made = await services.projects.create(caller, organisation, new.name, public_id=new.id)
    tag(response, made.version)
    return shown_project(made)


@router.get("/projects/{project}", **declares(Action.BROWSE))
async def show_project(
    services: Services, caller: Caller, project: str, response: Response
) -> Project:
    """One project, by id."""
    found = await services.projects.get(caller, project)
    tag(response, found.version)
    return shown_project(found)


@router.patch("/projects/{project}", **declares(Action.MANAGE_PROJECT))
async def rename_project(
    services: Services,
    caller: Caller,
    project: str,
    changes: ProjectChanges,
    version: Version,
    response: Response,
) -> Project:
    """Give a project another name. Its id and address stay."""
    changed = await services.projects.rename(caller, project, changes.name, version=version)
    tag(response, changed.version)
    return shown_project(changed)


@router.delete("/projects/{project}", status_code=204, **declares(Action.MANAGE_PROJECT))
async def delete_project(
    services: Services, caller: Caller, project: str, version: Version, response: Response
) -> None:
    """Delete a project with its tokens, links and builds. Its id is never given again.

    `Restorable-Until` says until when it can be restored with its builds.
    """
    until = await services.projects.delete(caller, project, version=version)
    restorable_until(response, until)


@router.post("/projects/{project}/transfer", **declares(Action.MANAGE_PROJECT))
async def transfer_project(
    services: Services,
    caller: Caller,
    project: str,
    destination: Destination,
    version: Version,
    response: Response,
) -> Project:
    """Give a project and its builds to another organisation, in which you may create projects.

    Its tokens are revoked, its links removed, its open uploads ended, and its builds are not public
    there. Its id stays, and `HOST/ID` leads to it.
    """
    moved = await services.projects.transfer(
        caller, project, destination.organisation, version=version
    )
    tag(response, moved.version)
    return shown_project(moved)


@router.get("/projects/{project}/repositories", **declares(Action.BROWSE))
async def list_linked_repositories(
    services: Services, caller: Caller, project: str, window: Paging
) -> Page[Repository]:
    """The repositories that the project's tokens may use beside its builds, by path."""
    found = await services.projects.linked(caller, project, after=window.after, limit=window.limit)
    return page_of(found, shown_repository, lambda repository: repository.path)


@router.put(
    "/projects/{project}/repositories/{repository}",
    status_code=204,
    description=f"Let the project's tokens pull from and push to a repository of the same "
    f"organisation, and delete its tags. A project has at most {LINKS} such links.",
    **declares(Action.MANAGE_PROJECT),
)
async def link_repository(
    services: Services, caller: Caller, project: str, repository: str
) -> None:
    """Link a project to a repository."""
    await services.projects.link(caller, project, row_of(repository, "repository"))


@router.delete(
    "/projects/{project}/repositories/{repository}",
    status_code=204,
    **declares(Action.MANAGE_PROJECT),
)
async def unlink_repository(
    services: Services, caller: Caller, project: str, repository: str
) -> None:
    """Take a repository from the project's tokens; within 10 seconds they lose it."""
    await services.projects.unlink(caller, project, row_of(repository, "repository"))


def shown_project(project: tenancy.Project) -> Project:
    """A project as every answer shows it."""
    return Project(
        id=project.public_id,
        name=project.name,
        organisation=OwnerShown(id=project.organisation_public_id, slug=project.organisation_slug),
        created_at=moment(project.created_at),
    )
