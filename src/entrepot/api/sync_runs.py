"""Syncs of pull-through repositories: having one done, and how they went."""

from datetime import datetime

from fastapi import APIRouter
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
    row_of,
)
from entrepot.model import sync_runs
from entrepot.model.access import Action
from entrepot.model.ids import to_text
from entrepot.model.sync_runs import Cause

router = APIRouter(tags=["repositories"])


class SyncFailure(Shown):
    """A tag that could not be synced."""

    tag: str
    reason: str = Field(description="in a word, or the status that the upstream gave: `404`")
    message: str = Field(description="in a sentence")


class SyncRun(Shown):
    """One sync of a repository with its upstream. While it goes on, the numbers grow."""

    id: str
    cause: Cause = Field(description="its time had come, or somebody asked for it")
    started_at: datetime
    ended_at: datetime | None = Field(description="null while it goes on")
    tags: int = Field(description="tags of the upstream that are wanted here")
    done: int = Field(description="of these, how many were looked at")
    changed: int = Field(description="of these, how many are new or moved")
    failed: int = Field(description="tags that could not be synced; they stay as they were")
    removed: int = Field(description="tags that the upstream has no more, or that are not wanted")
    blobs: int = Field(description="blobs that were fetched for tags that are kept warm")
    error: str | None = Field(description="what failed; null where every wanted tag succeeded")
    failures: list[SyncFailure] = Field(description="tags that failed, the first 100")


@router.post(
    "/repositories/{repository}/sync", status_code=202, **declares(Action.MANAGE_REPOSITORY)
)
async def sync_repository(services: Services, caller: Caller, repository: str) -> SyncRun:
    """Have a pull-through repository synced with its upstream now: the tags of its `sync`, or all.

    It goes on behind this answer; `list_sync_runs` tells how it goes. One that is going on already
    is answered in place of another.
    """
    return _shown(await services.syncs.start(caller, row_of(repository, "repository")))


@router.get("/repositories/{repository}/sync-runs", **declares(Action.PULL))
async def list_sync_runs(
    services: Services, caller: Caller, repository: str, window: Paging
) -> Page[SyncRun]:
    """The syncs of a repository, newest first. The last 50 are kept."""
    found = await services.syncs.page(
        caller,
        row_of(repository, "repository"),
        before=window.after_id(),
        limit=window.limit,
    )
    return page_of(found, _shown, lambda run: to_text(run.id))


def _shown(run: sync_runs.SyncRun) -> SyncRun:
    counts = run.counts
    return SyncRun(
        id=to_text(run.id),
        cause=run.cause,
        started_at=moment(run.started_at),
        ended_at=moment_or_none(run.ended_at),
        tags=counts.wanted,
        done=counts.done,
        changed=counts.changed,
        failed=counts.failed,
        removed=counts.removed,
        blobs=counts.fetched,
        error=run.error,
        failures=[
            SyncFailure(tag=failure.tag, reason=failure.reason, message=failure.message)
            for failure in run.failures
        ],
    )
