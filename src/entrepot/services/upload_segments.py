"""What becomes of uploads that are segments in an object store, where nobody holds a lock.

A session's row decides: without it no writer can have its bytes acknowledged any more, and what no
row names can be removed. The tombstone of an upload that ended is that of a blob in segments:
collection removes all that the upload has left.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from entrepot.blobs.at_once import for_each
from entrepot.blobs.store import BucketStore, Upload
from entrepot.db import blobs, segments, tombstones, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import DAY, MINUTE, Clock
from entrepot.model.errors import EntrepotError, ObjectMissing, UploadUnknown
from entrepot.model.stored import UploadSession, segments_key
from entrepot.services.live_hashes import LiveHashes
from entrepot.services.upload_checks import NO_UPLOAD, read_open

_ANY_TIME = 2**62
_LONGEST = DAY  # that one object may take to arrive
_TURN = 10 * MINUTE  # of the process that forgets a session


class UploadSegments:
    """How they are found and how they end. `expire` is when they are abandoned, in µs."""

    def __init__(
        self, database: Database, store: BucketStore, clock: Clock, live: LiveHashes, *, expire: int
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._live = live
        self._expire = expire

    async def read_end(self, session: UploadSession) -> UploadSession:
        """The session as it is by now, with its last segment alone.

        What a request that only adds costs must not grow with those before it. Raises
        UploadUnknown when it has ended.
        """
        async with self._database.read() as tx:
            current = await read_open(tx, session)
            last = await segments.find_last(tx, current.storage_key, size=current.size)
        return replace(current, segments=last)

    async def read_all(self, session: UploadSession) -> UploadSession:
        """The session as it is by now, with its segments. Raises UploadUnknown, ObjectMissing."""
        return await read_segments(self._database, session)

    async def cancel(self, _upload: Upload, session: UploadSession) -> None:
        """End a session, and forget its bytes. Raises UploadUnknown."""
        if not await self._end(session, expired_by=_ANY_TIME):
            raise UploadUnknown(NO_UPLOAD, upload=session.id)

    async def after_failure(
        self, _upload: Upload, session: UploadSession, _error: EntrepotError
    ) -> None:
        """Have what a writer may have left removed where its session has ended without it.

        Else that goes when the session ends. What was acknowledged is in its store.
        """
        await self._bury_left(session)

    async def _bury_left(self, session: UploadSession) -> None:
        """Have what an upload has left removed, if its session is gone and it is no blob."""
        key, now = segments_key(session.storage_key), self._clock.now()

        async def work(tx: Transaction) -> None:
            if await uploads.get(tx, session.id) is None and not await blobs.is_key_known(tx, key):
                await tombstones.bury(tx, storage_key=key, digest="", size=0, due_at=now)

        with suppress(EntrepotError):  # fsck finds what nobody can note now
            await self._database.write(work, durable=False)

    async def expire(self, session: UploadSession) -> None:
        """End a session that is past its time, unless somebody goes on with it just now."""
        await self._end(session, expired_by=self._clock.now())

    async def forget(self, session: UploadSession) -> None:
        """Remove what writers left that were not in time, and the row of what became a blob.

        Every process comes here at about the same time: one asks the store, and should it fail or
        die, another one later. Raises StorageFailed, Unavailable.
        """
        now = self._clock.now()
        is_ours = await self._database.write(
            lambda tx: uploads.put_off(tx, session.id, now=now, expires_at=now + _TURN),
            durable=False,
        )
        if is_ours:
            await _remove_left(self._database, self._store, session.storage_key)
            await self._database.write(lambda tx: uploads.delete(tx, session.id), durable=False)

    async def sweep_strays(self) -> int:
        """End transfers that nobody else will; how many. Raises StorageFailed, Unavailable."""
        begun = self._clock.now() - max(self._expire, _LONGEST)
        return await asyncio.to_thread(self._store.abort_before, begun / 1_000_000)

    async def _end(self, session: UploadSession, *, expired_by: int) -> bool:
        """End an open session that was past its time by then; whether it is ended."""
        key, now = segments_key(session.storage_key), self._clock.now()

        async def work(tx: Transaction) -> bool:
            if not await uploads.delete_open(tx, session.id, expired_by=expired_by):
                # After an unknown COMMIT it may have been us.
                is_gone = await uploads.get(tx, session.id) is None
                return is_gone and await blobs.is_key_known(tx, key)
            await tombstones.bury(tx, storage_key=key, digest="", size=session.size, due_at=now)
            return True

        is_ended = await self._database.write(work, durable=False)
        if is_ended:
            self._live.drop(session.id)
        return is_ended


async def read_segments(database: Database, session: UploadSession) -> UploadSession:
    """The session as it is by now, with its segments.

    Raises UploadUnknown when it has ended, ObjectMissing where its segments are less than it.
    """
    async with database.read() as tx:
        current = await read_open(tx, session)
        found = await segments.find(tx, current.storage_key)
    # Another statement sees a later moment: somebody may just have added some.
    before = tuple(segment for segment in found if segment.start < current.size)
    if (size := sum(segment.size for segment in before)) != current.size:
        message = "an upload lacks some of its segments; start it again"
        raise ObjectMissing(message, size=current.size, found=size)
    return replace(current, segments=before)


async def remove_segments(database: Database, store: BucketStore, upload_key: str) -> None:
    """Remove the objects of an upload that has a tombstone, and its segments.

    Raises Unavailable, StorageFailed; to be done again then.
    """
    async with database.read() as tx:
        known = await segments.find(tx, upload_key)
    await database.write(lambda tx: segments.delete(tx, upload_key), durable=False)
    await _remove_left(database, store, upload_key, [segment.key for segment in known])


async def _remove_left(
    database: Database, store: BucketStore, upload_key: str, known: Iterable[str] = ()
) -> None:
    """Remove the objects of an upload that nothing needs; none while it has segments.

    `known` are some that a listing need not show. Raises Unavailable, StorageFailed.
    """
    listed = await asyncio.to_thread(store.leftovers, upload_key)
    async with database.read() as tx:
        left = await segments.find_left(tx, upload_key, [*known, *listed])
    await for_each(left, store.remove)
