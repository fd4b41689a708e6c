"""Collection: what went, what waits, and why it does not go yet."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import Field

from entrepot.api.call import Caller, Services, Shown, declares, moment, moment_or_none
from entrepot.model.access import Action

router = APIRouter(tags=["server"])


class WaitingReviews(Shown):
    """What waits for a look, of one kind and for one reason."""

    kind: str = Field(description="manifest, link (a blob of one repository), blob, repository, …")
    reason: str = Field(description="why it did not go at the last look; empty before the first")
    count: int
    due: int = Field(description="how many of them are due")
    next_at: datetime = Field(description="when the next of them is due")


class WaitingObjects(Shown):
    """Objects that nothing points at any more and that are still in the store."""

    count: int
    bytes: int
    next_at: datetime | None = Field(description="when the next of them goes")
    refused: int = Field(description="of them, those that the store did not delete when asked")
    refused_bytes: int
    error: str | None = Field(description="what the store said last")


class CollectionDay(Shown):
    """What went on a day (UTC)."""

    day: str
    manifests: int
    links: int
    objects: int
    bytes: int


class CollectionState(Shown):
    """All that is known of collection."""

    stopped: str | None = Field(description="why nothing is collected; null while it works")
    due: int = Field(description="reviews that are due")
    oldest_due_at: datetime | None = Field(description="since when the oldest of them is")
    waiting: list[WaitingReviews]
    restorable_bytes: int = Field(description="of blobs that only manifests need which wait to go")
    unused_bytes: int = Field(description="of blobs that no manifest needs")
    objects: WaitingObjects
    days: list[CollectionDay] = Field(description="the last 30 on which something went")


@router.get("/collection", **declares(Action.ADMINISTER))
async def get_collection(services: Services, caller: Caller) -> CollectionState:
    """What collection took, what waits for it and why; for server administrators."""
    facts = await services.collection.get(caller)
    objects = facts.objects
    return CollectionState(
        stopped=facts.stopped,
        due=facts.due,
        oldest_due_at=moment_or_none(facts.oldest_due_at),
        waiting=[
            WaitingReviews(
                kind=found.kind,
                reason=found.reason,
                count=found.count,
                due=found.due,
                next_at=moment(found.oldest_due_at),
            )
            for found in facts.waiting
        ],
        restorable_bytes=facts.restorable_bytes,
        unused_bytes=facts.unused_bytes,
        objects=WaitingObjects(
            count=objects.count,
            bytes=objects.size,
            next_at=moment_or_none(objects.oldest_due_at if objects.count else None),
            refused=objects.refused,
            refused_bytes=objects.refused_size,
            error=facts.store_error,
        ),
        days=[
            CollectionDay(
                day=moment(day.at).date().isoformat(),
                manifests=day.manifests,
                links=day.links,
                objects=day.objects,
                bytes=day.size,
            )
            for day in facts.days
        ],
    )
