"""Leading a fetch: from the upstream into the spool, checked, stored, and told to the database."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from entrepot.blobs.spool import Spool, SpoolFolder
from entrepot.blobs.store import BlobStore
from entrepot.db import fetches, repositories
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Repository
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    EntrepotError,
    StorageFull,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
)
from entrepot.model.upstreams import Source
from entrepot.services.fetch_ends import bury
from entrepot.services.fetch_fill import Filling
from entrepot.services.fetch_progress import Progress
from entrepot.services.holdings import find_lost, hold_blob, keep_object
from entrepot.services.objects import Objects

log = structlog.get_logger()

_PAUSES = (0.0, 0.5, 2.0)  # seconds before each attempt that follows one without a byte
_BEAT_SECONDS = 3.0
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 30
# What a fetch counts for before its bytes have come. Not all that an upstream announces: who sends
# nothing after that would take the room of everybody.
_CLAIMED_BYTES = 1024 * 1024 * 1024


class RemoteBlob(Protocol):
    """A blob as an upstream sends it, from `offset` on; `size` is the whole one's, if known."""

    @property
    def size(self) -> int | None: ...

    @property
    def offset(self) -> int: ...

    @property
    def pieces(self) -> AsyncIterator[bytes]: ...


class Remote(Protocol):
    """What fetches ask of an upstream."""

    @property
    def origin(self) -> str: ...

    async def head_blob(self, path: str, digest: Digest) -> int | None:
        """The blob's size, if the upstream says it. Raises UpstreamError."""

    def blob(
        self, path: str, digest: Digest, offset: int = 0
    ) -> AbstractAsyncContextManager[RemoteBlob]:
        """The blob's bytes. Raises UpstreamError."""


class Remotes(Protocol):
    """The upstreams, each behind its breaker and its budget."""

    def calling(
        self, upstream_id: int, *, transfers: bool = False
    ) -> AbstractAsyncContextManager[Remote]:
        """The upstream, for one call. Raises UpstreamError."""

    def note_bytes(self, upstream_id: int, number: int) -> None:
        """So many bytes came from the upstream."""

    def note_miss(self, upstream_id: int) -> None:
        """Something had to be fetched."""

    def note_coalesced(self, upstream_id: int) -> None:
        """Somebody got what was being fetched for another."""


class Abandoned(UpstreamDown):
    """Nobody waited for the blob: whoever comes as its fetch ends looks again."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Sizes in bytes, times in seconds. `grace` protects a blob that nothing references yet, µs.

    `delay` is how long an object stays that a fetch may have left, in µs.
    `finish_bytes`: a fetch that nobody waits for ends when it has more than these to go.
    """

    grace: int
    delay: int
    finish_bytes: int
    spool_bytes: int
    take_over_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Means:
    """What every fetch of this process works with. `node` is this machine with its data folder."""

    database: Database
    store: BlobStore
    objects: Objects
    spools: SpoolFolder
    remotes: Remotes
    clock: Clock
    limits: FetchLimits
    leader: str
    node: str
    node_url: str


class Leading:
    """One fetch that this process leads. `id` is its row's, and the key of the object to be.

    Not `is_listed`: another node leads as well, and we cannot reach it. What it stores counts, and
    who has no row stores nothing.
    """

    def __init__(
        self,
        means: Means,
        id: str,  # noqa: A002  # the row's
        source: Source,
        digest: Digest,
        holders: Mapping[int, Repository],
        progress: Progress,
        *,
        is_listed: bool = True,
    ) -> None:
        self._means = means
        self._id = id
        self._source = source
        self._digest = digest
        self._holders = holders
        self._progress = progress
        self._is_listed = is_listed
        self._is_announced = False
        self._telling: asyncio.Task[None] | None = None
        self._is_whole = False
        self._is_abandoned = False
        self.may_be_stored = False  # whether the store may have the object, or get it late

    async def run(self, spool: Spool) -> None:
        """Fetch, check and store. Raises UpstreamError, StorageFull, StorageFailed, Unavailable."""
        self._means.remotes.note_miss(self._source.upstream_id)
        fetching = asyncio.current_task()
        watching = asyncio.create_task(self._watch(spool, fetching))
        try:
            await self._fetch(spool)
            self._is_whole = True
            await self._finish(spool)
        except asyncio.CancelledError:
            if self._is_abandoned and fetching is not None:
                fetching.uncancel()
                raise self._abandoned() from None
            raise
        finally:
            watching.cancel()
            if self._telling is not None:
                self._telling.cancel()

    async def _fetch(self, spool: Spool) -> None:
        """Ask until all bytes have come, each time for those that are missing."""
        failures = 0
        while True:
            before = spool.size
            try:
                await self._ask(spool)
            except UpstreamDown as error:
                failures = 0 if spool.size > before else failures + 1
                if failures >= len(_PAUSES) or not self._is_announced:
                    raise
                log.warning(
                    "fetch.interrupted",
                    digest=str(self._digest),
                    upstream=self._source.upstream_id,
                    at=spool.size,
                    error=error.message,
                )
                await asyncio.sleep(_PAUSES[failures])
            else:
                return

    async def _ask(self, spool: Spool) -> None:
        """One request. What is wrong here rather than there is raised when the call is over."""
        upstream_id, size = self._source.upstream_id, self._progress.size
        if size is not None and spool.size == size:
            return
        async with (
            self._means.remotes.calling(upstream_id, transfers=True) as remote,
            remote.blob(self._source.path, self._digest, spool.size) as blob,
        ):
            if blob.size == 0 and not spool.is_right():
                # There is no last byte that could be held back.
                raise self._broken("no bytes")
            refusal = self._announce(spool, blob.size)
            if refusal is None:
                await self._take(blob, spool)
        if refusal is not None:
            raise refusal

    async def _take(self, blob: RemoteBlob, spool: Spool) -> None:
        skip, before = spool.size - blob.offset, spool.size
        try:
            await Filling(spool, self._progress).take(self._bounded(blob, skip, spool))
        finally:
            self._means.remotes.note_bytes(self._source.upstream_id, spool.size - before)
        size = self._progress.size
        if size is not None and spool.size < size:
            message = "the upstream broke off in the middle of a blob; try again"
            raise UpstreamDown(message, digest=str(self._digest), at=spool.size, size=size)
        self._require_right(spool)

    def _announce(self, spool: Spool, size: int | None) -> EntrepotError | None:
        """Tell everybody what the upstream has answered; why we cannot take it, if we cannot."""
        known = self._progress.size
        if self._is_announced:
            if known is not None and size is not None and size != known:
                raise self._broken("another length than before")
            return None
        limit = self._means.limits.spool_bytes
        needed = max(size or 0, spool.size)
        # Before the others are counted: of two that come at once, one sees the other at least.
        spool.expect(min(needed, _CLAIMED_BYTES))
        used = self._means.spools.used_bytes(besides=spool)
        if used + needed > limit:
            message = (
                f"blobs that are being fetched take {used} bytes and this one {size or 'some'},"
                f" of at most {limit}; try again, or have the operator allow more:"
                " ENTREPOT_FETCH__SPOOL_BYTES"
            )
            return UpstreamBusy(message, retry_after=_RETRY_SECONDS)
        try:
            self._means.store.require_space()
            self._means.spools.require_space()  # of this node, wherever the store is
        except StorageFull as error:
            return error
        self._is_announced = True
        self._progress.announce(size)
        self._telling = asyncio.create_task(self._tell(size))  # no reader waits for the row
        return None

    async def _tell(self, size: int | None) -> None:
        try:
            await self._means.database.write(
                lambda tx: fetches.announce(tx, self._id, size), durable=False
            )
        except EntrepotError as error:
            log.warning("fetch.unseen", digest=str(self._digest), error=error.message)

    async def _bounded(self, blob: RemoteBlob, skip: int, spool: Spool) -> AsyncIterator[bytes]:
        """The pieces that are missing, and no more than were announced."""
        size = self._progress.size
        room = (self._means.limits.spool_bytes if size is None else size) - spool.size
        async for piece in blob.pieces:
            missing = piece
            if skip:
                skip, missing = max(0, skip - len(piece)), piece[skip:]
            room -= len(missing)
            if room < 0:
                raise self._broken("more bytes than it announced, or than we take")
            if missing:
                yield missing

    def _require_right(self, spool: Spool) -> None:
        if not spool.is_right():
            raise self._broken("bytes of another digest")

    def _broken(self, what: str) -> UpstreamBroken:
        message = (
            f"the upstream sent {what} for {self._digest}; nothing of it was kept:"
            " ask whoever runs it to check that blob"
        )
        return UpstreamBroken(message, digest=str(self._digest))

    async def _finish(self, spool: Spool) -> None:
        """Only bytes that the digest names get this far."""
        self._require_right(spool)
        spool.seal()
        self._progress.reach(spool.size, is_right=True)
        size = spool.size
        if self._is_listed:
            self.may_be_stored = True
            stamp = await self._means.store.adopt(spool, self._id)
            lost = await find_lost(self._means.database, self._means.store, str(self._digest))
            await self._means.database.write(lambda tx: self._store(tx, size, stamp, lost))
        log.info(
            "blob.fetched", digest=str(self._digest), size=size, upstream=self._source.upstream_id
        )

    async def _store(self, tx: Transaction, size: int, stamp: int, lost: str | None) -> None:
        """Make the object a blob of those who asked."""
        digest, now = str(self._digest), self._means.clock.now()
        due_at = now + self._means.limits.grace
        found: list[Repository] = []
        if await fetches.delete(tx, self._id):
            found = [
                holder
                for id_ in sorted(self._holders)
                if (holder := await repositories.find_by_id(tx, id_)) is not None
            ]
        if not found:
            # Nobody is left who asked, or another leads by now; or we were here before.
            await bury(tx, self._id, digest, due_at=now + self._means.limits.delay)
            return
        await keep_object(
            tx,
            self._means.store,
            digest=digest,
            size=size,
            storage_key=self._id,
            stamp=stamp,
            now=now,
            due_at=due_at,
            lost=lost,
        )
        for holder in found:
            await hold_blob(tx, holder, digest, size, now=now, protected_until=due_at)

    async def _watch(self, spool: Spool, fetching: "asyncio.Task[object] | None") -> None:
        """Show that we live, and end the fetch when nobody wants it and much is missing."""
        loop = asyncio.get_running_loop()
        beaten_at, was_alone = loop.time(), False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if loop.time() - beaten_at >= _BEAT_SECONDS:
                beaten_at = loop.time()
                await self._beat()
            is_alone = self._is_alone(spool)
            if is_alone and was_alone and fetching is not None:
                self._is_abandoned = True
                fetching.cancel()
                # At once: nobody is to begin an answer with what is being ended, in any process.
                self._progress.fail(self._abandoned())
                spool.discard()
                return
            was_alone = is_alone

    def _abandoned(self) -> Abandoned:
        message = "nobody waited for this blob any more; ask for it again"
        return Abandoned(message, digest=str(self._digest))

    async def _beat(self) -> None:
        try:
            await self._means.database.write(lambda tx: fetches.beat(tx, self._id), durable=False)
        except EntrepotError as error:
            log.warning("fetch.unseen", digest=str(self._digest), error=error.message)

    def _is_alone(self, spool: Spool) -> bool:
        if self._is_whole or self._progress.readers or spool.has_readers():
            return False
        size, most = self._progress.size, self._means.limits.finish_bytes
        return self._is_announced and (size is None or size - spool.size > most)
