"""Opening stored objects: one that changed without us is read again before anybody gets it.

Damage is found here and by scrub, noted at the blob, and means the same everywhere: not here for
whoever could send it again, a failure of ours for whoever wants the bytes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from entrepot.blobs.answers import File
from entrepot.blobs.at_once import for_each
from entrepot.blobs.readback import Found
from entrepot.blobs.store import BlobStore
from entrepot.blobs.stored import Stored, pieces_of
from entrepot.db import scrub, segments
from entrepot.db.database import Database, Work
from entrepot.model.clock import MINUTE, Clock
from entrepot.model.digests import Digest, is_named
from entrepot.model.errors import (
    ObjectMissing,
    StorageFailed,
    StorageFull,
    Unavailable,
)
from entrepot.model.stored import LinkedBlob, Segment, StoredManifest, upload_of
from entrepot.telemetry.observe import Observe, ignore

_LARGE = 256 * 1024  # what is hashed in a thread
_AT_ONCE = 2  # objects that one process reads again for whoever asks for them
_ASK_AGAIN = MINUTE  # a store that shows late what it has may show it by then
_REMEMBERED = 4_096  # objects that this process knows to have read again, and when

log = structlog.get_logger()


def is_whole(store: BlobStore, blob: LinkedBlob) -> bool:
    """Whether the blob's object is as it was when it was last known to be right."""
    if blob.is_damaged:
        return False
    try:
        return store.stamp(blob.storage_key, blob.size) == blob.stamp
    except (ObjectMissing, StorageFailed, Unavailable):
        return False


async def find_segments(database: Database, blob: LinkedBlob) -> Sequence[Segment]:
    """The objects that a blob consists of. Raises ObjectMissing where too little is known of it.

    One that is still in segments takes one more statement, until they are joined.
    """
    if (upload_key := upload_of(blob.storage_key)) is None:
        return [Segment(0, blob.size, blob.storage_key)]
    async with database.read() as tx:
        found = await segments.find(tx, upload_key)
    if sum(segment.size for segment in found) != blob.size:
        message = "a stored blob lacks some of its segments"
        raise ObjectMissing(message, digest=blob.digest, key=blob.storage_key)
    return found


async def require_there(database: Database, store: BlobStore, blob: LinkedBlob) -> None:
    """Ask the store for all objects of a blob. Raises ObjectMissing, StorageFailed, Unavailable."""
    found = await find_segments(database, blob)
    await for_each(found, lambda segment: store.require(segment.key, segment.size))


async def require_whole(found: StoredManifest) -> None:
    """Raise ObjectMissing unless these are the bytes that the digest names.

    1 to 2 µs for a usual one, so it is done each time that one leaves the database.
    """
    if len(found.body) < _LARGE:
        is_whole = is_named(found.digest, found.body)
    else:
        is_whole = await asyncio.to_thread(is_named, found.digest, found.body)
    if not is_whole:
        log.error("manifest.damaged", digest=found.digest)
        message = "a stored manifest is damaged; push it again to mend it"
        raise ObjectMissing(message, digest=found.digest)


class Objects:
    """The stored objects, as this process knows them. `observe` counts what is read again."""

    def __init__(
        self, database: Database, store: BlobStore, clock: Clock, observe: Observe = ignore
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._observe = observe
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._running: dict[str, asyncio.Task[Found]] = {}
        self._asked: OrderedDict[str, int] = OrderedDict()  # by storage key, the latest last

    async def open(self, blob: LinkedBlob) -> File | Stored:
        """Where the blob's bytes are. Raises ObjectMissing, StorageFailed, Unavailable."""
        if blob.is_damaged and blob.stamp is None:
            raise _damaged(blob)
        try:
            file = self._store.open(await find_segments(self._database, blob))
        except ObjectMissing as error:
            if not blob.is_damaged:
                await self._note_damaged(blob, error.message, stamp=blob.stamp)
            raise
        if isinstance(file, Stored):
            file.suspect = partial(self._start, blob)
        if file.stamp == blob.stamp and not blob.is_damaged:
            return file
        if blob.is_damaged and not self._may_be_back(blob, file):
            raise _damaged(blob)
        found = await self._examine_once(blob)
        if found.stamp != file.stamp:
            message = "a stored object is being changed while it is read; try again"
            raise ObjectMissing(message, digest=blob.digest, key=blob.storage_key)
        return file

    async def read(self, blob: LinkedBlob) -> bytes:
        """All bytes of a small blob. Raises ObjectMissing, StorageFailed, Unavailable."""
        return b"".join([piece async for piece in pieces_of(await self.open(blob))])

    async def examine(
        self, blob: LinkedBlob, pause: Callable[[int], Awaitable[None]] | None = None
    ) -> Found:
        """Read the object again and note how it is.

        `pause` is awaited after each slice, with its bytes. A store that fails proves nothing: then
        nothing is noted. Raises ObjectMissing, StorageFailed, Unavailable.
        """
        digest = Digest.parse(blob.digest)
        try:
            known = await find_segments(self._database, blob)
            found = await self._store.read_back(known, digest.algorithm, pause)
        except ObjectMissing as error:
            await self._note_damaged(blob, error.message, stamp=blob.stamp)
            raise
        self._observe("objects", 1)
        self._observe("bytes", found.size)
        if found.hex != digest.hex:
            await self._note_damaged(blob, "its bytes have another digest", stamp=None)
            raise _damaged(blob)
        now = self._clock.now()
        await self._note(lambda tx: scrub.note_right(tx, blob, stamp=found.stamp, now=now))
        if blob.is_damaged:
            log.info("blob.restored", digest=blob.digest, key=blob.storage_key)
        return found

    def _may_be_back(self, blob: LinkedBlob, file: File | Stored) -> bool:
        """Whether to read a lost object again: not each who asks does so in vain.

        A file's stamp tells. Nothing does in an object store, so it is asked now and then.
        """
        if isinstance(file, File):
            return file.stamp == blob.stamp
        asked = self._asked.get(blob.storage_key)
        is_due = asked is None or abs(self._clock.now() - asked) >= _ASK_AGAIN
        return is_due or blob.storage_key in self._running

    async def _examine_once(self, blob: LinkedBlob) -> Found:
        """Examine for all who ask meanwhile; it outlives each of them."""
        return await asyncio.shield(self._start(blob))

    def _start(self, blob: LinkedBlob) -> "asyncio.Task[Found]":
        task = self._running.get(blob.storage_key)
        if task is None:
            self._note_asked(blob)
            task = self._running[blob.storage_key] = asyncio.create_task(self._in_turn(blob))
            task.add_done_callback(lambda _: self._running.pop(blob.storage_key, None))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _note_asked(self, blob: LinkedBlob) -> None:
        self._asked[blob.storage_key] = self._clock.now()
        self._asked.move_to_end(blob.storage_key)
        if len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)

    async def _in_turn(self, blob: LinkedBlob) -> Found:
        async with self._few:
            log.info("object.changed", digest=blob.digest, key=blob.storage_key, size=blob.size)
            return await self.examine(blob)

    async def _note_damaged(self, blob: LinkedBlob, why: str, *, stamp: int | None) -> None:
        now = self._clock.now()
        is_so = await self._note(lambda tx: scrub.note_damaged(tx, blob, stamp=stamp, now=now))
        if is_so and not blob.is_damaged:
            self._observe("damaged", 1)
            log.error("blob.damaged", digest=blob.digest, key=blob.storage_key, why=why)

    async def _note(self, work: Work[bool]) -> bool:
        """Whether the blob still lives at that key; also when nothing can be written.

        What is noted is seen again: nobody who only pulls may fail for it.
        """
        try:
            return await self._database.write(work, durable=False)
        except (StorageFull, StorageFailed, Unavailable):
            return True


def _damaged(blob: LinkedBlob) -> ObjectMissing:
    message = "a stored blob is damaged; push it again to mend it"
    return ObjectMissing(message, digest=blob.digest, key=blob.storage_key)
