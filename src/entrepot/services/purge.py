"""Emptying deleted repositories and organisations, a batch in each transaction."""

from collections.abc import Sequence

from entrepot.db import accounts, collection, orphans, purge, unused
from entrepot.db.collection import Review
from entrepot.db.database import Transaction
from entrepot.db.orphans import Place
from entrepot.model.clock import DAY, HOUR
from entrepot.model.ids import new_id
from entrepot.services.orphans import RESTORABLE, CollectionLimits, Look

IN_USE = "an upload or fetch is not over"
MORE = "more is left"
_BATCH = 100


async def look_at_repository(
    tx: Transaction, reviews: Sequence[Review], limits: CollectionLimits, now: int
) -> Look:
    """Take a batch out of a repository that nobody can restore any more; at last its row."""
    (review,) = reviews
    place = await orphans.lock_repository(tx, review.repository_id)
    look = Look()
    if place is None or place.deleted_at is None:  # purged or restored
        look.settled = await collection.finish(tx, reviews)
        return look
    until = place.deleted_at + limits.restore
    if until > now:
        look.settled = await collection.postpone(tx, reviews, due_at=until, reason=RESTORABLE)
        return look
    await purge.condemn(tx, review.repository_id)
    if await _empty(tx, review.repository_id, place, look, now):
        look.settled = await collection.postpone(tx, reviews, due_at=now, reason=MORE)
    elif await purge.is_in_use(tx, review.repository_id):
        look.settled = await collection.postpone(tx, reviews, due_at=now + HOUR, reason=IN_USE)
    else:
        await purge.delete_repository(tx, review.repository_id)
        look.settled = await collection.finish(tx, reviews)
    if look.manifests or look.links:
        await collection.count_gone(tx, day=now // DAY, manifests=look.manifests, links=look.links)
    return look


async def look_at_organisation(
    tx: Transaction, reviews: Sequence[Review], limits: CollectionLimits, now: int
) -> Look:
    """Delete repositories of an organisation that nobody can restore any more."""
    (review,) = reviews
    look = Look()
    deleted_at = await purge.lock_organisation(tx, review.repository_id)
    if deleted_at is not None and deleted_at + limits.restore > now:
        until = deleted_at + limits.restore
        look.settled = await collection.postpone(tx, reviews, due_at=until, reason=RESTORABLE)
        return look
    gone: list[int] = []
    if deleted_at is not None:
        gone = await purge.delete_repositories_of(
            tx, review.repository_id, at=deleted_at, limit=_BATCH
        )
        await purge.review_repositories(tx, gone, due_at=now)
    if gone:
        look.settled = await collection.postpone(tx, reviews, due_at=now, reason=MORE)
    else:
        look.settled = await collection.finish(tx, reviews)
    return look


async def _empty(tx: Transaction, repository_id: int, place: Place, look: Look, now: int) -> bool:
    """Delete a batch of what a repository has; False when it has nothing."""
    count, pushed = await purge.delete_tags(tx, repository_id, limit=_BATCH)
    if count:
        await accounts.count_tags(tx, place.organisation_id, -pushed, now=now, id=new_id())
        return True
    for table in purge.TABLES:
        if await purge.delete_some(tx, table, repository_id, limit=_BATCH):
            return True
    sizes = await purge.delete_manifests(tx, repository_id, limit=_BATCH)
    look.manifests = len(sizes)
    if not sizes:
        links = await purge.delete_links(tx, repository_id, limit=_BATCH)
        sizes = await unused.find_sizes(tx, links)
        await collection.review_all(tx, "blob", 0, links, due_at=now)
        look.links = len(links)
    if not sizes:
        return False
    await accounts.lost(
        tx,
        organisation_id=place.organisation_id,
        repository_id=repository_id,
        sizes=sizes,
        now=now,
        ids=(new_id(), new_id()),
    )
    return True
