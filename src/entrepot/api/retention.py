"""For how long what was pushed is kept: policies, what would go by one, and having it go now."""

from datetime import datetime
from typing import Annotated, Literal

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
    cursor_of,
    declares,
    moment,
    row_of,
    tag,
)
from entrepot.model import retention
from entrepot.model.access import Action
from entrepot.model.retention import MOST_DAYS, MOST_PATTERNS, MOST_TAGS
from entrepot.services.retention import Line, Policy, Totals

router = APIRouter(tags=["retention"])

Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]


class Retention(Body):
    """For how long what was pushed is kept: `days`, `tags` or `never`, and what stays anyway."""

    days: Annotated[Days | None, Field(description="since the last push of a tag")] = None
    tags: Annotated[
        int | None, Field(ge=1, le=MOST_TAGS, description="so many, those pushed last")
    ] = None
    never: Annotated[bool, Field(description="delete nothing")] = False
    keep: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9._*-]{1,128}$")]],
        Field(
            default_factory=list,
            max_length=MOST_PATTERNS,
            description="tags that stay and do not count, where `*` stands for any letters: `v*`",
        ),
    ]
    pulled_days: Annotated[
        Days | None, Field(description="what was pulled within so many days stays as well")
    ] = None
    untagged_days: Annotated[
        Days | None,
        Field(description="for manifests without a tag, since their push; null: as for tags"),
    ] = None


class RetentionWanted(Retention):
    """A policy for a repository of its own."""


class RepositoryRetention(Shown):
    """What holds for a repository."""

    effective: Retention
    sentence: str = Field(description="the same in words")
    source: Literal["repository", "organisation", "server"] = Field(
        description="whose policy it is"
    )
    own: Retention | None = Field(description="the repository's own policy, if it has one")
    inherited: Retention = Field(description="what would hold without it")


class PreviewWanted(Body):
    """Which policy to try."""

    policy: Annotated[Retention | None, Field(description="null: the one that holds")] = None


class PreviewLine(Shown):
    """A tag, or a manifest without one: what would become of it, and what becomes of it now."""

    tag: str | None
    digest: str
    pushed_at: datetime
    goes: bool
    reason: str = Field(description="why it goes, or stays")
    goes_now: bool = Field(description="by the policy that holds")
    reason_now: str


class WhatGoes(Shown):
    """All that goes by a policy."""

    tags: int
    untagged: int = Field(description="manifests without a tag")
    only: int = Field(description="of both, what does not go by the other policy")
    freed_bytes: int = Field(
        description="that nothing else in the organisation needs; they are free when it can be "
        "restored no more"
    )
    freed_blobs: int
    is_exact: bool = Field(description="false: so many bytes at least")


class RetentionPreview(Page[PreviewLine]):
    """A part of what is looked at: tags from the oldest push on, then manifests without a tag."""

    proposed: WhatGoes | None = Field(description="by the policy that is tried; first part only")
    present: WhatGoes | None = Field(description="by the one that holds; first part only")


class RetentionRan(Shown):
    """What went."""

    tags: int
    untagged: int = Field(description="manifests without a tag")
    is_done: bool = Field(description="false: ask again, or let the rest go by itself")


@router.get("/repositories/{repository}/retention", **declares(Action.PULL))
async def show_retention(
    services: Services, caller: Caller, repository: str, response: Response
) -> RepositoryRetention:
    """For how long a repository keeps what was pushed, and who says so."""
    found = await services.retention.policy(caller, row_of(repository, "repository"))
    tag(response, found.version)
    return _shown(found)


@router.put("/repositories/{repository}/retention", **declares(Action.MANAGE_REPOSITORY))
async def set_retention(
    services: Services,
    caller: Caller,
    repository: str,
    policy: RetentionWanted,
    version: Version,
    response: Response,
) -> RepositoryRetention:
    """Give a repository a policy of its own, in place of its organisation's or the server's.

    It holds as a whole from the next look on, within the hour. Try it with a preview first.
    """
    row = row_of(repository, "repository")
    found = await services.retention.set(caller, row, read_retention(policy), version=version)
    tag(response, found.version)
    return _shown(found)


@router.delete(
    "/repositories/{repository}/retention",
    status_code=204,
    **declares(Action.MANAGE_REPOSITORY),
)
async def inherit_retention(
    services: Services, caller: Caller, repository: str, version: Version
) -> None:
    """Take a repository's own policy away: its organisation's holds, or the server's."""
    row = row_of(repository, "repository")
    await services.retention.set(caller, row, None, version=version)


@router.post("/repositories/{repository}/retention/preview", **declares(Action.MANAGE_REPOSITORY))
async def preview_retention(
    services: Services, caller: Caller, repository: str, wanted: PreviewWanted, window: Paging
) -> RetentionPreview:
    """What would go by a policy and why, what goes by the one that holds, and what that frees.

    Nothing is changed. A run finds the same, but for what is pushed meanwhile.
    """
    found = await services.retention.preview(
        caller,
        row_of(repository, "repository"),
        read_retention(wanted.policy) if wanted.policy is not None else None,
        after=window.after,
        limit=window.limit,
    )
    return RetentionPreview(
        items=[_line(line) for line in found.lines],
        next=cursor_of(found.after) if found.after is not None else None,
        proposed=_totals(found.proposed),
        present=_totals(found.present),
    )


@router.post("/repositories/{repository}/retention/run", **declares(Action.MANAGE_REPOSITORY))
async def run_retention(services: Services, caller: Caller, repository: str) -> RetentionRan:
    """Have go now what the policy lets go, for some 10 s at most; what went can be restored."""
    ran = await services.retention_run.run(caller, row_of(repository, "repository"))
    return RetentionRan(tags=ran.tags, untagged=ran.untagged, is_done=ran.is_done)


def read_retention(policy: Retention) -> retention.Retention:
    """A policy as the services speak of it. Raises FieldInvalid."""
    return retention.Retention.parse(policy.model_dump())


def shown_retention(policy: retention.Retention) -> Retention:
    """A policy as every answer shows it."""
    return Retention(
        days=policy.days,
        tags=policy.tags,
        never=policy.never,
        keep=list(policy.keep),
        pulled_days=policy.pulled_days,
        untagged_days=policy.untagged_days,
    )


def _shown(found: Policy) -> RepositoryRetention:
    return RepositoryRetention(
        effective=shown_retention(found.effective),
        sentence=str(found.effective),
        source=found.source,
        own=shown_retention(found.own) if found.own is not None else None,
        inherited=shown_retention(found.inherited),
    )


def _line(line: Line) -> PreviewLine:
    return PreviewLine(
        tag=line.name,
        digest=line.digest,
        pushed_at=moment(line.pushed_at),
        goes=line.proposed.goes,
        reason=line.proposed.reason,
        goes_now=line.present.goes,
        reason_now=line.present.reason,
    )


def _totals(totals: Totals | None) -> WhatGoes | None:
    if totals is None:
        return None
    return WhatGoes(
        tags=totals.tags,
        untagged=totals.untagged,
        only=totals.only,
        freed_bytes=totals.freed_bytes,
        freed_blobs=totals.freed_blobs,
        is_exact=totals.is_exact,
    )
