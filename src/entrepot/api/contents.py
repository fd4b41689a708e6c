"""What repositories hold: tags and manifests."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from entrepot.api.call import (
    Caller,
    Page,
    Paging,
    Services,
    Shown,
    declares,
    moment,
    moment_or_none,
    page_of,
    restorable_until,
    row_of,
)
from entrepot.model import names
from entrepot.model.access import Action
from entrepot.model.digests import Digest
from entrepot.model.stored import ListedManifest, ListedTag
from entrepot.services.contents import TAGS, ManifestView

router = APIRouter(tags=["contents"])

Prefix = Annotated[
    str, Query(pattern=r"^[A-Za-z0-9._-]{0,128}$", description="only tags that begin so")
]

_PULLED = "when somebody last pulled its manifest, to the hour"


class Tag(Shown):
    """A tag and the manifest that it points at."""

    name: str
    digest: str
    media_type: str
    size: int = Field(description="bytes of the manifest itself")
    pushed_at: datetime = Field(description="the last push of this tag")
    pulled_at: datetime | None = Field(description=_PULLED)
    expires_at: datetime | None = Field(
        description="when it goes by the max-age that its push gave it, if it gave one"
    )


class ManifestSummary(Shown):
    """A manifest in a list."""

    digest: str
    media_type: str
    artifact_type: str | None
    subject: str | None = Field(description="the manifest that this one refers to")
    size: int = Field(description="bytes of the manifest itself")
    pushed_at: datetime
    pulled_at: datetime | None = Field(description=_PULLED)


class Platform(Shown):
    """What an image runs on, and its manifest."""

    os: str
    architecture: str
    variant: str | None
    digest: str


class Layer(Shown):
    """Content that a manifest names, in its order."""

    digest: str
    size: int = Field(description="bytes")
    media_type: str


class Manifest(ManifestSummary):
    """A manifest taken apart."""

    tags: list[str] = Field(description=f"tags that point at it, {TAGS} of them at most")
    platforms: list[Platform] = Field(description="of each image of an index, or of the image")
    config: dict[str, Any] | None = Field(
        description="the configuration of an image as it is stored; null where there is none, or "
        "it is too large to show"
    )
    layers: list[Layer]
    annotations: dict[str, str]


@router.get("/repositories/{repository}/tags", **declares(Action.PULL))
async def list_tags(
    services: Services, caller: Caller, repository: str, window: Paging, prefix: Prefix = ""
) -> Page[Tag]:
    """The tags of a repository, in the order of their bytes."""
    found = await services.contents.tags(
        caller,
        row_of(repository, "repository"),
        prefix=prefix,
        after=window.after,
        limit=window.limit,
    )
    return page_of(found, _shown_tag, lambda tag: tag.name)


@router.get("/repositories/{repository}/tags/{tag}", **declares(Action.PULL))
async def show_tag(services: Services, caller: Caller, repository: str, tag: str) -> Tag:
    """One tag."""
    row = row_of(repository, "repository")
    return _shown_tag(await services.contents.tag(caller, row, names.Tag.parse(tag)))


@router.delete(
    "/repositories/{repository}/tags/{tag}", status_code=204, **declares(Action.DELETE_TAG)
)
async def delete_tag(
    services: Services, caller: Caller, repository: str, tag: str, response: Response
) -> None:
    """Remove a tag. Its manifest stays while another tag or manifest needs it.

    `Restorable-Until` says until when it can be restored at least.
    """
    row = row_of(repository, "repository")
    restorable_until(response, await services.delete.tag(caller, row, names.Tag.parse(tag)))


@router.get("/repositories/{repository}/manifests", **declares(Action.PULL))
async def list_manifests(
    services: Services, caller: Caller, repository: str, window: Paging
) -> Page[ManifestSummary]:
    """The manifests of a repository, tagged or not, by digest."""
    found = await services.contents.manifests(
        caller, row_of(repository, "repository"), after=window.after, limit=window.limit
    )
    return page_of(
        found,
        lambda manifest: ManifestSummary(**_summary(manifest)),
        lambda manifest: manifest.digest,
    )


@router.get("/repositories/{repository}/manifests/{digest}", **declares(Action.PULL))
async def show_manifest(
    services: Services, caller: Caller, repository: str, digest: str
) -> Manifest:
    """One manifest, with its platforms, configuration and layers."""
    row = row_of(repository, "repository")
    return _shown(await services.contents.manifest(caller, row, Digest.parse(digest)))


@router.delete(
    "/repositories/{repository}/manifests/{digest}", status_code=204, **declares(Action.DELETE)
)
async def delete_manifest(
    services: Services, caller: Caller, repository: str, digest: str, response: Response
) -> None:
    """Remove a manifest and the tags that point at it; refused while an index lists it.

    `Restorable-Until` says until when it can be restored with them.
    """
    row = row_of(repository, "repository")
    restorable_until(response, await services.delete.manifest(caller, row, Digest.parse(digest)))


def _shown_tag(tag: ListedTag) -> Tag:
    return Tag(
        name=tag.name,
        digest=tag.digest,
        media_type=tag.media_type,
        size=tag.size,
        pushed_at=moment(tag.pushed_at),
        pulled_at=moment_or_none(tag.pulled_at),
        expires_at=moment_or_none(tag.expires_at),
    )


def _summary(manifest: ListedManifest) -> dict[str, Any]:
    return {
        "digest": manifest.digest,
        "media_type": manifest.media_type,
        "artifact_type": manifest.artifact_type,
        "subject": manifest.subject,
        "size": manifest.size,
        "pushed_at": moment(manifest.pushed_at),
        "pulled_at": moment_or_none(manifest.pulled_at),
    }


def _shown(view: ManifestView) -> Manifest:
    return Manifest(
        **_summary(view.manifest),
        tags=list(view.tags),
        platforms=[
            Platform(
                os=platform.os,
                architecture=platform.architecture,
                variant=platform.variant,
                digest=platform.digest,
            )
            for platform in view.platforms
        ],
        config=view.config,
        layers=[
            Layer(digest=layer.digest, size=layer.size, media_type=layer.media_type)
            for layer in view.parts.layers
        ],
        annotations=dict(view.parts.annotations),
    )
