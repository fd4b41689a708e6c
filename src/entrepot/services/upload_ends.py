"""What becomes of uploads that end, in an object store and in a folder.

In an object store nobody holds a lock, so the session's row decides: without it no writer can have
its bytes acknowledged any more, and what no row names can be removed. The tombstone of an upload
that ended is that of a blob in segments: collection removes all that the upload has left.
"""

import asyncio
from collections.abc import Iterable

from entrepot.blobs.store import BlobStore, parts_key
from entrepot.db import blobs, segments, tombstones, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.errors import Conflict
from entrepot.model.stored import UploadSession

ANY_TIME = 2**62
_STRAYS = 1_000


async def end(database: Database, session: UploadSession, *, now: int, expired_by: int) -> bool:
    """End an open session that was past its time by then; whether it is ended."""
    key = parts_key(session.storage_key)

    async def work(tx: Transaction) -> bool:
        if not await uploads.delete_open(tx, session.id, expired_by=expired_by):
            # After an unknown COMMIT it may have been us.
            is_gone = await uploads.get(tx, session.id) is None
            return is_gone and await blobs.is_key_known(tx, key)
        await tombstones.bury(tx, storage_key=key, digest="", size=session.size, due_at=now)
        return True

    return await database.write(work, durable=False)


async def forget_committed(database: Database, store: BlobStore, session: UploadSession) -> None:
    """Remove what writers left that were not in time, then the row. Raises StorageFailed."""
    if store.has_segments:
        await remove_left(database, store, session.storage_key)
    await database.write(lambda tx: uploads.delete(tx, session.id), durable=False)


async def clear_strays(database: Database, store: BlobStore, now: int, begun: int) -> int:
    """Remove segments of sessions that went with their repository, and transfers that nobody ends.

    These are ones from before `begun`. How many of both. Raises StorageFailed, Unavailable.
    """
    async with database.read(scan=True) as tx:
        found = await segments.find_strays(tx, limit=_STRAYS)

    async def work(tx: Transaction) -> None:
        for upload_key, size in found:
            key = parts_key(upload_key)
            await tombstones.bury(tx, storage_key=key, digest="", size=size, due_at=now)

    if found:
        await database.write(work, durable=False)
    return len(found) + await asyncio.to_thread(store.abort_before, begun / 1_000_000)


async def remove_segments(database: Database, store: BlobStore, upload_key: str) -> None:
    """Remove the objects of an upload that has a tombstone, and its segments.

    Raises Unavailable, StorageFailed; to be done again then.
    """
    async with database.read() as tx:
        known = await segments.find(tx, upload_key)
    await database.write(lambda tx: segments.delete(tx, upload_key), durable=False)
    await remove_left(database, store, upload_key, [segment.key for segment in known])


async def remove_left(
    database: Database, store: BlobStore, upload_key: str, known: Iterable[str] = ()
) -> None:
    """Remove the objects of an upload that nothing needs; none while it has segments.

    `known` are some that a listing need not show. Raises Unavailable, StorageFailed.
    """
    listed = await asyncio.to_thread(store.leftovers, upload_key)
    async with database.read() as tx:
        left = await segments.find_left(tx, upload_key, [*known, *listed])
    for key in left:
        await asyncio.to_thread(store.remove, key)


async def clear_stray_files(database: Database, store: BlobStore, moment: float) -> int:
    """Remove upload files that no session knows and nobody wrote to since then; how many."""
    strays = 0
    for key in store.staged_before(moment):
        async with database.read(scan=True) as tx:
            if await uploads.is_known(tx, key):
                continue
        upload = store.upload(key)
        try:
            upload.open(is_new=True)
            await upload.discard()
            strays += 1
        except Conflict:
            continue
        finally:
            await upload.close()
    return strays
