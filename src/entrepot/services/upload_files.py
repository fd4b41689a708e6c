"""What becomes of uploads that are files of a folder: each has one writer, who holds its lock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from entrepot.blobs.store import FolderStore, Upload
from entrepot.db import blobs, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import Clock
from entrepot.model.errors import Conflict, EntrepotError, StorageFailed
from entrepot.model.stored import UploadSession
from entrepot.services.live_hashes import LiveHashes
from entrepot.services.upload_checks import read_open

log = structlog.get_logger()


class UploadFiles:
    """How they are found and how they end. `expire` is when they are abandoned, in µs."""

    def __init__(
        self, database: Database, store: FolderStore, clock: Clock, live: LiveHashes, *, expire: int
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._live = live
        self._expire = expire

    async def read_end(self, session: UploadSession) -> UploadSession:
        """The session as it is by now. Raises UploadUnknown when it has ended."""
        async with self._database.read() as tx:
            return await read_open(tx, session)

    async def read_all(self, session: UploadSession) -> UploadSession:
        """The same: its file is all that it has."""
        return await self.read_end(session)

    async def cancel(self, upload: Upload, session: UploadSession) -> None:
        """Remove a session and its bytes, unless they became a blob. The caller holds the lock.

        A commit that nobody waits for any more may still arrive. So the row goes first, and in one
        transaction with the question: without the row such a commit fails.
        """
        await upload.discard()

        async def work(tx: Transaction) -> bool:
            await uploads.delete(tx, session.id)
            return await blobs.is_key_known(tx, session.storage_key)

        if not await self._database.write(work, durable=False):
            self._store.remove(session.storage_key)
        self._live.drop(session.id)

    async def after_failure(
        self, upload: Upload, session: UploadSession, error: EntrepotError
    ) -> None:
        """End a session whose disk has failed under it.

        The kernel reports a failed sync once; nothing written before can be trusted again. Only the
        store's failures count: after a failed COMMIT nobody knows whether a row points at the
        bytes.
        """
        if isinstance(error, StorageFailed):
            await self.cancel(upload, session)

    async def expire(self, session: UploadSession) -> None:
        """End a session that is past its time, unless somebody goes on with it just now."""
        async with self._locked(session.storage_key) as upload:
            if upload is not None and await self._is_expired(session):
                await self.cancel(upload, session)

    async def forget(self, session: UploadSession) -> None:
        """Remove the row of a session that became a blob."""
        await self._database.write(lambda tx: uploads.delete(tx, session.id), durable=False)

    async def sweep_strays(self) -> int:
        """Remove old files that no session knows; how many.

        Their rows were lost with the power: sessions are committed without waiting for the disk. Or
        their repository went. One that cannot be removed is tried again in the next round. Raises
        Unavailable.
        """
        moment = (self._clock.now() - self._expire) / 1_000_000
        strays = 0
        for key in self._store.staged_before(moment):
            async with self._database.read(scan=True) as tx:
                if await uploads.is_known(tx, key):
                    continue
            try:
                strays += await self._remove_stray(key)
            except EntrepotError as error:
                what = {"key": key, "error": error.message}
                log.warning("upload.kept", **error.values | what)
        return strays

    async def _remove_stray(self, key: str) -> bool:
        async with self._locked(key) as upload:
            if upload is None:
                return False
            await upload.discard()
            return True

    @asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[Upload | None]:
        """The upload; None while a writer has it: it is alive after all."""
        upload = self._store.upload(key)
        try:
            is_ours = True
            try:
                upload.open(is_new=True)
            except Conflict:
                is_ours = False
            yield upload if is_ours else None
        finally:
            await upload.close()

    async def _is_expired(self, session: UploadSession) -> bool:
        """Whether it still is, under the lock: a writer may just have ended."""
        async with self._database.read() as tx:
            return await uploads.is_expired(tx, session.id, now=self._clock.now())
