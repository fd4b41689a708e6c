"""Following a fetch that another node leads: what that has comes into a spool of this node."""

import asyncio
from contextlib import aclosing

import structlog

from entrepot.blobs.spool import Spool
from entrepot.blobs.stored import pieces_of
from entrepot.db import blobs, upstreams
from entrepot.db.fetches import FetchRow
from entrepot.model.access import Repository
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    NotFound,
    ObjectMissing,
    UpstreamBroken,
    UpstreamDown,
    UpstreamError,
)
from entrepot.model.stored import LinkedBlob
from entrepot.services.fetch_fill import Filling
from entrepot.services.fetch_holders import Holders, source_of
from entrepot.services.fetch_lead import Means
from entrepot.services.fetch_progress import Progress
from entrepot.services.fetch_relay import Relays
from entrepot.services.fetch_tail import Tailing
from entrepot.services.fetch_watch import Left, Watch

log = structlog.get_logger()

_AGAIN_SECONDS = 0.5
_ROW_SECONDS = 0.05


class Following:
    """One fetch that another process leads, for the repositories that wait for it here."""

    def __init__(
        self,
        means: Means,
        relays: Relays,
        upstream_id: int,
        digest: Digest,
        holders: Holders,
        progress: Progress,
    ) -> None:
        self._means = means
        self._relays = relays
        self._upstream_id = upstream_id
        self._digest = digest
        self._holders = holders
        self._progress = progress
        self._watch = Watch(means, upstream_id, digest, holders, progress)
        self._tailing = Tailing(means, digest, progress, self._watch)

    async def follow(self, row: FetchRow, spool: Spool | None = None) -> Left | None:
        """Follow to the end; what is left to go on with, if the leader does not get there.

        `spool` is what is here already. Raises GivenUp, UpstreamBroken, StorageFull, StorageFailed,
        Unavailable.
        """
        if spool is None and row.node != self._means.node and row.node_url:
            spool = self._means.spools.write(row.id, self._digest, is_new=True)
        if spool is None and (row.node == self._means.node or row.node_url):
            left = await self._tailing.tail(row)
            if left is None or left.row is None or left.spool is None:
                return left
            if left.row.node == self._means.node:
                return left
            row, spool = left.row, left.spool
        if spool is None or not self._is_reachable(row):
            return Left(row, spool, is_out_of_reach=True)
        try:
            self._progress.read_from(spool.view())
            return await self._relay(row, spool)
        except asyncio.CancelledError:
            await spool.close()  # this process stops: another of this node may go on
            raise
        except BaseException:
            spool.discard()
            await spool.close()
            raise

    async def _relay(self, row: FetchRow, spool: Spool) -> Left | None:
        while True:
            try:
                async with self._relays.take(row.node_url, row.id, spool.size) as relayed:
                    if not self._progress.is_announced:
                        self._progress.announce(relayed.size)
                    await Filling(spool, self._progress).take(relayed.pieces)
                self._check(spool)
                return await self._until_stored(row, spool)
            except (NotFound, UpstreamDown) as error:
                log.warning("fetch.relay_broken", at=spool.size, error=error.message)
            current = await self._watch.current()
            if current is None:
                return None if await self.complete(spool) else Left(None, spool)
            if current.id == row.id:
                if self._watch.is_dead(current):
                    return Left(current, spool)
                await asyncio.sleep(_AGAIN_SECONDS)
            row = current
            if not self._is_reachable(row):
                return Left(row, spool, is_out_of_reach=True)

    def _is_reachable(self, row: FetchRow) -> bool:
        """Whether its leader's bytes can be asked for. Our own node might have us ask ourselves."""
        return bool(row.node_url) and row.node != self._means.node

    def _check(self, spool: Spool) -> None:
        if not spool.is_right():
            message = f"the bytes of {self._digest} were changed between two nodes; try again"
            raise UpstreamBroken(message, digest=str(self._digest))
        spool.seal()
        self._progress.reach(spool.size, is_right=True)

    async def _until_stored(self, row: FetchRow, spool: Spool) -> Left | None:
        """All bytes are here, for the other processes too until the leader has stored its own."""
        while (current := await self._watch.current()) is not None and current.id == row.id:
            if self._watch.is_dead(current):
                return Left(current, spool)
            await asyncio.sleep(_ROW_SECONDS)
        spool.discard()
        await spool.close()
        return None

    async def complete(self, spool: Spool) -> bool:
        """The fetch was ended: what is missing here is in the store, or still to be fetched.

        Whether it is here now. Raises UpstreamBroken, StorageFull, StorageFailed, Unavailable.
        """
        blob = await self._proved()
        try:
            file = await self._means.objects.open(blob) if blob else None
        except ObjectMissing:
            file = None
        if file is None:
            return False
        if not self._progress.is_announced:
            self._progress.announce(file.size)
        async with aclosing(pieces_of(file, spool.size)) as pieces:
            await Filling(spool, self._progress).take(pieces)
        self._check(spool)
        spool.discard()
        await spool.close()
        return True

    async def _proved(self) -> LinkedBlob | None:
        """The blob, if it is in the store and somebody waits here who may have it.

        That its leader was asked to fetch it for one of them proves nothing: it may have been
        refused, and what is stored be of others. So whoever does not hold it asks now.
        """
        origins = set[str]()
        for holder in [*self._holders.proved.values(), *self._holders.trusting.values()]:
            try:
                origin = await self.ask(holder)
            except UpstreamError:
                self._holders.refuse(holder)  # its readers ask for themselves, and hear why
            else:
                self._holders.prove(holder)
                if origin is not None:
                    origins.add(origin)
        async with self._means.database.read() as tx:
            upstream = await upstreams.get(tx, self._upstream_id)
            # A process may have asked where the upstream was before it was led elsewhere.
            if not self._holders.proved or upstream is None or origins - {upstream.origin}:
                return None
            return await blobs.find_from(tx, self._upstream_id, str(self._digest))

    async def ask(self, holder: Repository) -> str | None:
        """Have a repository prove itself; the origin that let it in, None when it holds the blob.

        Raises UpstreamError.
        """
        async with self._means.database.read() as tx:
            if await blobs.find(tx, holder.id, str(self._digest)) is not None:
                return None
        async with self._means.remotes.calling(self._upstream_id) as remote:
            await remote.head_blob(source_of(holder).path, self._digest)
            return remote.origin
