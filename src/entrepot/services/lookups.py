"""One question to an upstream at a time: in this process, and among all that share the database."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from entrepot.db import lookups
from entrepot.db.database import Database
from entrepot.model.clock import HOUR, MINUTE, SECOND, Clock
from entrepot.model.errors import EntrepotError, UpstreamSlow
from entrepot.model.upstreams import Lookup

# Who asks says so again this often, and is taken for dead when it has not for that long, as whoever
# waits for it measures.
_BEAT_SECONDS = 3.0
_CLAIM = 10 * SECOND
_SKEW = 10 * MINUTE  # no two clocks are so far apart: what is over for that long needs no watching
_LOOK_SECONDS = 0.05
# Longer than any one answer may take: of several calls, or of several who tried one after another.
_MOST_SECONDS = 300.0
_REMEMBERED = 1 * HOUR  # what an upstream denied; after that nobody needs the row

log = structlog.get_logger()

Key = tuple[int, str]
Work = Callable[[], Awaitable[None]]


class Lookups:
    """Runs what asks an upstream, once for all who want to know meanwhile."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._running: dict[Key, asyncio.Task[None]] = {}

    def once(
        self,
        repository_id: int,
        reference: str,
        seen_at: int | None,
        work: Work,
        in_vain: Callable[[], None],
    ) -> tuple[asyncio.Task[None], bool]:
        """The task that finds out, and whether it ran already.

        It outlives whoever waits for it, so wait without cancelling it. When it is done without an
        error the answer is in the database. `work` asks and stores; it does not run where another
        process was just doing the same, which is seen by an answer that is not of `seen_at` any
        more; where that one got none, `in_vain` is called first.
        """
        key = (repository_id, reference)
        if (running := self._running.get(key)) is not None:
            return running, True
        task = asyncio.create_task(self._run(key, seen_at, work, in_vain))
        self._running[key] = task
        task.add_done_callback(lambda done: self._end(key, done))
        return task, False

    async def close(self) -> None:
        """Stop asking."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def sweep(self) -> int:
        """Forget what upstreams denied long ago; how many answers. Raises Unavailable."""
        before = self._clock.now() - _REMEMBERED
        return await self._database.write(
            lambda tx: lookups.sweep(tx, before=before), durable=False
        )

    def _end(self, key: Key, done: asyncio.Task[None]) -> None:
        del self._running[key]
        if done.cancelled() or (error := done.exception()) is None:
            return
        if isinstance(error, EntrepotError):
            log.warning("lookup.refused", reference=key[1], error=error.message)
        else:
            log.error("lookup.failed", reference=key[1], exc_info=error)

    async def _run(
        self, key: Key, seen_at: int | None, work: Work, in_vain: Callable[[], None]
    ) -> None:
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await self._claim_or_follow(key, seen_at, work, in_vain)
        except TimeoutError as error:
            message = "the upstream registry was asked for too long without an answer"
            raise UpstreamSlow(message, reference=key[1]) from error

    async def _claim_or_follow(
        self, key: Key, seen_at: int | None, work: Work, in_vain: Callable[[], None]
    ) -> None:
        claim = secrets.randbits(62)
        over = 0
        while (known := await self._claim(key, claim, over)) is None:
            found = await self._follow(key, seen_at)
            if found is None:
                return
            over = found
            in_vain()
        if known.checked_at != seen_at:
            await self._extend(key, claim, until=0)  # somebody else was just done with it
            return
        beating = asyncio.create_task(self._beat(key, claim))
        try:
            await work()
        except BaseException:
            with suppress(EntrepotError):
                await self._extend(key, claim, until=0)
            raise
        finally:
            beating.cancel()

    async def _claim(self, key: Key, claim: int, over: int) -> Lookup | None:
        until = self._clock.now() + _CLAIM
        return await self._database.write(
            lambda tx: lookups.claim(tx, *key, claim=claim, over=over, until=until), durable=False
        )

    async def _extend(self, key: Key, claim: int, *, until: int) -> None:
        await self._database.write(
            lambda tx: lookups.extend(tx, *key, claim=claim, until=until), durable=False
        )

    async def _beat(self, key: Key, claim: int) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            with suppress(EntrepotError):  # the next one will do
                await self._extend(key, claim, until=self._clock.now() + _CLAIM)

    async def _follow(self, key: Key, seen_at: int | None) -> int | None:
        """Nothing once somebody else's answer has come; else the claim that is over."""
        claimed, since = 0, 0
        while True:
            async with self._database.read() as tx:
                found = await lookups.find(tx, *key)
            if found is None or found.checked_at != seen_at:
                return None
            now = self._clock.now()
            if found.claimed_until != claimed:
                claimed, since = found.claimed_until, now
            is_silent = not 0 <= now - since < _CLAIM
            if not claimed or is_silent or claimed < now - _SKEW:
                return claimed
            await asyncio.sleep(_LOOK_SECONDS)
