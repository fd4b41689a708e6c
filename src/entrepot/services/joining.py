"""Joining: a blob that is still the segments of its upload becomes one object.

Until then each pull of it takes one more statement and comes from the store through us. One process
at a time joins. That saves work and no more: each attempt writes an object of its own, and the
blob's row says which counts.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass

import structlog

from entrepot.blobs.store import BlobStore, Placed, Upload
from entrepot.blobs.stored import pieces_of
from entrepot.db import blobs, installation, segments, tombstones
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import HOUR, MINUTE, SECOND, Clock
from entrepot.model.digests import Digest, new_hash
from entrepot.model.errors import Conflict, EntrepotError, ObjectMissing
from entrepot.model.stored import LinkedBlob, upload_of
from entrepot.services.objects import Objects, find_segments
from entrepot.telemetry.observe import Observe, ignore

_LEASE = "segments.join"
_FREE = "0"
_LEASE_TIME = 2 * MINUTE
_RENEWED_AT = 90 * SECOND  # that are left of it
_PAGE = 100
# More would need parts so large that they fill the memory on their way.
_MOST_BYTES = 128 * 1024**3

log = structlog.get_logger()


class LeaseLost(Conflict):
    """Another process joins."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """How often a blob could not be joined, and when that is tried again, in µs."""

    failures: int
    until: int


class Joining:
    """Joins what is in segments. `delay` is how long these stay for pulls in progress, in µs."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        objects: Objects,
        clock: Clock,
        *,
        delay: int,
        observe: Observe = ignore,
    ) -> None:
        self._database = database
        self._store = store
        self._objects = objects
        self._clock = clock
        self._delay = delay
        self._observe = observe
        self._lease = ""
        self._waits: dict[str, _Wait] = {}  # by storage key: a digest may come again

    async def sweep(self) -> int:
        """Join what there is, unless somebody does; how many blobs.

        Raises Unavailable, StorageFailed, LeaseLost.
        """
        if not await self._claim():
            return 0
        count, after, seen = 0, "", set[str]()
        try:
            while found := await self._page(after):
                for blob in found:
                    await self._renew_if_due()
                    if self._is_due(blob):
                        count += await self._join_if_right(blob)
                seen.update(blob.storage_key for blob in found)
                after = found[-1].digest
        finally:
            await self._replace(self._lease, _FREE)
        self._waits = {key: wait for key, wait in self._waits.items() if key in seen}
        return count

    async def count_unjoined(self) -> int:
        """How many blobs wait to be joined; not those that are too large or damaged."""
        async with self._database.read(scan=True) as tx:
            return await segments.count_unjoined(tx, most=_MOST_BYTES)

    async def _page(self, after: str) -> list[LinkedBlob]:
        async with self._database.read(scan=True) as tx:
            return await segments.find_unjoined(tx, after=after, most=_MOST_BYTES, limit=_PAGE)

    def _is_due(self, blob: LinkedBlob) -> bool:
        wait = self._waits.get(blob.storage_key)
        return wait is None or wait.until <= self._clock.now()

    async def _join_if_right(self, blob: LinkedBlob) -> bool:
        """Join one; what is damaged is noted, and what the store cannot do waits."""
        try:
            return await self._join(blob)
        except LeaseLost:
            raise
        except ObjectMissing:
            await self._examine(blob)
        except EntrepotError as error:
            self._observe("failures", 1)
            log.warning("blob.unjoined", digest=blob.digest, error=error.message)
        self._put_off(blob)
        return False

    def _put_off(self, blob: LinkedBlob) -> None:
        """Longer each time: each attempt may read the whole blob and send it."""
        before = self._waits.get(blob.storage_key)
        failures = before.failures + 1 if before else 1
        pause = min(HOUR, MINUTE << min(failures, 6))
        self._waits[blob.storage_key] = _Wait(failures, self._clock.now() + pause)

    async def _examine(self, blob: LinkedBlob) -> None:
        """Have it looked at as scrub does, which says so if it is damaged, and not just deleted."""
        try:
            await self._objects.examine(blob)
        except ObjectMissing:
            return
        except EntrepotError as error:
            log.warning("blob.unjoined", digest=blob.digest, error=error.message)

    async def _join(self, blob: LinkedBlob) -> bool:
        """Whether the blob is one object now. Raises ObjectMissing where it is damaged or gone."""
        upload = self._store.upload(upload_of(blob.storage_key) or "")
        try:
            placed = await self._copy(blob, upload)
            is_moved = await self._database.write(lambda tx: self._move(tx, blob, placed))
            if not is_moved:
                await upload.discard()
                return False
        finally:
            await upload.close()
        self._observe("blobs", 1)
        self._observe("bytes", blob.size)
        log.info("blob.joined", digest=blob.digest, size=blob.size)
        return True

    async def _copy(self, blob: LinkedBlob, upload: Upload) -> Placed:
        """Make one object of the segments, if they are right. Raises ObjectMissing."""
        content = self._store.open(await find_segments(self._database, blob))
        try:
            async with aclosing(pieces_of(content)) as pieces:
                await self._send(blob, pieces, upload)
            return await upload.commit()
        except BaseException:
            with suppress(EntrepotError):  # the segments' tombstone removes what is left
                await upload.discard()
            raise

    async def _send(self, blob: LinkedBlob, pieces: AsyncIterator[bytes], upload: Upload) -> None:
        digest = Digest.parse(blob.digest)
        running = new_hash(digest.algorithm)
        upload.open(is_new=True)
        upload.resume(0, ())
        size, stopped = await upload.append(self._renewing(pieces), 0, [running], blob.size)
        if stopped is not None:
            raise stopped
        if size != blob.size or running.hexdigest() != digest.hex:
            message = "the segments of a blob have another digest"
            raise ObjectMissing(message, digest=blob.digest, key=blob.storage_key)

    async def _move(self, tx: Transaction, blob: LinkedBlob, placed: Placed) -> bool:
        """Let the blob live there, and its segments go; False when it left them meanwhile."""
        if not await blobs.move(tx, blob, storage_key=placed.key, stamp=placed.stamp):
            return False
        due_at = self._clock.now() + self._delay
        await tombstones.bury(
            tx, storage_key=blob.storage_key, digest=blob.digest, size=blob.size, due_at=due_at
        )
        return True

    async def _renewing(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """All bytes, for as long as nobody else joins. Raises LeaseLost."""
        async for piece in pieces:
            await self._renew_if_due()
            yield piece

    async def _claim(self) -> bool:
        """Whether we are the one who joins."""
        mine = self._new_lease()

        async def work(tx: Transaction) -> bool:
            seen = await installation.keep(tx, _LEASE, _FREE)
            if _until(seen) > self._clock.now():
                return False
            return await installation.replace(tx, _LEASE, seen, mine)

        self._lease = mine
        return await self._database.write(work, durable=False)

    async def _renew_if_due(self) -> None:
        """Keep the lease while we work. Raises LeaseLost."""
        if _until(self._lease) - self._clock.now() < _RENEWED_AT:
            await self._renew()

    async def _renew(self) -> None:
        """Raises LeaseLost when somebody took us for dead."""
        before, after = self._lease, self._new_lease()
        if not await self._replace(before, after):
            raise LeaseLost("another process joins by now")
        self._lease = after

    async def _replace(self, before: str, after: str) -> bool:
        return await self._database.write(
            lambda tx: installation.replace(tx, _LEASE, before, after), durable=False
        )

    def _new_lease(self) -> str:
        """Until when it is ours, and a word that no other has."""
        return f"{self._clock.now() + _LEASE_TIME} {secrets.token_hex(8)}"


def _until(lease: str) -> int:
    return int(lease.partition(" ")[0])
