"""One blob's way into this process: whether we lead its fetch or follow another who does."""

import asyncio
from contextlib import suppress

import structlog

from entrepot.blobs.spool import Spool
from entrepot.db import blobs, fetches
from entrepot.db.database import Transaction
from entrepot.db.fetches import FetchRow
from entrepot.model.access import Repository
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    Conflict,
    EntrepotError,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamRefused,
)
from entrepot.services.fetch_ends import bury
from entrepot.services.fetch_follow import Following
from entrepot.services.fetch_holders import Holders, source_of
from entrepot.services.fetch_lead import Leading, Means
from entrepot.services.fetch_progress import Progress
from entrepot.services.fetch_relay import Relays
from entrepot.services.fetch_watch import GivenUp, given_up
from entrepot.services.objects import is_whole

log = structlog.get_logger()

_CLAIMS = 10  # who waits for another's fetch that fails tries to lead, and after that gives up
_REFUSALS = (UpstreamMissing, UpstreamForbidden, UpstreamRefused)
_FAILED = "something went wrong while a blob was fetched; the registry's log tells its operator"


class LookAgain(Conflict):
    """What somebody waited for is not to be had from this fetch, and perhaps otherwise."""


class Fetch:
    """One blob that arrives, for every reader in this process."""

    def __init__(
        self, means: Means, relays: Relays, repository: Repository, digest: Digest
    ) -> None:
        self._means = means
        self._upstream_id = source_of(repository).upstream_id
        self._digest = digest
        self._claimed = asyncio.Event()
        self.progress = Progress()
        self.holders = Holders(self.progress)
        self._first = repository  # for whom this leads, when it does
        self._is_left = False  # others may go on with the spool
        self._following = Following(
            means, relays, self._upstream_id, digest, self.holders, self.progress
        )

    async def run(self) -> None:
        """Bring the blob here; how it went is for the readers to hear."""
        try:
            await self._run()
        except EntrepotError as error:
            self.progress.fail(error)
            if not isinstance(error, LookAgain):
                log.warning(
                    "fetch.failed",
                    digest=str(self._digest),
                    upstream=self._upstream_id,
                    error=error.message,
                )
        except Exception:  # a mistake of ours: nobody may wait for ever
            log.exception("fetch.failed", digest=str(self._digest))
            self.progress.fail(EntrepotError(_FAILED))
        finally:
            self.progress.end()
            self._claimed.set()

    async def claimed(self) -> None:
        """Wait until it is known who leads."""
        await self._claimed.wait()

    async def announced(self, repository: Repository) -> None:
        """Wait until the size is known as well as it will be.

        Raises what made the fetch fail; LookAgain when that is another repository's refusal.
        """
        try:
            await self.progress.announced()
        except _REFUSALS as error:
            if repository.id == self._first.id:
                raise
            raise LookAgain("this blob was refused to another repository; try again") from error

    async def _run(self) -> None:
        """Lead or follow; whoever follows in vain tries to lead.

        What readers have got is part of one spool, whose bytes are all hashed in the end: it is
        never continued from another's.
        """
        spool: Spool | None = None
        for _ in range(_CLAIMS):
            try:
                await self._prove_first()
            except BaseException:
                if spool is not None:
                    await self._let_go(spool)
                raise
            new_id = self._means.spools.new_id()
            # Before the row, so that whoever sees the row finds the spool.
            spool = await self._named(spool, new_id)
            row = await self._claimed_by(spool, new_id)
            if row is None:
                spool = await self._complete(spool)
            elif row.id == new_id:
                return await self._lead(new_id, spool)
            else:
                spool = await self._try_to_follow(row, spool)
            if spool is None and self.progress.is_right:
                return None
        if spool is not None:
            await self._let_go(spool)
        raise given_up()

    async def _prove_first(self) -> None:
        """Have this process lead for somebody with a proof: what is here came by others' already.

        Nobody's word is good any more: whoever led is refused, or gone. While nothing is here, the
        upstream's answer to the one for which this leads is the proof. Raises UpstreamError.
        """
        self.holders.hear(None)
        if self.holders.proved:
            if self._first.id not in self.holders.proved:
                self._first = next(iter(self.holders.proved.values()))
            return
        if not (self.progress.is_announced or self.progress.written):
            return
        self._first = await self._one_who_may()
        self.holders.prove(self._first)

    async def _one_who_may(self) -> Repository:
        for repository in list(self.holders.trusting.values()):
            if repository.id != self._first.id:
                with suppress(*_REFUSALS):
                    await self._following.ask(repository)
                    return repository
        await self._following.ask(self._first)
        return self._first

    async def _named(self, spool: Spool | None, id: str) -> Spool:  # noqa: A002
        """A spool of this name: what is here of the blob already, or a new one."""
        if spool is None:
            spool = self._means.spools.write(id, self._digest, is_new=True)
            if spool is None:
                message = "a name that nothing ever had is taken"
                raise AssertionError(message)
            return spool
        try:
            spool.rename(id)
        except BaseException:
            await self._let_go(spool)
            raise
        return spool

    async def _claimed_by(self, spool: Spool, new_id: str) -> FetchRow | None:
        """The row of whoever leads now; None when there is nothing left to fetch."""
        try:
            row = await self._claim(new_id)
        except BaseException:
            await self._let_go(spool)
            raise
        if row is None:
            return None
        if row.id == new_id:
            self.holders.prove(self._first)
        else:
            self.holders.hear(row)
        self._claimed.set()
        return row

    async def _claim(self, new_id: str) -> FetchRow | None:
        """The row of whoever leads; None when there is nothing left to fetch."""

        async def work(tx: Transaction) -> FetchRow | None:
            row = await fetches.claim(
                tx,
                upstream_id=self._upstream_id,
                digest=str(self._digest),
                id=new_id,
                repository_id=self._first.id,
                leader=self._means.leader,
                node=self._means.node,
                node_url=self._means.node_url,
                now=self._means.clock.now(),
            )
            if row.id == new_id and await self._is_stored(tx):
                await fetches.delete(tx, new_id)
                return None
            return row

        return await self._means.database.write(work, durable=False)

    async def _complete(self, spool: Spool) -> Spool | None:
        """Bring what was stored meanwhile to those who were told of it: their answers have begun.

        The spool to go on with when it is not there for any of them. Raises LookAgain while nobody
        was told, and what `Following.complete` raises.
        """
        if not self.progress.is_announced:
            await self._let_go(spool)
            raise LookAgain("the blob was stored meanwhile")
        try:
            self.progress.read_from(spool.view())
            return None if await self._following.complete(spool) else spool
        except BaseException:
            await self._let_go(spool)
            raise

    async def _is_stored(self, tx: Transaction) -> bool:
        blob = await blobs.find_from(tx, self._upstream_id, str(self._digest))
        # Storing it again heals it.
        return blob is not None and is_whole(self._means.store, blob)

    async def _lead(self, id: str, spool: Spool, *, is_listed: bool = True) -> None:  # noqa: A002
        leading = Leading(
            self._means,
            id,
            source_of(self._first),
            self._digest,
            self.holders.proved,
            self.progress,
            is_listed=is_listed,
        )
        try:
            self.progress.read_from(spool.view())
            await leading.run(spool)
        except asyncio.CancelledError:
            self._is_left = True  # this process stops
            raise
        except BaseException:
            # First the row, so that whoever sees the spool go may lead at once.
            await self._end(id, may_be_stored=leading.may_be_stored)
            raise
        finally:
            await self._let_go(spool)

    async def _end(self, id: str, *, may_be_stored: bool) -> None:  # noqa: A002
        async def work(tx: Transaction) -> None:
            await fetches.delete(tx, id)
            if may_be_stored:
                await bury(tx, id, str(self._digest), due_at=self._due_at())

        try:
            await self._means.database.write(work, durable=False)
        except EntrepotError as error:
            log.warning("fetch.row_left", digest=str(self._digest), error=error.message)

    def _due_at(self) -> int:
        return self._means.clock.now() + self._means.limits.delay

    async def _let_go(self, spool: Spool) -> None:
        try:
            if not self._is_left:
                spool.discard()
        finally:
            await spool.close()

    async def _try_to_follow(self, row: FetchRow, spool: Spool) -> Spool | None:
        """Follow to the end; the spool to go on with, where something is to be gone on with."""
        written: Spool | None = spool
        if not self.progress.written:
            await self._let_go(spool)
            written = None
        try:
            return await self._follow(row, written)
        except GivenUp:
            if self.progress.written:
                raise
            return None

    async def _follow(self, row: FetchRow, spool: Spool | None) -> Spool | None:
        """Follow to the end; the spool to go on with when the fetch was ended without us.

        Raises GivenUp, and what leading raises.
        """
        while True:
            left = await self._following.follow(row, spool)
            if left is None:
                return None
            if left.row is None:
                return left.spool
            try:
                await self._prove_first()
            except BaseException as error:
                if left.spool is not None:
                    # This process stops, or others of this node read it: they may go on with it.
                    stops = isinstance(error, asyncio.CancelledError)
                    self._is_left = stops or left.spool.has_readers()
                    await self._let_go(left.spool)
                raise
            new_id = self._means.spools.new_id()
            spool = await self._named(left.spool, new_id)
            if left.is_out_of_reach:
                log.warning(
                    "fetch.alone",
                    digest=str(self._digest),
                    hint="set ENTREPOT_NODE__URL on every node: another process fetches this too",
                )
                self.holders.prove(self._first)
                await self._lead(new_id, spool, is_listed=False)
                return None
            leader = await self._take_over(left.row, spool, new_id)
            if leader is None:
                return spool
            if leader.id == new_id:
                self.holders.prove(self._first)
                await self._lead(new_id, spool)
                return None
            row = leader
            self.holders.hear(row)

    async def _take_over(self, row: FetchRow, spool: Spool, new_id: str) -> FetchRow | None:
        """Lead instead of a leader that is gone; who leads then, perhaps another after all."""

        async def work(tx: Transaction) -> FetchRow | None:
            if await fetches.take_over(
                tx,
                row,
                id=new_id,
                repository_id=self._first.id,
                leader=self._means.leader,
                node=self._means.node,
                node_url=self._means.node_url,
            ):
                # What its leader may have stored and not told.
                await bury(tx, row.id, row.digest, due_at=self._due_at())
            return await fetches.find(tx, row.upstream_id, row.digest)

        try:
            if spool.size < self.progress.written:
                await self.progress.copy_into(spool)
            leader = await self._means.database.write(work, durable=False)
        except BaseException:
            await self._let_go(spool)
            raise
        if leader is not None and leader.id == new_id:
            log.warning(
                "fetch.taken_over",
                digest=str(self._digest),
                upstream=self._upstream_id,
                at=spool.size,
            )
        return leader
