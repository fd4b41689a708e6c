"""Namespace mirrors: prefixes of an organisation's names that mirror a whole upstream."""

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
    row_of,
    tag,
)
from entrepot.model.access import Action
from entrepot.model.ids import to_text
from entrepot.model.names import NAME_LIMIT
from entrepot.model.upstreams import DEFAULT_FRESHNESS, NamespaceMirror
from entrepot.services.namespace_mirrors import PATTERNS, NewMirror
from entrepot.services.pull_through import FRESHNESS
from entrepot.services.upstream_forms import PATTERN

router = APIRouter(tags=["mirrors"])

Patterns = Annotated[
    list[Annotated[str, Field(max_length=255, json_schema_extra={"pattern": f"^{PATTERN}$"})]],
    Field(max_length=PATTERNS, description="paths there, with `*` and `**`: `library/**`"),
]
Freshness = Annotated[
    int,
    Field(
        ge=0, le=FRESHNESS, description="seconds, of the repositories that are pulled from now on"
    ),
]


class UpstreamNamed(Shown):
    """The upstream that is mirrored."""

    id: str
    name: str


class Mirror(Shown):
    """A namespace mirror. Repositories appear below its prefix as they are pulled."""

    id: str
    organisation: str = Field(description="slug of the organisation")
    prefix: str = Field(description="`/` for all names of the organisation")
    upstream: UpstreamNamed
    upstream_prefix: str = Field(description="what stands before the name there; mostly empty")
    allow: list[str] = Field(description="paths there; none: all")
    deny: list[str] = Field(description="paths there that are not mirrored, even if allowed")
    freshness: int = Field(description="seconds, of the repositories that it makes")
    is_public: bool = Field(
        description="everybody may pull, while the organisation allows public repositories"
    )
    created_at: datetime


class MirrorChanges(Body):
    """What to change; what is not named stays."""

    allow: Patterns = Field(default_factory=list)
    deny: Patterns = Field(default_factory=list)
    freshness: Freshness = DEFAULT_FRESHNESS
    is_public: bool = Field(
        default=False, description="everybody may pull, and have repositories made that are public"
    )


class NewNamespaceMirror(MirrorChanges):
    """A mirror to make."""

    prefix: Annotated[
        str, Field(max_length=NAME_LIMIT, description="`hub`; `/` for all names without another")
    ]
    upstream: Annotated[str, Field(max_length=100, description="its name")]
    upstream_prefix: Annotated[
        str, Field(max_length=NAME_LIMIT, description="put before the name there")
    ] = ""


@router.get("/organisations/{organisation}/mirrors", **declares(Action.BROWSE))
async def list_mirrors(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Mirror]:
    """The namespace mirrors of an organisation, the newest first."""
    found = await services.mirrors.page(
        caller, organisation, before=window.after_id(), limit=window.limit
    )
    return page_of(found, _shown, lambda mirror: to_text(mirror.id))


@router.post(
    "/organisations/{organisation}/mirrors", **declares(Action.MANAGE_UPSTREAMS, creates=True)
)
async def create_mirror(
    services: Services,
    caller: Caller,
    organisation: str,
    new: NewNamespaceMirror,
    response: Response,
) -> Mirror:
    """Mirror an upstream at a prefix. Whoever may pull there may have repositories made by it."""
    made = await services.mirrors.create(
        caller,
        organisation,
        NewMirror(
            new.prefix,
            new.upstream,
            new.upstream_prefix,
            tuple(new.allow),
            tuple(new.deny),
            new.freshness,
            new.is_public,
        ),
    )
    tag(response, made.version)
    return _shown(made)


@router.get("/mirrors/{mirror}", **declares(Action.BROWSE))
async def show_mirror(
    services: Services, caller: Caller, mirror: str, response: Response
) -> Mirror:
    """One namespace mirror, by id."""
    found = await services.mirrors.get(caller, row_of(mirror, "mirror"))
    tag(response, found.version)
    return _shown(found)


@router.patch("/mirrors/{mirror}", **declares(Action.MANAGE_UPSTREAMS))
async def change_mirror(
    services: Services,
    caller: Caller,
    mirror: str,
    changes: MirrorChanges,
    version: Version,
    response: Response,
) -> Mirror:
    """Change what it lets through. What was pulled through it stays, and is served further on."""
    named = changes.model_dump(include=changes.model_fields_set)
    fields = {
        field: tuple(value) if isinstance(value, list) else value for field, value in named.items()
    }
    changed = await services.mirrors.update(
        caller, row_of(mirror, "mirror"), fields, version=version
    )
    tag(response, changed.version)
    return _shown(changed)


@router.delete("/mirrors/{mirror}", status_code=204, **declares(Action.MANAGE_UPSTREAMS))
async def delete_mirror(services: Services, caller: Caller, mirror: str, version: Version) -> None:
    """End a mirror. The repositories that were pulled through it stay, and go on."""
    await services.mirrors.delete(caller, row_of(mirror, "mirror"), version=version)


def _shown(mirror: NamespaceMirror) -> Mirror:
    return Mirror(
        id=to_text(mirror.id),
        organisation=mirror.organisation_slug,
        prefix=mirror.prefix or "/",
        upstream=UpstreamNamed(id=to_text(mirror.upstream_id), name=mirror.upstream_name),
        upstream_prefix=mirror.upstream_prefix,
        allow=list(mirror.allow),
        deny=list(mirror.deny),
        freshness=mirror.freshness,
        is_public=mirror.is_public,
        created_at=moment(mirror.created_at),
    )
