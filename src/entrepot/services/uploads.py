"""Receiving blobs: sessions, chunks and commits.

A session belongs to one repository and one credential. Its bytes are in the store, its size in the
database; one writer at a time has it, from before its first byte until its last write has ended.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from entrepot.blobs.store import BlobStore, Placed, Upload
from entrepot.db import blobs, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Repository
from entrepot.model.clock import DAY, Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    Conflict,
    DigestInvalid,
    EntrepotError,
    ObjectMissing,
    RangeInvalid,
    StorageFailed,
    TooManyRequests,
    UploadUnknown,
)
from entrepot.model.ranges import ByteRange
from entrepot.model.stored import UploadSession
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses
from entrepot.services.holdings import hold_blob, keep_object
from entrepot.services.live_hashes import LiveHashes
from entrepot.services.quotas import judge

# How long a finished session is known: for a repeated PUT, and a manifest behind an expiry.
_REMEMBERED = DAY
_NO_UPLOAD = "no such upload here; start a new one"


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Times in µs. `grace` protects a blob that nothing references yet."""

    expire: int
    grace: int
    open_per_token: int


class UploadBusy(RangeInvalid):
    """Another request writes to the session: try again from where it will end."""


class Uploads:
    """The upload sessions of this registry."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        clock: Clock,
        access: Access,
        addresses: Addresses,
        limits: UploadLimits,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self._limits = limits
        self._live = LiveHashes()

    async def open(self, actor: Actor, address: Address, *, algorithm: str) -> UploadSession:
        """Begin an upload. Raises Denied, Unauthenticated, StorageFull, TooManyRequests."""
        self._store.require_space()
        upload_id, key = str(uuid4()), self._store.new_key()

        async def work(tx: Transaction) -> UploadSession:
            now = self._clock.now()
            where = await self._access.admit(tx, actor, Action.PUSH, address)
            limit = self._limits.open_per_token
            if await uploads.count_open(tx, actor.token_id, limit=limit, now=now) >= limit:
                message = (
                    f"this credential has {limit} uploads open; finish or cancel some, "
                    "abandoned ones end by themselves"
                )
                raise TooManyRequests(message, limit=limit)
            repository = await self._addresses.ensure(tx, actor, address, where, now)
            await uploads.add(
                tx,
                id=upload_id,
                repository_id=repository.id,
                token_id=actor.token_id,
                algorithm=algorithm,
                storage_key=key,
                now=now,
                expires_at=now + self._limits.expire,
            )
            return UploadSession(upload_id, repository.id, algorithm, key, 0, None, None, now, None)

        return await self._database.write(work, durable=False)

    async def find(
        self, actor: Actor, repository: Repository, upload_id: str, *, opened_before: int
    ) -> UploadSession:
        """The session, if it is this repository's and this credential's. Raises UploadUnknown."""
        async with self._database.read() as tx:
            session = await uploads.find(
                tx,
                upload_id,
                repository_id=repository.id,
                token_id=actor.token_id,
                opened_before=opened_before,
                now=self._clock.now(),
            )
        if session is None:
            raise UploadUnknown(_NO_UPLOAD, upload=upload_id[:64])
        return session

    async def append(
        self, session: UploadSession, pieces: AsyncIterator[bytes], chunk: ByteRange | None
    ) -> UploadSession:
        """Add bytes; the session as it is then.

        `chunk` is where the client says they belong. When the body breaks off, what came counts and
        the reason is raised. Raises RangeInvalid (with what we have), UploadBusy, UploadUnknown,
        SizeInvalid, StorageFull, StorageFailed, and what ended the body.
        """
        async with self._locked(session) as (upload, current):
            require_next(current, chunk)
            after, stopped = await self._receive(upload, current, pieces)
            if stopped is not None:
                raise stopped
            require_length(current, after, chunk)
            return after

    async def commit(
        self,
        actor: Actor,
        address: Address,
        session: UploadSession,
        digest: Digest,
        pieces: AsyncIterator[bytes],
        chunk: ByteRange | None,
    ) -> list[str]:
        """Add the last bytes, check the digest, and make the blob part of the repository, durably.

        What to warn of. Raises DigestInvalid, Denied, and what `append` raises.
        """
        if session.committed_at is not None:
            await self._require_committed(session, digest)
            return []
        async with self._locked(session) as (upload, current):
            require_next(current, chunk)
            after, stopped = await self._receive(upload, current, pieces)
            if stopped is not None:
                raise stopped
            require_length(current, after, chunk)
            await self._require_digest(upload, after, digest)
            async with self._distrusting(upload, after):
                placed = await upload.commit()
            warnings = await self._database.write(
                lambda tx: self._link(tx, actor, address, after, str(digest), placed)
            )
            self._live.drop(after.id)
            return warnings

    async def _require_committed(self, session: UploadSession, digest: Digest) -> None:
        """A client that did not hear our 201 asks again. Raises UploadUnknown."""
        if session.digest == str(digest):
            async with self._database.read() as tx:
                blob = await blobs.find(tx, session.repository_id, str(digest))
            if blob is not None and not blob.is_damaged:
                return
        raise UploadUnknown(_NO_UPLOAD, upload=session.id)

    async def _link(
        self,
        tx: Transaction,
        actor: Actor,
        address: Address,
        session: UploadSession,
        digest: str,
        placed: Placed,
    ) -> list[str]:
        """The row that a 201 stands for; only now may anything point at the bytes."""
        now = self._clock.now()
        protected_until = now + self._limits.grace
        repository = await self._access.admit(tx, actor, Action.PUSH, address)
        if not isinstance(repository, Repository) or repository.id != session.repository_id:
            raise UploadUnknown(_NO_UPLOAD, upload=session.id)
        await keep_object(
            tx,
            self._store,
            digest=digest,
            size=session.size,
            storage_key=placed.key,
            stamp=placed.stamp,
            now=now,
            due_at=protected_until,
        )
        grew = await hold_blob(
            tx, repository, digest, session.size, now=now, protected_until=protected_until
        )
        if not await uploads.commit(
            tx,
            session.id,
            digest=digest,
            size=session.size,
            now=now,
            expires_at=now + _REMEMBERED,
        ):
            raise UploadUnknown(_NO_UPLOAD, upload=session.id)
        return await judge(tx, repository, grew=grew)

    async def cancel(self, session: UploadSession) -> None:
        """End a session and forget its bytes. Raises UploadUnknown, UploadBusy."""
        async with self._locked(session) as (upload, _):
            await self._forget(upload, session)

    async def sweep(self, *, limit: int = 1_000) -> int:
        """Remove sessions that were abandoned, and what a crash left of them; how many."""
        async with self._database.read(scan=True) as tx:
            old = await uploads.expired(tx, now=self._clock.now(), limit=limit)
        for session in old:
            if session.committed_at is not None:
                await self._delete_row(session.id)
                continue
            upload = self._store.upload(session.storage_key)
            try:
                upload.open(is_new=True)
                if await self._is_expired(session):
                    await self._forget(upload, session)
            except Conflict:
                continue  # a writer has it: it is alive after all
            finally:
                await upload.close()
        return len(old)

    async def _is_expired(self, session: UploadSession) -> bool:
        """Whether it still is, under the lock: a writer may just have ended."""
        async with self._database.read() as tx:
            return await uploads.is_expired(tx, session.id, now=self._clock.now())

    async def sweep_strays(self) -> int:
        """Remove upload files that no session knows, once they are old; how many.

        Their rows were lost with the power: sessions are committed without waiting for the disk.
        """
        moment = (self._clock.now() - self._limits.expire) / 1_000_000
        strays = 0
        for key in self._store.staged_before(moment):
            async with self._database.read(scan=True) as tx:
                if await uploads.is_known(tx, key):
                    continue
            upload = self._store.upload(key)
            try:
                upload.open(is_new=True)
                await upload.discard()
                strays += 1
            except Conflict:
                continue
            finally:
                await upload.close()
        return strays

    async def count_open(self) -> int:
        """How many sessions are open now."""
        async with self._database.read(scan=True) as tx:
            return await uploads.count_all_open(tx)

    @asynccontextmanager
    async def _locked(self, session: UploadSession) -> AsyncIterator[tuple[Upload, UploadSession]]:
        """Be the session's one writer; what was read before the lock is read again."""
        upload = self._store.upload(session.storage_key)
        try:
            try:
                upload.open(is_new=session.size == 0)
                locked = await self._current(session)
                upload.resume(locked.size, locked.segments)
            except Conflict as error:
                message = "another request writes to this upload; ask for its status, then go on"
                raise UploadBusy(message, size=session.size) from error
            except ObjectMissing as error:
                raise UploadUnknown(_NO_UPLOAD, upload=session.id) from error
            except UploadUnknown:
                await upload.discard()  # it ended before we had the lock; make no new file of it
                raise
            yield upload, locked
        finally:
            await upload.close()

    async def _current(self, session: UploadSession) -> UploadSession:
        async with self._database.read() as tx:
            current = await uploads.get(tx, session.id)
        if current is None or current.committed_at is not None:
            raise UploadUnknown(_NO_UPLOAD, upload=session.id)
        return current

    @asynccontextmanager
    async def _distrusting(self, upload: Upload, session: UploadSession) -> AsyncIterator[None]:
        """End the session when the disk fails under it.

        The kernel reports a failed sync once; nothing written before can be trusted again. Only the
        store's failures count: after a failed COMMIT nobody knows whether a row points at the
        bytes.
        """
        try:
            yield
        except StorageFailed:
            await self._forget(upload, session)
            raise

    async def _forget(self, upload: Upload, session: UploadSession) -> None:
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

    async def _delete_row(self, upload_id: str) -> None:
        await self._database.write(lambda tx: uploads.delete(tx, upload_id), durable=False)

    async def _receive(
        self, upload: Upload, session: UploadSession, pieces: AsyncIterator[bytes]
    ) -> tuple[UploadSession, EntrepotError | None]:
        """Write what comes and note it; what stopped it, if anything did."""
        running = self._live.take(session)
        async with self._distrusting(upload, session):
            size, stopped = await upload.append(
                pieces, session.size, [running] if running is not None else []
            )
        if size == session.size:
            if running is not None:
                self._live.keep(session.id, size, running)
            return session, stopped
        digest = f"{session.algorithm}:{running.hexdigest()}" if running is not None else None
        after = replace(session, size=size, digest=digest, boot_id=self._store.boot_id)
        expires_at = self._clock.now() + self._limits.expire
        if not await self._database.write(
            lambda tx: uploads.advance(
                tx,
                session.id,
                size_before=session.size,
                size=size,
                digest=digest,
                boot_id=self._store.boot_id,
                expires_at=expires_at,
            ),
            durable=False,
        ):
            await upload.discard()
            raise UploadUnknown(_NO_UPLOAD, upload=session.id)
        if running is not None:
            self._live.keep(session.id, size, running)
        return after, stopped

    async def _require_digest(self, upload: Upload, session: UploadSession, digest: Digest) -> None:
        """The one place where a pushed blob's digest is checked. Raises DigestInvalid.

        The row's digest counts while the machine has not started anew since: the bytes it speaks of
        are then in the file, though perhaps not yet on the disk, and `commit` syncs them.
        """
        known = session.digest if session.boot_id == self._store.boot_id else None
        if known is None or known.partition(":")[0] != digest.algorithm:
            known = f"{digest.algorithm}:{await upload.digest(digest.algorithm, session.size)}"
        if known != str(digest):
            message = f"the {session.size} bytes sent have the digest {known}"
            raise DigestInvalid(message, digest=str(digest))


def require_next(session: UploadSession, chunk: ByteRange | None) -> None:
    """A chunk begins where the upload ends. Raises RangeInvalid."""
    if chunk is not None and chunk.start != session.size:
        message = f"the next chunk begins at {session.size}"
        raise RangeInvalid(message, size=session.size)


def require_length(before: UploadSession, after: UploadSession, chunk: ByteRange | None) -> None:
    """A chunk is as long as it says. Raises RangeInvalid, with what we have now."""
    if chunk is not None and after.size - before.size != chunk.length:
        message = f"Content-Range and the body's length differ; we have {after.size} bytes"
        raise RangeInvalid(message, size=after.size)
