"""What it means that a repository gains a blob: the link, its bytes counted, a review to come."""

from entrepot.db import blobs, collection
from entrepot.db.database import Transaction
from entrepot.model.access import Repository
from entrepot.model.ids import new_id


async def hold_blob(
    tx: Transaction,
    repository: Repository,
    digest: str,
    size: int,
    *,
    now: int,
    protected_until: int,
) -> None:
    """Make a stored blob part of a repository, protected until then. Times in µs.

    Nothing references it yet, so it puts itself on the review queue: unused, it is an orphan.
    """
    is_new = await blobs.link(tx, repository.id, digest, now=now, protected_until=protected_until)
    if is_new:
        await collection.gained(
            tx,
            organisation_id=repository.organisation_id,
            repository_id=repository.id,
            digest=digest,
            bytes_count=size,
            now=now,
            ids=(new_id(), new_id()),
        )
    await collection.review(tx, "link", repository.id, digest, due_at=protected_until)
