"""Whether database and store are of one time: collection stops when one was restored alone.

A database from an older backup knows nothing of what was pushed since, and tombstones in it may
name objects that live again. So both keep one number, the epoch: it grows in the database, durably,
then in the store, and only then an object goes. Neither can be one behind the other by more than
that one step, unless somebody put an older one in its place.
"""

import asyncio

from entrepot.blobs.store import BlobStore
from entrepot.db import installation
from entrepot.db.database import Database, Transaction

EPOCH = "collection.epoch"
_ATTEMPTS = 5  # other collectors may be faster a few times


class CollectionGuard:
    """Compares, and counts on."""

    def __init__(self, database: Database, store: BlobStore) -> None:
        self._database = database
        self._store = store

    async def why_stopped(self) -> str | None:
        """Why nothing may be collected; None where all is well. Raises Unavailable, StorageFailed.

        The store is read on both sides of the database: another node may count on meanwhile.
        """
        before = await asyncio.to_thread(self._store.read_epoch)
        async with self._database.read() as tx:
            known = await _epoch(tx)
        after = await asyncio.to_thread(self._store.read_epoch)
        if known < before:
            return _stopped("the database is older than the store", known, before)
        if known > after + 1:
            return _stopped("the store is older than the database", known, after)
        return None

    async def begin(self) -> bool:
        """Count on before objects are deleted; False when that must not happen now.

        When this returns all that was committed before it is durable.
        """
        for _ in range(_ATTEMPTS):
            if await self.why_stopped() is not None:
                return False
            async with self._database.read() as tx:
                known = await _epoch(tx)
            await asyncio.to_thread(self._store.advance_epoch, known)  # a crash came in between
            if await self._database.write(lambda tx, known=known: _advance(tx, known)):  # type: ignore[misc]  # a default that binds
                await asyncio.to_thread(self._store.advance_epoch, known + 1)
                return True
        return False

    async def accept(self) -> None:
        """Let both be of one time from now on: somebody has compared them row by row."""
        stored = await asyncio.to_thread(self._store.read_epoch)
        async with self._database.read() as tx:
            value = max(stored, await _epoch(tx)) + 1

        async def work(tx: Transaction) -> None:
            if await _epoch(tx) < value:  # else a collector has counted on, or it is done
                await installation.put(tx, EPOCH, str(value))

        await self._database.write(work)
        await asyncio.to_thread(self._store.advance_epoch, value)


async def _advance(tx: Transaction, known: int) -> bool:
    await installation.keep(tx, EPOCH, "0")
    return await installation.replace(tx, EPOCH, str(known), str(known + 1))


async def _epoch(tx: Transaction) -> int:
    return int(await installation.find(tx, EPOCH) or 0)


def _stopped(what: str, known: int, stored: int) -> str:
    return (
        f"{what} (epoch {known} in the database, {stored} in the store), as after restoring one"
        " of them from a backup; run `entrepot admin fsck`"
    )
