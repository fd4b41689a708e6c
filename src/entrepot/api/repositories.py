"""Repositories and their policies."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
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
    row_of,
    tag,
)
from entrepot.model.access import Action
from entrepot.model.ids import to_text
from entrepot.model.names import NAME_LIMIT
from entrepot.model.tenancy import RepositoryFacts
from entrepot.services.repositories import PATTERN, PATTERNS, RepositoryFilter

router = APIRouter(tags=["repositories"])

Patterns = Annotated[
    list[Annotated[str, Field(pattern=f"^{PATTERN}$")]],
    Field(max_length=PATTERNS, description="tags, where `*` stands for any letters: `v*`"),
]


class OwnerShown(Shown):
    """The organisation of something."""

    id: str
    slug: str


class ProjectShown(Shown):
    """The project whose builds a repository holds."""

    id: str
    name: str


class Repository(Shown):
    """A repository and its policies."""

    id: str
    path: str
    organisation: OwnerShown
    project: ProjectShown | None = Field(description="whose builds it holds")
    is_public: bool = Field(
        description="everybody may pull, while the organisation allows public repositories"
    )
    is_read_only: bool = Field(description="nothing in it changes; pulls go on")
    immutable_tags: list[str] = Field(description="tags that neither move nor go")
    protected_tags: list[str] = Field(description="tags that move, but do not go")
    created_at: datetime


class RepositoryChanges(Body):
    """What to change; what is not named stays."""

    is_public: bool = False
    is_read_only: bool = False
    immutable_tags: Patterns = Field(default_factory=list)
    protected_tags: Patterns = Field(default_factory=list)


class NewRepository(RepositoryChanges):
    """A repository to make."""

    path: Annotated[
        str, Field(max_length=NAME_LIMIT, description="in its organisation: `team/app`")
    ]


@router.get("/organisations/{organisation}/repositories", **declares(Action.BROWSE))
async def list_repositories(
    services: Services,
    caller: Caller,
    organisation: str,
    window: Paging,
    path: Annotated[str | None, Query(max_length=NAME_LIMIT, description="this one")] = None,
    query: Annotated[
        str, Query(max_length=NAME_LIMIT, description="those with this in their path")
    ] = "",
) -> Page[Repository]:
    """The repositories of an organisation that your credential may pull, by path."""
    found = await services.repositories.page(
        caller,
        organisation,
        RepositoryFilter(path, query),
        after=window.after,
        limit=window.limit,
    )
    return page_of(found, shown_repository, lambda facts: facts.path)


@router.post(
    "/organisations/{organisation}/repositories",
    **declares(Action.CREATE_REPOSITORY, creates=True),
)
async def create_repository(
    services: Services,
    caller: Caller,
    organisation: str,
    new: NewRepository,
    response: Response,
) -> Repository:
    """Make a repository before its first push; policies need whoever may manage repositories."""
    made = await services.repositories.create(caller, organisation, new.path, _policies(new))
    tag(response, made.version)
    return shown_repository(made)


@router.get("/repositories/{repository}", **declares(Action.PULL))
async def show_repository(
    services: Services, caller: Caller, repository: str, response: Response
) -> Repository:
    """One repository, by id."""
    found = await services.repositories.get(caller, row_of(repository, "repository"))
    tag(response, found.version)
    return shown_repository(found)


@router.patch("/repositories/{repository}", **declares(Action.MANAGE_REPOSITORY))
async def change_repository(
    services: Services,
    caller: Caller,
    repository: str,
    changes: RepositoryChanges,
    version: Version,
    response: Response,
) -> Repository:
    """Change policies. They hold for pushes and deletions from now on, for pulls within 5 s."""
    changed = await services.repositories.update(
        caller, row_of(repository, "repository"), _policies(changes), version=version
    )
    tag(response, changed.version)
    return shown_repository(changed)


@router.delete("/repositories/{repository}", status_code=204, **declares(Action.MANAGE_REPOSITORY))
async def delete_repository(
    services: Services, caller: Caller, repository: str, version: Version
) -> None:
    """Delete a repository with its tags; refused while it is read-only or has tags that are kept.

    A repository that is made at its path later inherits nothing.
    """
    await services.repositories.delete(caller, row_of(repository, "repository"), version=version)


def shown_repository(facts: RepositoryFacts) -> Repository:
    """A repository as every answer shows it."""
    project = None
    if facts.project_public_id is not None:
        project = ProjectShown(id=facts.project_public_id, name=facts.project_name or "")
    return Repository(
        id=to_text(facts.id),
        path=facts.path,
        organisation=OwnerShown(id=facts.organisation_public_id, slug=facts.organisation_slug),
        project=project,
        is_public=facts.is_public,
        is_read_only=facts.is_read_only,
        immutable_tags=list(facts.immutable_tags),
        protected_tags=list(facts.protected_tags),
        created_at=moment(facts.created_at),
    )


def _policies(changes: RepositoryChanges) -> dict[str, object]:
    """What was named, as the services speak of it."""
    named = changes.model_dump(include=changes.model_fields_set - {"path"})
    return {
        field: tuple(value) if isinstance(value, list) else value for field, value in named.items()
    }
