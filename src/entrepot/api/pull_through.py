"""What the API says of the upstream of a repository, and takes to choose and to change it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from entrepot.api.call import Body, Shown, moment_or_none
from entrepot.model.ids import to_text
from entrepot.model.names import NAME_LIMIT
from entrepot.model.upstreams import SYNCED, PullThrough
from entrepot.services.pull_through import FRESHNESS, PLATFORM, SYNC, WARM, WORDS
from entrepot.services.upstream_repositories import Wanted

Freshness = Annotated[int, Field(ge=0, le=FRESHNESS)] | Literal["sync"]
Patterns = Annotated[
    list[Annotated[str, Field(json_schema_extra={"pattern": f"^{WARM}$"})]],
    Field(max_length=WORDS, description="tags whose blobs a sync brings too: `v*`"),
]
Platforms = Annotated[
    list[Annotated[str, Field(json_schema_extra={"pattern": f"^{PLATFORM}$"})]],
    Field(max_length=WORDS, description="for these alone: `linux/amd64`; none: for all"),
]

_FRESHNESS = (
    "seconds for which a tag is not asked for again; `sync`: what the last sync left is the answer"
)
_SYNC = "which tags a sync brings: `all`, `newest:N` or a pattern; null: none"
_ACCEPTS_PUSH = "people may push beside what is mirrored"
_MAY_SHADOW = "and over tags of the upstream too"
_KEEPS_DELETED = "a tag that is gone upstream stays"


class UpstreamOf(Shown):
    """Where a pull-through repository comes from, and how."""

    id: str = Field(description="of the upstream")
    name: str
    path: str = Field(description="the repository's name there")
    freshness: int | Literal["sync"] = Field(description=_FRESHNESS)
    accepts_push: bool = Field(description=_ACCEPTS_PUSH)
    may_shadow: bool = Field(description=_MAY_SHADOW)
    sync: str | None = Field(description=_SYNC)
    keeps_deleted: bool = Field(description=_KEEPS_DELETED)
    warm_tags: list[str] = Field(description="tags whose blobs a sync brings too")
    warm_platforms: list[str] = Field(description="for these alone; none: for all")
    accessed_at: datetime | None = Field(description="when somebody read of it, to the minute")
    last_synced_at: datetime | None = Field(
        description="the end of the last sync in which every wanted tag succeeded"
    )
    last_sync_error: str | None = Field(description="what the last sync failed at, if it did")


class HowItComes(Body):
    """What can be set on a repository that comes from an upstream."""

    freshness: Annotated[Freshness | None, Field(description=f"{_FRESHNESS}; null: as usual")] = (
        None
    )
    accepts_push: bool = Field(default=False, description=_ACCEPTS_PUSH)
    may_shadow: bool = Field(default=False, description=_MAY_SHADOW)
    sync: Annotated[
        str | None, Field(description=_SYNC, json_schema_extra={"pattern": f"^(?:{SYNC})$"})
    ] = None
    keeps_deleted: bool = Field(default=False, description=_KEEPS_DELETED)
    warm_tags: Patterns = Field(default_factory=list)
    warm_platforms: Platforms = Field(default_factory=list)


class ComesFrom(HowItComes):
    """What a repository shall come from: `name` and `path`, or `url`."""

    name: Annotated[str, Field(max_length=63, description="of the upstream")] = ""
    path: Annotated[str, Field(max_length=NAME_LIMIT, description="there: `library/redis`")] = ""
    url: Annotated[
        str,
        Field(
            max_length=NAME_LIMIT * 2,
            description="a full reference in place of both: `docker.io/library/redis`; an upstream "
            "for it is made if there is none",
        ),
    ] = ""
    is_anonymous: bool = Field(
        default=False,
        description="make the upstream of `url` although it limits those without a credential",
    )


class ComesFromChanges(HowItComes):
    """What to change of how a repository comes from its upstream."""

    name: Annotated[str, Field(max_length=63, description="stays: a change is refused")] = ""
    path: Annotated[str, Field(max_length=NAME_LIMIT, description="stays: a change is refused")] = (
        ""
    )


def shown_upstream(found: PullThrough) -> UpstreamOf:
    """Where a repository comes from, as every answer shows it."""
    freshness = found.source.freshness
    return UpstreamOf(
        id=to_text(found.upstream_id),
        name=found.upstream_name,
        path=found.path,
        freshness="sync" if freshness == SYNCED else freshness,
        accepts_push=found.accepts_push,
        may_shadow=found.may_shadow,
        sync=found.sync,
        keeps_deleted=found.keeps_deleted,
        warm_tags=list(found.warm_tags),
        warm_platforms=list(found.warm_platforms),
        accessed_at=moment_or_none(found.accessed_at),
        last_synced_at=moment_or_none(found.last_synced_at),
        last_sync_error=found.last_sync_error,
    )


def wanted_of(new: ComesFrom) -> Wanted:
    """What a new repository shall come from, as the services speak of it."""
    return Wanted(new.name, new.path, new.url, is_anonymous=new.is_anonymous)


def fields_of(changes: HowItComes) -> dict[str, object]:
    """What was named, as the services speak of it; of a new one but what it comes from."""
    chosen = {"name", "path", "url", "is_anonymous"} if isinstance(changes, ComesFrom) else set()
    named = changes.model_dump(include=changes.model_fields_set - chosen)
    return {
        field: tuple(value) if isinstance(value, list) else value for field, value in named.items()
    }
