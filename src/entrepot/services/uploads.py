"""Receiving blobs: sessions, chunks and commits.

A session belongs to one repository and one credential. Its bytes are in the store, its size in the
database. In a folder one writer at a time has it, from before its first byte until its last write
has ended; in an object store each writes objects of its own, and the row says whose count.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from uuid import uuid4

import structlog

from entrepot.blobs.store import BlobStore, Placed, Upload
from entrepot.db import segments, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Repository
from entrepot.model.clock import DAY, Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    Conflict,
    EntrepotError,
    ObjectMissing,
    TooManyRequests,
    UploadUnknown,
)
from entrepot.model.ranges import ByteRange
from entrepot.model.stored import UploadSession, upload_of
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses
from entrepot.services.catching_up import CatchingUp
from entrepot.services.holdings import find_lost, hold_blob, keep_object
from entrepot.services.live_hashes import LiveHashes
from entrepot.services.quotas import judge
from entrepot.services.staged_uploads import StagedUploads
from entrepot.services.upload_checks import (
    BUSY,
    NO_UPLOAD,
    UploadBusy,
    refuse_changed,
    require_committed,
    require_digest,
    require_length,
    require_next,
    within_limit,
)
from entrepot.services.upload_files import UploadFiles
from entrepot.services.upload_life import UploadLife
from entrepot.services.upload_segments import UploadSegments

# How long a finished session is known: for a repeated PUT, and a manifest behind an expiry.
_REMEMBERED = DAY

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Times in µs. `grace` protects a blob that nothing references yet."""

    expire: int
    grace: int
    open_per_token: int


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
        self._catching_up = CatchingUp(database, store, self._live)
        self._staged: StagedUploads
        if store.has_segments:
            self._staged = UploadSegments(database, store, clock, self._live, expire=limits.expire)
        else:
            self._staged = UploadFiles(database, store, clock, self._live, expire=limits.expire)

    async def open(self, actor: Actor, address: Address, *, algorithm: str) -> UploadSession:
        """Begin an upload. Raises Denied, Unauthenticated, StorageFull, TooManyRequests."""
        self._store.require_space()
        upload_id, key, now = str(uuid4()), self._store.new_key(), self._clock.now()
        expires_at = now + self._limits.expire

        async def work(tx: Transaction) -> UploadSession:
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
                expires_at=expires_at,
            )
            return UploadSession(
                upload_id, repository.id, algorithm, key, 0, None, None, now, expires_at, None
            )

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
            raise UploadUnknown(NO_UPLOAD, upload=upload_id[:64])
        return session

    async def append(
        self,
        session: UploadSession,
        pieces: AsyncIterator[bytes],
        chunk: ByteRange | None,
        length: int | None = None,
    ) -> UploadSession:
        """Add bytes; the session as it is then.

        `chunk` is where the client says they belong, `length` how many it has announced. When the
        body breaks off, what came counts and the reason is raised. Raises RangeInvalid (with what
        we have), UploadBusy, UploadInvalid, UploadUnknown, SizeInvalid, StorageFull, StorageFailed,
        and what ended the body.
        """
        async with self._locked(session, self._staged.read_end) as (upload, current):
            return await self._receive(upload, current, pieces, chunk, length)

    async def commit(
        self,
        actor: Actor,
        address: Address,
        session: UploadSession,
        digest: Digest,
        pieces: AsyncIterator[bytes],
        chunk: ByteRange | None,
        length: int | None = None,
    ) -> list[str]:
        """Add the last bytes, check the digest, and make the blob part of the repository, durably.

        What to warn of. Raises DigestInvalid, Denied, and what `append` raises.
        """
        if session.committed_at is None:
            try:
                return await self._commit(actor, address, session, digest, pieces, chunk, length)
            except UploadUnknown:
                # A client that asks again meets its first request here, when that has just ended.
                async with self._database.read() as tx:
                    session = await uploads.get(tx, session.id) or session
        await require_committed(self._database, session, digest)
        return []

    async def _commit(
        self,
        actor: Actor,
        address: Address,
        session: UploadSession,
        digest: Digest,
        pieces: AsyncIterator[bytes],
        chunk: ByteRange | None,
        length: int | None,
    ) -> list[str]:
        async with self._locked(session, self._staged.read_all) as (upload, current):
            after = await self._receive(upload, current, pieces, chunk, length)
            life = self._life(after)
            await life.go_on()
            read_back = partial(self._catching_up.digest, upload, after, life)
            await require_digest(after, digest, boot_id=self._store.boot_id, read_back=read_back)
            async with self._seeing_to_failure(upload, after):
                placed = await upload.commit()
            lost = await find_lost(self._database, self._store, str(digest))
            warnings = await self._database.write(
                lambda tx: self._link(tx, actor, address, after, str(digest), placed, lost)
            )
            self._live.drop(after.id)
            return warnings

    async def _link(
        self,
        tx: Transaction,
        actor: Actor,
        address: Address,
        session: UploadSession,
        digest: str,
        placed: Placed,
        lost: str | None,
    ) -> list[str]:
        """The row that a 201 stands for; only now may anything point at the bytes."""
        now = self._clock.now()
        protected_until = now + self._limits.grace
        repository = await self._access.admit(tx, actor, Action.PUSH, address)
        if not isinstance(repository, Repository) or repository.id != session.repository_id:
            raise UploadUnknown(NO_UPLOAD, upload=session.id)
        if not await uploads.commit(
            tx,
            session.id,
            digest=digest,
            size=session.size,
            now=now,
            expires_at=now + _REMEMBERED,
        ):
            # Somebody, perhaps we, has committed the session before, or has added to it.
            await refuse_changed(tx, session, besides=digest)
            return []
        await keep_object(
            tx,
            self._store,
            digest=digest,
            size=session.size,
            storage_key=placed.key,
            stamp=placed.stamp,
            now=now,
            due_at=protected_until,
            lost=lost,
        )
        grew = await hold_blob(
            tx, repository, digest, session.size, now=now, protected_until=protected_until
        )
        if session.segments and upload_of(placed.key) is None:
            await segments.delete(tx, session.storage_key)
        return await judge(tx, repository, grew=grew)

    async def cancel(self, session: UploadSession) -> None:
        """End a session and forget its bytes. Raises UploadUnknown, UploadBusy."""
        async with self._locked(session, self._staged.read_end) as (upload, current):
            await self._staged.cancel(upload, current)

    async def catch_up(self) -> int:
        """Hash what other processes received of uploads that began here; how many these are."""
        return await self._catching_up.sweep()

    async def sweep(self, *, limit: int = 1_000) -> int:
        """Remove sessions that were abandoned, and what a crash left of them; how many.

        One that cannot be removed is tried again in the next round.
        """
        async with self._database.read(scan=True) as tx:
            old = await uploads.expired(tx, now=self._clock.now(), limit=limit)
        kept = 0
        for session in old:
            end = self._staged.expire if session.committed_at is None else self._staged.forget
            try:
                await end(session)
            except EntrepotError as error:
                kept += 1
                what = {"upload": session.id, "error": error.message}
                log.warning("upload.kept", **error.values | what)
        return len(old) - kept

    async def sweep_strays(self) -> int:
        """Remove what no session knows, once it is old; how many."""
        return await self._staged.sweep_strays()

    async def count_open(self) -> int:
        """How many sessions are open now."""
        async with self._database.read(scan=True) as tx:
            return await uploads.count_all_open(tx)

    @asynccontextmanager
    async def _locked(
        self, session: UploadSession, read: Callable[[UploadSession], Awaitable[UploadSession]]
    ) -> AsyncIterator[tuple[Upload, UploadSession]]:
        """Be the session's one writer; what was read before the lock is read again."""
        upload = self._store.upload(session.storage_key)
        try:
            try:
                upload.open(is_new=session.size == 0)
                locked = await read(session)
                upload.resume(locked.size, locked.segments)
            except Conflict as error:
                raise UploadBusy(BUSY, size=session.size) from error
            except ObjectMissing as error:
                raise UploadUnknown(NO_UPLOAD, upload=session.id) from error
            except UploadUnknown:
                await upload.discard()  # it ended before we had the lock; make no new file of it
                raise
            yield upload, locked
        finally:
            await upload.close()

    @asynccontextmanager
    async def _seeing_to_failure(
        self, upload: Upload, session: UploadSession
    ) -> AsyncIterator[None]:
        try:
            yield
        except EntrepotError as error:
            await self._staged.after_failure(upload, session, error)
            raise

    async def _receive(
        self,
        upload: Upload,
        session: UploadSession,
        pieces: AsyncIterator[bytes],
        chunk: ByteRange | None,
        length: int | None,
    ) -> UploadSession:
        """Write what comes, where it belongs, and note it. Raises what `append` raises."""
        require_next(session, chunk)
        running = self._live.take(session)
        hashes = [running] if running is not None else []
        async with self._seeing_to_failure(upload, session):
            arriving = self._life(session).through(within_limit(session, pieces))
            size, stopped = await upload.append(arriving, session.size, hashes, length)
        after = session
        if size > session.size:
            digest = f"{session.algorithm}:{running.hexdigest()}" if running is not None else None
            after = replace(
                session,
                size=size,
                digest=digest,
                boot_id=self._store.boot_id,
                segment_count=session.segment_count + len(upload.added),
                segments=(*session.segments, *upload.added),
            )
            await self._note(upload, session, after)
        if running is not None:
            self._live.keep(after, running)
        if stopped is not None:
            raise stopped
        require_length(session, after, chunk)
        return after

    def _life(self, session: UploadSession) -> UploadLife:
        return UploadLife(self._database, self._clock, session, expire=self._limits.expire)

    async def _note(self, upload: Upload, before: UploadSession, after: UploadSession) -> None:
        """Acknowledge bytes, if nobody was faster. Raises UploadBusy, UploadUnknown."""
        expires_at = self._clock.now() + self._limits.expire

        async def work(tx: Transaction) -> None:
            if upload.added:
                # A database that fell back may have other bytes of the same size by now.
                last = await segments.find_last(tx, before.storage_key, size=before.size)
                if last != before.segments[-1:]:
                    await refuse_changed(tx, before)
            is_ours = await uploads.advance(
                tx,
                before.id,
                size_before=before.size,
                size=after.size,
                digest=after.digest,
                boot_id=self._store.boot_id,
                segment_count=after.segment_count,
                expires_at=expires_at,
            )
            if not is_ours or not await segments.add(tx, before.storage_key, upload.added):
                await refuse_changed(tx, before)

        try:
            await self._database.write(work, durable=False)
        except (UploadUnknown, UploadBusy) as error:
            with suppress(EntrepotError):  # its session's end removes what is left
                await upload.discard()
            await self._staged.after_failure(upload, before, error)
            raise
