"""Tag syncs: who may ask for one, when the next is due, and which process does it.

A run is a row. Any process takes one that nobody does, by its schedule or because somebody asked;
it writes how far it came every two seconds, which is its sign of life too. A run whose process
stopped is done again from its beginning by another: that repeats some questions and harms nothing.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace

import structlog

from entrepot.db import repositories, sync_runs
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import EntrepotError, FieldInvalid, NameUnknown, NotFound, Unavailable
from entrepot.model.ids import new_id, to_text
from entrepot.model.sync_runs import Cause, SyncCounts, SyncRun, Turn, describe
from entrepot.model.tenancy import Change
from entrepot.services.access import Access, require_writable
from entrepot.services.addresses import NO_REPOSITORY
from entrepot.services.audit import record
from entrepot.services.sync_schedule import Schedule
from entrepot.services.sync_tags import Progress, SyncParts, TagSync
from entrepot.telemetry.observe import Observe

KEPT_RUNS = 50  # of a repository

_BEAT_SECONDS = 2.0
_DEAD = 30 * SECOND  # without a sign of life, as whoever waits for one counts it
_LONGEST_SECONDS = 21_600.0
_RUNNING = 1_000  # runs of all processes that one look sees

log = structlog.get_logger()


class Syncs:
    """The tag syncs of this process, and what is known of all. `concurrency`: runs and tags."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        parts: SyncParts,
        schedule: Schedule,
        observe: Observe,
        *,
        concurrency: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._parts = parts
        self._schedule = schedule
        self._observe = observe
        self._concurrency = concurrency
        self._leader = secrets.token_hex(8)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._organisations: dict[int, int] = {}  # of the runs that go on here
        self._looking: set[asyncio.Task[None]] = set()
        self._seen: dict[int, tuple[int, int]] = {}  # run: beat, and when it was seen first
        self._one_look = asyncio.Lock()

    async def start(self, actor: Actor, repository_id: int) -> SyncRun:
        """Have a repository synced now; the run, which may have begun before.

        Raises FieldInvalid (no upstream), Denied (also while it is read-only), Unauthenticated,
        NotFound.
        """
        run_id = new_id()

        async def work(tx: Transaction) -> SyncRun:
            now = self._clock.now()
            repository = await self._access.enter_repository(
                tx, actor, Action.MANAGE_REPOSITORY, repository_id
            )
            if repository.source is None:
                message = "this repository comes from no upstream: there is nothing to sync it with"
                raise FieldInvalid(message, field="repository")
            require_writable(repository)
            run = await sync_runs.begin(
                tx, run_id, repository_id, cause=Cause.REQUEST, leader="", now=now
            )
            change = Change(
                "repository.sync-requested",
                "repository",
                to_text(repository.id),
                repository.path,
                repository.organisation_id,
                {"run": to_text(run.id)},
            )
            await record(tx, actor, change, now=now)
            return run

        run = await self._database.write(work)
        self._in_background(self._look_now())
        return run

    async def page(
        self, actor: Actor, repository_id: int, *, before: int, limit: int
    ) -> tuple[list[SyncRun], bool]:
        """Up to `limit` runs of a repository, newest first, and whether there are more.

        Raises Unauthenticated, NotFound.
        """
        async with self._database.read() as tx:
            await self._access.enter_repository(tx, actor, Action.PULL, repository_id)
            found = await sync_runs.page(tx, repository_id, before=before, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def look(self) -> int:
        """Take what nobody does and begin what is due, while there is room; how many runs.

        Raises Unavailable.
        """
        async with self._one_look:
            await self._free_dead()
            begun = 0
            while self._room > 0 and (turn := await self._next()) is not None:
                if turn.run is not None:
                    begun += await self._take(turn.run, turn.organisation_id)
                else:
                    begun += await self._begin(turn)
            return begun

    async def close(self) -> None:
        """Stop, and leave what goes on to others."""
        tasks = [*self._looking, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _room(self) -> int:
        return self._concurrency - len(self._running)

    async def _free_dead(self) -> None:
        """Have runs whose process gave no sign of life for long wait for another."""
        async with self._database.read() as tx:
            found = await sync_runs.find_running(tx, limit=_RUNNING)
        for run in found:
            if self._is_dead(run):
                await self._give(run, "")
        self._seen = {run.id: self._seen[run.id] for run in found if run.id in self._seen}

    def _is_dead(self, run: SyncRun) -> bool:
        if run.id in self._running:
            return False
        now = self._clock.now()
        beat, since = self._seen.setdefault(run.id, (run.beat, now))
        if beat != run.beat:
            self._seen[run.id] = (run.beat, now)
            return False
        return now - since > _DEAD

    async def _next(self) -> Turn | None:
        """Whose turn it is, of what was asked for and what is due.

        One place is left free for others than the organisation that has all the rest, whose runs
        may last for hours.
        """
        counted = Counter(self._organisations.values())
        most = max(1, self._concurrency - 1)
        without = [organisation for organisation, count in counted.items() if count >= most]
        due = None
        now = self._clock.now()
        async with self._database.read(scan=True) as tx:
            waiting = await sync_runs.find_waiting(tx, without=without)
            if self._schedule.is_on:
                latest = self._schedule.latest(now)
                due = await sync_runs.find_due(tx, now=now, latest=latest, without=without)
        if due is None or (waiting is not None and waiting.running <= due.running):
            return waiting
        return due

    async def _take(self, run: SyncRun, organisation_id: int) -> bool:
        is_ours = await self._give(run, self._leader)
        if is_ours:
            self._lead(run, organisation_id)
        return is_ours

    async def _give(self, run: SyncRun, leader: str) -> bool:
        return await self._database.write(
            lambda tx: sync_runs.take(tx, run.id, seen=run.beat, leader=leader), durable=False
        )

    async def _begin(self, turn: Turn) -> bool:
        now = self._clock.now()
        run_id = new_id()

        async def work(tx: Transaction) -> SyncRun | None:
            repository = await repositories.find_by_id(tx, turn.repository_id)
            run = None  # of one that was deleted, maybe with its organisation
            if repository is not None and repository.source is not None:
                run = await sync_runs.begin(
                    tx,
                    run_id,
                    turn.repository_id,
                    cause=Cause.SCHEDULE,
                    leader=self._leader,
                    now=now,
                )
                if run.id != run_id:
                    return None  # it is due still when that one has ended
            due_at = self._schedule.next(turn.repository_id, now)
            await sync_runs.put_off(tx, turn.repository_id, due_at=due_at)
            return run

        run = await self._database.write(work, durable=False)
        if run is not None:
            self._lead(run, turn.organisation_id)
        return run is not None

    def _lead(self, run: SyncRun, organisation_id: int) -> None:
        task = asyncio.create_task(self._do(replace(run, leader=self._leader)))
        self._running[run.id] = task
        self._organisations[run.id] = organisation_id
        task.add_done_callback(lambda _: self._forget(run.id))

    def _forget(self, run_id: int) -> None:
        self._running.pop(run_id, None)
        self._organisations.pop(run_id, None)

    async def _do(self, run: SyncRun) -> None:
        """Do a run to its end, unless it becomes somebody else's."""
        progress = Progress()
        syncing = asyncio.create_task(self._sync(run, progress))
        beating = asyncio.create_task(self._beat(run, progress, syncing))
        try:
            error = await syncing
            await self._end(run, progress, error)
        except asyncio.CancelledError:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)
            with suppress(EntrepotError):  # whoever looks finds out without
                await self._let_go(run)
        except Unavailable as error:
            log.warning("sync.failed", run=to_text(run.id), error=error.message)
        finally:
            beating.cancel()

    async def _sync(self, run: SyncRun, progress: Progress) -> str | None:
        """Sync; what failed, in a sentence. Raises Unavailable."""
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                await self._sync_now(run, progress)
        except TimeoutError:
            return "the sync took longer than six hours; the next one goes on"
        except (NameUnknown, NotFound):
            return "the repository was deleted"
        except Unavailable:
            raise
        except EntrepotError as error:
            return error.message
        except Exception:  # a mistake of ours, and no reason to do it again and again
            log.exception("sync.failed", run=to_text(run.id))
            return "the sync failed; the server's log has more"
        if progress.failed:
            return describe(progress.failures, progress.failed, progress.wanted)
        return None

    async def _sync_now(self, run: SyncRun, progress: Progress) -> None:
        async with self._database.read() as tx:
            repository = await repositories.find_by_id(tx, run.repository_id)
            facts = await repositories.get(tx, run.repository_id)
        if repository is None or facts is None or facts.upstream is None:
            raise NotFound(NO_REPOSITORY)
        require_writable(repository)
        log.info("sync.began", repository=repository.path, run=to_text(run.id), cause=run.cause)
        sync = TagSync(self._parts, repository, facts.upstream, progress)
        await sync.run(self._concurrency)

    async def _beat(
        self, run: SyncRun, progress: Progress, syncing: asyncio.Task[str | None]
    ) -> None:
        """Say how far the run came, until it is somebody else's."""
        while True:
            with suppress(Unavailable):
                counts = progress.counts
                if not await self._write_beat(run, counts):
                    syncing.cancel()
                    return
            await asyncio.sleep(_BEAT_SECONDS)

    async def _write_beat(self, run: SyncRun, counts: SyncCounts) -> bool:
        return await self._database.write(
            lambda tx: sync_runs.beat(tx, run.id, leader=run.leader, counts=counts), durable=False
        )

    async def _let_go(self, run: SyncRun) -> None:
        await self._database.write(
            lambda tx: sync_runs.let_go(tx, run.id, leader=run.leader), durable=False
        )

    async def _end(self, run: SyncRun, progress: Progress, error: str | None) -> None:
        ended = replace(
            run,
            ended_at=self._clock.now(),
            counts=progress.counts,
            error=error,
            failures=tuple(progress.failures),
        )

        async def work(tx: Transaction) -> None:
            if await sync_runs.end(tx, ended):
                await sync_runs.forget_old(tx, run.repository_id, keep=KEPT_RUNS)

        await self._database.write(work)
        seconds = max(0, self._clock.now() - run.started_at) / SECOND
        self._observe("failed" if error else "ok", seconds)
        counts = {name: getattr(ended.counts, name) for name in ended.counts.__slots__}
        log.info("sync.ended", run=to_text(run.id), error=error, **counts)

    async def _look_now(self) -> None:
        with suppress(EntrepotError):  # the next round looks again
            await self.look()

    def _in_background(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
