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
    restorable_until,
    row_of,
    tag,
)
from entrepot.api.pull_through import (
    ComesFrom,
    ComesFromChanges,
    UpstreamOf,
    fields_of,
    shown_upstream,
    wanted_of,
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
    upstream: UpstreamOf | None = Field(description="where a pull-through repository comes from")
    created_at: datetime


class Policies(Body):
    """What can be set on any repository."""

    is_public: bool = False
    is_read_only: bool = False
    immutable_tags: Patterns = Field(default_factory=list)
    protected_tags: Patterns = Field(default_factory=list)


class RepositoryChanges(Policies):
    """What to change; what is not named stays."""

    upstream: ComesFromChanges | None = Field(
        default=None, description="of a pull-through repository; what is not named stays"
    )


class NewRepository(Policies):
    """A repository to make."""

    upstream: ComesFrom | None = Field(
        default=None, description="what it shall come from, for good; null: pushes fill it"
    )
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
    """Make a repository before its first push, or one that comes from an upstream registry.

    Policies need whoever may manage repositories. An upstream is asked whether its path can be
    read, and nothing is made if not.
    """
    policies = _policies(new)
    if new.upstream is None:
        made = await services.repositories.create(caller, organisation, new.path, policies)
    else:
        made = await services.upstream_repositories.create(
            caller, organisation, new.path, policies, wanted_of(new.upstream)
        )
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
    """Change policies. They hold for pushes and deletions from now on, for pulls within 5 s.

    What a repository comes from stays as it was made.
    """
    changed = await services.repositories.update(
        caller, row_of(repository, "repository"), _policies(changes), version=version
    )
    tag(response, changed.version)
    return shown_repository(changed)


@router.delete("/repositories/{repository}", status_code=204, **declares(Action.MANAGE_REPOSITORY))
async def delete_repository(
    services: Services, caller: Caller, repository: str, version: Version, response: Response
) -> None:
    """Delete a repository with its tags; refused while it is read-only or has tags that are kept.

    A repository that is made at its path later inherits nothing. `Restorable-Until` says until when
    it can be restored, while its path is free.
    """
    row = row_of(repository, "repository")
    until = await services.repositories.delete(caller, row, version=version)
    restorable_until(response, until)


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
        upstream=shown_upstream(facts.upstream) if facts.upstream is not None else None,
        created_at=moment(facts.created_at),
    )


def _policies(changes: RepositoryChanges | NewRepository) -> dict[str, object]:
    """What was named, as the services speak of it."""
    named = changes.model_dump(include=changes.model_fields_set - {"path", "upstream"})
    policies: dict[str, object] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in named.items()
    }
    if changes.upstream is not None and (fields := fields_of(changes.upstream)):
        policies["upstream"] = fields
    return policies
