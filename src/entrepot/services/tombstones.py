"""Deleting objects that nothing points at, once it is certain that nothing ever will again."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from entrepot.blobs.at_once import for_each
from entrepot.blobs.store import BlobStore, BucketStore
from entrepot.db import collection, tombstones
from entrepot.db.database import Database, Transaction
from entrepot.db.tombstones import Tombstone
from entrepot.model.clock import DAY, MINUTE, Clock
from entrepot.model.errors import EntrepotError
from entrepot.model.stored import upload_of
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.upload_segments import remove_segments

OBJECTS = 100  # at most, in one batch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Removed:
    """How many objects went, their bytes, how many the store did not delete; when they were due."""

    objects: int = 0
    size: int = 0
    refused: int = 0
    due: Sequence[int] = ()


class Tombstones:
    """The second level of collection."""

    def __init__(
        self, database: Database, store: BlobStore, clock: Clock, guard: CollectionGuard
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._guard = guard

    async def remove_due(self, limit: int = OBJECTS) -> Removed:
        """Delete up to `limit` objects that are due.

        Between reading the tombstones and the first deletion lies a durable commit: on no disk can
        an object be gone that a row points at after a power loss. An object that the store does
        not delete is tried again. Raises Unavailable, StorageFailed, StorageFull.
        """
        now = self._clock.now()
        async with self._database.read(scan=True) as tx:
            found = await tombstones.find_due(tx, now=now, limit=limit)
        if not found or not await self._guard.begin():
            return Removed()
        errors = await self._remove_objects([t for t in found if not _is_in_segments(t)])
        if self._store.has_segments:
            in_segments = [t for t in found if _is_in_segments(t)]
            errors |= await self._remove_segments(self._store, in_segments)
        for tombstone in found:
            if error := errors.get(tombstone.storage_key):
                log.warning(
                    "object.kept",
                    key=tombstone.storage_key,
                    digest=tombstone.digest,
                    failures=tombstone.failures + 1,
                    error=error,
                )

        async def work(tx: Transaction) -> tuple[int, int]:
            now = self._clock.now()
            gone = [t.storage_key for t in found if t.storage_key not in errors]
            count, size = await tombstones.remove(tx, gone)
            for tombstone in found:
                if error := errors.get(tombstone.storage_key):
                    due_at = now + _pause(tombstone.failures)
                    await tombstones.refuse(tx, tombstone.storage_key, error=error, due_at=due_at)
            if count:
                await collection.count_gone(tx, day=now // DAY, objects=count, bytes_freed=size)
            return count, size

        count, size = await self._database.write(work, durable=False)
        return Removed(count, size, len(errors), [tombstone.due_at for tombstone in found])

    async def _remove_objects(self, found: Sequence[Tombstone]) -> dict[str, str]:
        """Delete objects; what went wrong, by key."""
        errors: dict[str, str] = {}

        def remove(tombstone: Tombstone) -> None:
            try:
                self._store.remove(tombstone.storage_key)
            except EntrepotError as error:
                errors[tombstone.storage_key] = _why(error)

        await for_each(found, remove)
        return errors

    async def _remove_segments(
        self, store: BucketStore, found: Sequence[Tombstone]
    ) -> dict[str, str]:
        """Delete all that uploads left which are blobs no more; what went wrong, by key."""
        errors: dict[str, str] = {}
        for tombstone in found:
            upload_key = upload_of(tombstone.storage_key) or ""
            try:
                await remove_segments(self._database, store, upload_key)
            except EntrepotError as error:
                errors[tombstone.storage_key] = _why(error)
        return errors


def _is_in_segments(tombstone: Tombstone) -> bool:
    return upload_of(tombstone.storage_key) is not None


def _why(error: EntrepotError) -> str:
    return str(error.__cause__ or error.message)


def _pause(failures: int) -> int:
    """How long until the store is asked again, in µs."""
    return min(DAY, MINUTE << min(failures, 11))
