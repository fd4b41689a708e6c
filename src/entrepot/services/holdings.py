"""What it means that a repository gains a blob: its object, the link, its bytes, a review."""

from entrepot.blobs.store import BlobStore
from entrepot.db import accounts, blobs, collection, scrub, tombstones
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Repository
from entrepot.model.errors import ObjectMissing, StorageFailed, Unavailable
from entrepot.model.ids import new_id
from entrepot.services.objects import is_whole, require_there


async def find_lost(database: Database, store: BlobStore, digest: str) -> str | None:
    """The key of a blob that an object store has lost; to be asked before ours is recorded.

    A folder is asked while it is recorded: that takes no network. A store that fails proves
    nothing.
    """
    if not store.has_segments:
        return None
    async with database.read() as tx:
        blob = await scrub.find(tx, digest)
    if blob is None or blob.is_damaged:
        return None
    try:
        await require_there(database, store, blob)
    except ObjectMissing:
        return blob.storage_key
    except (StorageFailed, Unavailable):
        return None
    return None


async def keep_object(
    tx: Transaction,
    store: BlobStore,
    *,
    digest: str,
    size: int,
    storage_key: str,
    stamp: int,
    now: int,
    due_at: int,
    lost: str | None = None,
) -> None:
    """Record that an object, durable by now, holds this digest. Times in µs.

    When somebody else has stored it before, one of the two is a duplicate, to go when it is due:
    the other one unless it is known to be right, as ours is. `lost` is the key of one that is not.
    """
    stored = await blobs.put(
        tx, digest=digest, size=size, storage_key=storage_key, stamp=stamp, now=now
    )
    if stored.storage_key == storage_key:
        return
    duplicate = storage_key
    if stored.size != size or stored.storage_key == lost or not is_whole(store, stored):
        duplicate = stored.storage_key
        # After a COMMIT that nobody heard of ours may already be buried as the duplicate.
        await tombstones.remove(tx, [storage_key])
        await blobs.heal(tx, digest, size=size, storage_key=storage_key, stamp=stamp, now=now)
    await tombstones.bury(tx, storage_key=duplicate, digest=digest, size=size, due_at=due_at)


async def hold_blob(
    tx: Transaction,
    repository: Repository,
    digest: str,
    size: int,
    *,
    now: int,
    protected_until: int,
) -> bool:
    """Make a stored blob part of a repository, protected until then. Times in µs.

    Whether its organisation holds more bytes than before.

    Nothing references it yet, so it puts itself on the review queue: unused, it is an orphan.
    """
    is_new = await blobs.link(tx, repository.id, digest, now=now, protected_until=protected_until)
    grew = False
    if is_new:
        grew = await accounts.gained(
            tx,
            organisation_id=repository.organisation_id,
            repository_id=repository.id,
            digest=digest,
            bytes_count=size,
            now=now,
            ids=(new_id(), new_id()),
        )
    await collection.review(tx, "link", repository.id, digest, due_at=protected_until)
    return grew
