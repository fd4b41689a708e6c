"""Hashing in the background what other processes received of an upload that began here.

An upload that goes from node to node has its digest when it is committed, then, and not only once
all of it was read back. Whoever received its first bytes has the one hash that can go on; if that
process is gone, the commit reads everything.
"""

import asyncio
from contextlib import aclosing

import structlog

from entrepot.blobs.store import BlobStore, Upload
from entrepot.blobs.stored import pieces_of
from entrepot.db import segments, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.errors import EntrepotError
from entrepot.model.stored import UploadSession
from entrepot.services.live_hashes import LiveHashes
from entrepot.services.upload_life import UploadLife
from entrepot.services.upload_segments import read_segments

_LOOK_SECONDS = 1.0

log = structlog.get_logger()


class CatchingUp:
    """For an object store; what comes to a folder is hashed where it comes, or at the end."""

    def __init__(self, database: Database, store: BlobStore, live: LiveHashes) -> None:
        self._database = database
        self._store = store
        self._live = live

    async def sweep(self) -> int:
        """Go on with every hash that is behind its session; how many. Raises Unavailable."""
        known = self._live.sizes()
        if not known:
            return 0
        async with self._database.read() as tx:
            found = await uploads.find_open(tx, known)
        for upload_id in known.keys() - {session.id for session in found}:
            self._live.drop(upload_id)
        count = 0
        for session in found:
            if session.size > known[session.id]:
                count += await self._catch_up(session)
        return count

    async def digest(
        self, upload: Upload, session: UploadSession, life: UploadLife, algorithm: str
    ) -> str:
        """The hex digest of all bytes, from whoever has it first: us, or the one who has hashed on.

        Where nobody has locked the session it is kept alive meanwhile. Raises ObjectMissing,
        StorageFailed, Unavailable.
        """
        if not session.segments:
            return await upload.digest(algorithm, session.size)
        is_known = algorithm == session.algorithm
        if is_known and (ours := await self._go_on(session, life)) is not None:
            return ours
        reading = asyncio.create_task(upload.digest(algorithm, session.size))
        try:
            while not (await asyncio.wait([reading], timeout=_LOOK_SECONDS))[0]:
                await life.go_on()
                if is_known and (noted := await self._noted(session)) is not None:
                    return noted
            return reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _catch_up(self, session: UploadSession) -> bool:
        """Whether the session's row says now what all of its bytes hash to."""
        try:
            current = await read_segments(self._database, session)
            hexadecimal = await self._go_on(current)
        except EntrepotError as error:
            log.warning("upload.unhashed", upload=session.id, error=error.message)
            return False
        if hexadecimal is None:
            return False
        digest = f"{current.algorithm}:{hexadecimal}"

        async def work(tx: Transaction) -> bool:
            last = await segments.find_last(tx, current.storage_key, size=current.size)
            return last == current.segments[-1:] and await uploads.note_digest(
                tx, current.id, size=current.size, digest=digest
            )

        return await self._database.write(work, durable=False)

    async def _go_on(self, session: UploadSession, life: UploadLife | None = None) -> str | None:
        """The hex digest of the session's bytes, if we have the hash of the first ones."""
        behind = self._live.take_behind(session)
        if behind is None:
            return None
        size, running = behind
        content = self._store.open(session.segments)
        async with aclosing(pieces_of(content, size)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(running.update, piece)
                if life is not None:
                    await life.go_on()
        self._live.keep(session, running)
        return running.hexdigest()

    async def _noted(self, session: UploadSession) -> str | None:
        try:
            async with self._database.read() as tx:
                row = await uploads.get(tx, session.id)
        except EntrepotError:  # reading on needs no database
            return None
        if row is None or row.size != session.size or row.digest is None:
            return None
        return row.digest.partition(":")[2]
