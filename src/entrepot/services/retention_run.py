"""Retention at work: in batches, each judged again in the transaction that removes it.

It removes tags, and marks manifests that nothing keeps; bytes go by collection alone.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from entrepot.db import accounts, collection, orphans, retention, retention_turns
from entrepot.db.database import Database, Transaction
from entrepot.db.retention import Policies
from entrepot.model.access import Action, Actor, Credential, Kind
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import EntrepotError
from entrepot.model.ids import new_id, to_text
from entrepot.model.retention_rules import Rules
from entrepot.model.tenancy import Change
from entrepot.services.access import Access, require_writable
from entrepot.services.audit import record
from entrepot.services.pace import Pace
from entrepot.services.retention_plan import BATCH, Going, RetentionPlan, judge_untagged
from entrepot.telemetry.observe import Observe, ignore

_AT_ONCE = 100  # organisations that a sweep serves in turn
_PATIENCE = 10 * SECOND  # how long somebody waits for a run
_IN_A_ROW = 500  # batches of a repository while others of its organisation wait
_SWEEPER = Actor(Credential(0, Kind.OPERATOR, name="retention"))

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run removed. Not `is_done`: the rest goes in the background."""

    tags: int
    untagged: int
    is_done: bool


@dataclass(slots=True)
class _Turn:
    """A repository while it is looked at: what it is judged by, and what is still to come.

    It is done when nothing is left, and over then, or when something came in between. `going` is
    what was planned for the next transactions, and `number` how many there were.
    """

    policies: Policies
    rules: Rules
    actor: Actor
    batches: AsyncIterator[Going]
    going: Going | None = None
    number: int = 0
    tags: int = 0
    untagged: int = 0
    is_done: bool = False
    is_over: bool = False


class RetentionRun:
    """Removes what the plan says. `every` is how often a repository is looked at; times in µs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        plan: RetentionPlan,
        *,
        restore: int,
        every: int,
        observe: Observe = ignore,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._plan = plan
        self._restore = restore
        self._every = every
        self._observe = observe
        self._pace = Pace(BATCH)

    async def run(self, actor: Actor, repository_id: int) -> Ran:
        """Look at a repository now. Raises NotFound, Denied (also where it is read-only)."""
        async with self._database.read() as tx:
            repository = await self._access.enter_repository(
                tx, actor, Action.MANAGE_REPOSITORY, repository_id
            )
        require_writable(repository)
        turn = await self._begin(repository_id, actor)
        if turn is None:
            return Ran(0, 0, is_done=True)
        until = self._clock.now() + _PATIENCE
        while not turn.is_over and self._clock.now() < until:
            await self._step(turn)
        if not turn.is_done:
            await self._again(turn)
        return Ran(turn.tags, turn.untagged, is_done=turn.is_done)

    async def sweep(self) -> int:
        """Look at every repository that is due; how many tags went. Raises Unavailable.

        Each organisation gets one batch of one repository before any gets another. A repository
        that has had many in a row queues up again behind the others of its organisation.
        """
        removed = 0
        turns: dict[int, _Turn] = {}
        is_busy = True
        while is_busy:  # another lap around all organisations, until one finds nothing to do
            is_busy = False
            after: int | None = 0
            while after is not None:
                if len(turns) < _AT_ONCE:
                    claimed, after = await self._take(turns, after)
                    is_busy = is_busy or claimed > 0
                is_busy = is_busy or bool(turns)
                for organisation_id, turn in list(turns.items()):
                    await self._go_on(turn)
                    if turn.is_over:
                        removed += turns.pop(organisation_id).tags
        return removed

    async def _take(self, turns: dict[int, _Turn], after: int) -> tuple[int, int | None]:
        """Begin with repositories that are due, of organisations that have none in turn.

        How many, and after which organisation to go on.
        """
        now = self._clock.now()
        async with self._database.read(scan=True) as tx:
            due, last = await retention_turns.find_due(
                tx, after=after, now=now, limit=_AT_ONCE - len(turns)
            )
        free = {owner: found for owner, found in due.items() if owner not in turns}
        if not free:
            return 0, last

        async def work(tx: Transaction) -> list[int]:
            return await retention_turns.claim(tx, free.values(), now=now, until=now + self._every)

        claimed = set(await self._database.write(work, durable=False))
        for organisation_id, repository_id in free.items():
            if repository_id in claimed:
                turn = await self._begin(repository_id, _SWEEPER)
                if turn is not None:
                    turns[organisation_id] = turn
        return len(claimed), last

    async def _begin(self, repository_id: int, actor: Actor) -> _Turn | None:
        """Read what to judge a repository by; None where nothing may go."""
        async with self._database.read() as tx:
            policies = await retention.find_policies(tx, repository_id)
        if policies is None or policies.repository.read_only is not None:
            return None
        policy, _ = self._plan.effective(policies)
        rules = await self._plan.rules(policies, policy, self._clock.now())
        self._observe("repositories", 1)
        return _Turn(policies, rules, actor, self._plan.going(repository_id, rules))

    async def _go_on(self, turn: _Turn) -> None:
        """The next batch of a turn that nobody waits for; what fails comes round again."""
        try:
            await self._step(turn)
        except EntrepotError as error:
            turn.is_over = True
            log.warning(
                "retention.failed",
                repository_id=turn.policies.repository.id,
                error=error.message,
            )

    async def _step(self, turn: _Turn) -> None:
        """Remove the next batch: no more at once than keeps others waiting for a moment."""
        planned = turn.going or await anext(turn.batches, None)
        if planned is None:
            turn.is_done = turn.is_over = True
            return
        going, turn.going = planned.split(self._pace.size)
        if not going.tags and not going.untagged:
            return
        started = time.perf_counter()

        async def work(tx: Transaction) -> tuple[int, int] | None:
            nonlocal started
            started = time.perf_counter()
            return await self._remove(tx, turn, going)

        removed = await self._database.write(work, durable=turn.actor is not _SWEEPER)
        seconds = time.perf_counter() - started
        self._pace.took(len(going.tags) + len(going.untagged), seconds)
        self._observe("seconds", seconds)
        if removed is None:  # the policy changed: what it says now is judged anew
            turn.is_over = True
            await self._again(turn)
            return
        turn.tags += removed[0]
        turn.untagged += removed[1]
        self._observe("tags", removed[0])
        self._observe("manifests", removed[1])
        turn.number += 1
        if turn.number == _IN_A_ROW and turn.actor is _SWEEPER:
            turn.is_over = True
            await self._again(turn)

    async def _again(self, turn: _Turn) -> None:
        """Have the rest of a repository looked at soon."""
        repository_id, now = turn.policies.repository.id, self._clock.now()
        await self._database.write(
            lambda tx: retention_turns.make_due(tx, repository_id, at=now), durable=False
        )

    async def _remove(self, tx: Transaction, turn: _Turn, going: Going) -> tuple[int, int] | None:
        """Judge a batch again, with everything locked, and remove it; None if the policy changed.

        Manifests are locked before tags, and both in order, as by pushes.
        """
        repository = turn.policies.repository
        if turn.actor is not _SWEEPER:
            await self._access.enter_repository(
                tx, turn.actor, Action.MANAGE_REPOSITORY, repository.id
            )
        if await retention.find_policies(tx, repository.id) != turn.policies:
            return None
        names = [tag.name for tag in going.tags]
        held = {tag.digest for tag in going.tags} | {one.digest for one in going.untagged}
        await orphans.lock_manifests(tx, repository.id, held)
        await retention.lock_tags(tx, repository.id, names)
        now = self._clock.now()
        tags = await self._remove_tags(tx, turn, names, held, now)
        untagged = await self._mark_untagged(tx, turn, going, now)
        if tags or untagged:
            change = Change(
                "retention.ran",
                "repository",
                to_text(repository.id),
                repository.path,
                repository.organisation_id,
                {"policy": str(turn.rules.policy), "tags": tags, "untagged": untagged},
            )
            await record(tx, turn.actor, change, now=now)
        return len(tags), len(untagged)

    async def _remove_tags(
        self, tx: Transaction, turn: _Turn, names: list[str], held: set[str], now: int
    ) -> list[str]:
        repository = turn.policies.repository
        pulled = turn.rules.policy.pulled_days is not None
        found = await retention.find_tags(tx, repository.id, names, pulled=pulled)
        going = [tag for tag in found if tag.digest in held and turn.rules.of_tag(tag).goes]
        if not going:
            return []
        gone = [tag.name for tag in going]
        await retention.remove_tags(tx, repository.id, gone, now=now)
        await accounts.count_tags(tx, repository.organisation_id, -len(gone), now=now, id=new_id())
        left = {tag.digest for tag in going}
        left -= await orphans.find_tagged(tx, repository.id, left)
        await self._orphan(tx, repository.id, left, now)
        return gone

    async def _mark_untagged(
        self, tx: Transaction, turn: _Turn, going: Going, now: int
    ) -> list[str]:
        if not going.untagged:
            return []
        repository_id, rules = turn.policies.repository.id, turn.rules
        digests = [manifest.digest for manifest in going.untagged]
        pulled = rules.policy.pulled_days is not None
        found = await retention.find_untagged(tx, repository_id, digests, pulled=pulled)
        verdicts = await judge_untagged(tx, repository_id, rules, found)
        gone = [digest for digest, verdict in verdicts.items() if verdict.goes]
        await self._orphan(tx, repository_id, gone, now)
        return gone

    async def _orphan(
        self, tx: Transaction, repository_id: int, digests: set[str] | list[str], now: int
    ) -> None:
        """Nothing keeps these any more; they can be restored for a while."""
        if digests:
            await orphans.orphan(tx, repository_id, digests, since=now)
            await collection.review_all(
                tx, "manifest", repository_id, digests, due_at=now + self._restore
            )
