"""What was, and bringing it back: tags, manifests, repositories, projects."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, BeforeValidator, Field, Strict

from entrepot.api.audit import not_a_number
from entrepot.api.call import (
    Body,
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    declares,
    moment,
    moment_or_none,
    page_of,
    row_of,
)
from entrepot.api.projects import Project, shown_project
from entrepot.api.repositories import Repository, shown_repository
from entrepot.model import names, undo
from entrepot.model.access import Action
from entrepot.model.digests import Digest
from entrepot.model.errors import FieldInvalid
from entrepot.model.ids import to_text

router = APIRouter(tags=["undo"])


def _text(value: object) -> object:
    """A number would be taken for seconds since 1970."""
    if not isinstance(value, str):
        raise ValueError("a time is text, such as 2026-11-21T10:00:00Z")  # noqa: TRY004  # pydantic's
    return not_a_number(value)


# JSON has no moments: they come as text, and with a zone, or it would be unclear which.
_Moment = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_text)]
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799_000_000


class TagVersion(Shown):
    """What a tag was for a while."""

    version: int = Field(description="it only grows; a tag that was deleted goes on counting")
    digest: str
    begin: datetime = Field(validation_alias="from", serialization_alias="from")
    until: datetime | None = Field(description="null: it is that now")
    ended_by: (
        Literal["push", "delete", "manifest", "retention", "sync", "restore", "repository"] | None
    ) = Field(description="`manifest`: its manifest was deleted; `repository`: all of it was")
    ended_who: str | None = Field(description="whose credential ended it, for who may push")
    is_restorable: bool = Field(description="the manifest is still here")
    restorable_until: datetime | None = Field(
        description="until then at least; null: it cannot be restored, or nothing has it go yet"
    )


class TagRestore(Body):
    """What a tag shall be; without either what it was last, if it is not there."""

    version: int | None = Field(default=None, ge=1, description="of its history")
    at: _Moment | None = Field(default=None, description="what it was at this moment")


class TagsRestore(Body):
    """Which tags come back."""

    since: _Moment = Field(description="those that retention has removed since then")
    after: str = Field(default="", max_length=128, description="`next` of the answer before")


class RestoredTag(Shown):
    """A tag as it is now."""

    name: str
    digest: str
    version: int
    before: str | None = Field(description="the digest that it was until now; null: not there")


class RestoredTags(Shown):
    """Tags that came back, a hundred at most."""

    restored: list[str]
    left: list[str] = Field(description="those that are another manifest by now, or that is gone")
    next: str | None = Field(description="`after` of the request that goes on; null: that was all")


class RestoredManifest(Shown):
    """A manifest that is back."""

    digest: str
    restored: list[str] = Field(description="tags that had gone with it")
    left: list[str] = Field(description="tags that had gone with it and are something else by now")


class Deleted(Shown):
    """What was deleted and can come back."""

    kind: Literal["repository", "project"]
    id: str
    name: str = Field(description="a repository's path, a project's name")
    deleted_at: datetime
    restorable_until: datetime


@router.get("/repositories/{repository}/tags/{tag}/history", **declares(Action.PULL))
async def list_tag_versions(
    services: Services, caller: Caller, repository: str, tag: str, window: Paging
) -> Page[TagVersion]:
    """What a tag was, from now back; also of a tag that is gone."""
    restore = services.restore
    found = await restore.history(
        caller,
        row_of(repository, "repository"),
        names.Tag.parse(tag),
        before=window.after_id(),
        limit=window.limit,
    )
    return page_of(
        found,
        lambda version: _shown(version, restore.restorable_until(version)),
        lambda version: to_text(version.version),
    )


@router.post("/repositories/{repository}/tags/{tag}/restore", **declares(Action.DELETE_TAG))
async def restore_tag(
    services: Services, caller: Caller, repository: str, tag: str, wanted: TagRestore
) -> RestoredTag:
    """Make a tag what it was. It takes who may delete it, and push it.

    It counts as pushed now. What it was must still be here.
    """
    if wanted.version is not None and wanted.at is not None:
        raise FieldInvalid("say a version or a moment, not both", field="at")
    found = await services.restore.tag(
        caller,
        row_of(repository, "repository"),
        names.Tag.parse(tag),
        version=wanted.version,
        at=None if wanted.at is None else _microseconds(wanted.at),
    )
    return RestoredTag(
        name=found.name, digest=found.digest, version=found.version, before=found.before
    )


@router.post("/repositories/{repository}/retention/restore", **declares(Action.DELETE_TAG))
async def restore_tags(
    services: Services, caller: Caller, repository: str, wanted: TagsRestore
) -> RestoredTags:
    """Bring back the tags that retention removed and nobody pushed since, a hundred at once.

    Change the policy first: what comes back counts as pushed now.
    """
    found, following = await services.restore.since(
        caller,
        row_of(repository, "repository"),
        since=_microseconds(wanted.since),
        after=wanted.after,
    )
    return RestoredTags(restored=list(found.back), left=list(found.left), next=following)


@router.post("/repositories/{repository}/manifests/{digest}/restore", **declares(Action.DELETE))
async def restore_manifest(
    services: Services, caller: Caller, repository: str, digest: str
) -> RestoredManifest:
    """Bring back a manifest that was deleted, with its tags. It takes who may also push."""
    parsed = Digest.parse(digest)
    found = await services.restore.manifest(caller, row_of(repository, "repository"), parsed)
    return RestoredManifest(digest=str(parsed), restored=list(found.back), left=list(found.left))


@router.get("/organisations/{organisation}/deleted", **declares(Action.MANAGE_REPOSITORY))
async def list_deleted(
    services: Services, caller: Caller, organisation: str, window: Paging
) -> Page[Deleted]:
    """Repositories and projects that were deleted and can come back, the newest first."""
    found = await services.deletions.page(
        caller, organisation, before=window.after_id(), limit=window.limit
    )
    return page_of(
        found,
        lambda deleted: _shown_deleted(deleted, services.deletions.until(deleted.deleted_at)),
        lambda deleted: to_text(deleted.id),
    )


@router.post("/repositories/{repository}/restore", **declares(Action.MANAGE_REPOSITORY))
async def restore_repository(services: Services, caller: Caller, repository: str) -> Repository:
    """Bring back a repository with its policies and tags, if nothing else is at its path."""
    found = await services.deletions.repository(caller, row_of(repository, "repository"))
    return shown_repository(found)


@router.post("/projects/{project}/restore", **declares(Action.MANAGE_PROJECT))
async def restore_project(services: Services, caller: Caller, project: str) -> Project:
    """Bring back a project with the builds that went with it. Its tokens and links are gone."""
    return shown_project(await services.deletions.project(caller, project))


def _shown(version: undo.TagVersion, until: int | None) -> TagVersion:
    return TagVersion(
        version=version.version,
        digest=version.digest,
        begin=moment(version.started_at),
        until=moment_or_none(version.ended_at),
        ended_by=version.ended_by,  # type: ignore[arg-type]  # the words of the column
        ended_who=version.ended_who,
        is_restorable=version.is_held,
        restorable_until=moment_or_none(until),
    )


def _shown_deleted(deleted: undo.Deleted, until: int) -> Deleted:
    return Deleted(
        kind="project" if deleted.kind == "project" else "repository",
        id=deleted.public_id or to_text(deleted.id),
        name=deleted.name,
        deleted_at=moment(deleted.deleted_at),
        restorable_until=moment(until),
    )


def _microseconds(when: datetime) -> int:
    """A moment between 1970 and 9999: in the zones of others there are some before and after."""
    return min(max((when - _FIRST) // timedelta(microseconds=1), 0), _LAST)
