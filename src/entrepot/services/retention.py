"""Retention policies: what holds where, changing one, and what would go."""

import asyncio
import re
from dataclasses import dataclass, replace

from entrepot.db import retention
from entrepot.db.database import Database, Transaction
from entrepot.db.retention import Policies
from entrepot.model.access import Action, Actor
from entrepot.model.clock import Clock
from entrepot.model.errors import NotFound, Stale
from entrepot.model.ids import to_text
from entrepot.model.retention import Retention
from entrepot.model.retention_rules import Rules, TagFacts, Verdict
from entrepot.model.tenancy import Change
from entrepot.services.access import Access
from entrepot.services.addresses import NO_REPOSITORY
from entrepot.services.audit import record
from entrepot.services.organisations import STALE, require_version
from entrepot.services.retention_plan import RetentionPlan, Source, judge_untagged

_MOMENT = re.compile(r"-1|[0-9]{1,18}")  # -1: before the first
EXACT = 5_000  # manifests and tags of which a preview knows what they free


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for a repository, whose policy it is, and its own, if it has one.

    `inherited` is what would hold without it.
    """

    effective: Retention
    source: Source
    own: Retention | None
    inherited: Retention
    version: int


@dataclass(frozen=True, slots=True)
class Line:
    """One tag, or one manifest without a tag (no `name`): what would become of it, and now."""

    name: str | None
    digest: str
    pushed_at: int
    proposed: Verdict
    present: Verdict


@dataclass(frozen=True, slots=True)
class Totals:
    """What goes by a policy. Not `is_exact`: so many bytes at least.

    `only` is how many tags and manifests go by this policy and not by the other.
    """

    tags: int
    untagged: int
    only: int
    freed_bytes: int
    freed_blobs: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """A page of a plan; `after` is where the next begins, the totals come with the first."""

    lines: list[Line]
    after: str | None
    proposed: Totals | None
    present: Totals | None


class RetentionPolicies:
    """Shows and changes policies."""

    def __init__(
        self, database: Database, clock: Clock, access: Access, plan: RetentionPlan
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._plan = plan

    async def policy(self, actor: Actor, repository_id: int) -> Policy:
        """What holds for a repository. Raises NotFound."""
        return self._policy(await self._policies(actor, Action.PULL, repository_id))

    @property
    def server(self) -> Retention:
        """What holds where nobody else says."""
        return self._plan.server

    async def set(
        self, actor: Actor, repository_id: int, policy: Retention | None, *, version: int | None
    ) -> Policy:
        """Give a repository a policy; None for its organisation's. Runs use it from now on.

        Raises FieldInvalid, NotFound, Denied, Stale.
        """
        if policy is not None:
            policy.checked()

        async def work(tx: Transaction) -> Policy:
            repository = await self._access.enter_repository(
                tx, actor, Action.MANAGE_REPOSITORY, repository_id
            )
            before = await _found(tx, repository_id)
            require_version(before.version, version)
            if not await retention.set_policy(tx, repository_id, policy, version=before.version):
                raise Stale(STALE)
            after = replace(before, own=policy, version=before.version + 1)
            change = Change(
                "retention.changed",
                "repository",
                to_text(repository.id),
                repository.path,
                repository.organisation_id,
                _details(before.own, policy),
            )
            await record(tx, actor, change, now=self._clock.now())
            return self._policy(after)

        return await self._database.write(work)

    async def preview(
        self,
        actor: Actor,
        repository_id: int,
        proposed: Retention | None = None,
        *,
        after: str = "",
        limit: int = 100,
    ) -> Preview:
        """What would go by a proposed policy, and by the one that holds, which is the default.

        Tags from the oldest push on, then manifests without a tag. For who may change the policy:
        what it frees tells whether hidden repositories share content.
        Raises FieldInvalid, NotFound, Denied.
        """
        if proposed is not None:
            proposed.checked()
        policies = await self._policies(actor, Action.MANAGE_REPOSITORY, repository_id)
        effective, _ = self._plan.effective(policies)
        now = self._clock.now()
        present = await self._plan.rules(policies, effective, now)
        rules = present
        if proposed is not None and proposed != effective:
            rules = await self._plan.rules(policies, proposed, now)
        lines, following = await self._lines(repository_id, rules, present, after, limit)
        if after:
            return Preview(lines, following, None, None)
        totals = await self._totals(policies, rules, present)
        others = totals if rules is present else await self._totals(policies, present, rules)
        return Preview(lines, following, totals, others)

    async def _policies(self, actor: Actor, action: Action, repository_id: int) -> Policies:
        async with self._database.read() as tx:
            await self._access.enter_repository(tx, actor, action, repository_id)
            return await _found(tx, repository_id)

    def _policy(self, policies: Policies) -> Policy:
        effective, source = self._plan.effective(policies)
        inherited, _ = self._plan.effective(replace(policies, own=None))
        return Policy(effective, source, policies.own, inherited, policies.version)

    async def _totals(self, policies: Policies, rules: Rules, other: Rules) -> Totals:
        """What goes by `rules`, and what of it does not by the other ones."""
        tags = untagged = only = 0
        freed_tags: list[TagFacts] = []
        freed_untagged: list[str] = []
        pulled = other.policy.pulled_days is not None
        async for going in self._plan.going(policies.repository.id, rules, pulled=pulled):
            tags += len(going.tags)
            untagged += len(going.untagged)
            only += sum(not other.of_tag(tag).goes for tag in going.tags)
            only += sum(not other.of_untagged(one, None).goes for one in going.untagged)
            room = EXACT - len(freed_tags) - len(freed_untagged)
            freed_tags += going.tags[:room]
            freed_untagged += [one.digest for one in going.untagged[:room]]
            await asyncio.sleep(0)
        is_exact = tags + untagged == len(freed_tags) + len(freed_untagged)
        freed = await self._plan.freed(policies, freed_tags, freed_untagged, rules.now)
        return Totals(tags, untagged, only, freed.bytes, freed.blobs, is_exact)

    async def _lines(
        self, repository_id: int, rules: Rules, present: Rules, after: str, limit: int
    ) -> tuple[list[Line], str | None]:
        kind, moment, name = _position(after)
        lines: list[Line] = []
        if kind == "tag":
            async with self._database.read(scan=True) as tx:
                tags = await retention.page_of_oldest(
                    tx,
                    repository_id,
                    after=(moment, name),
                    before=(2**62, ""),
                    pulled=True,
                    limit=limit,
                )
            for tag in tags:
                proposed, as_now = rules.of_tag(tag), present.of_tag(tag)
                lines.append(Line(tag.name, tag.digest, tag.pushed_at, proposed, as_now))
            if len(tags) == limit:
                return lines, f"tag:{tags[-1].pushed_at}:{tags[-1].name}"
            moment, name = _position("manifest:-1:")[1:]
        async with self._database.read(scan=True) as tx:
            found, reached = await retention.page_of_untagged(
                tx, repository_id, after=(moment, name), before=2**62, pulled=True, limit=limit
            )
            by_proposed = await judge_untagged(tx, repository_id, rules, found)
            by_present = await judge_untagged(tx, repository_id, present, found)
        for one in found:
            proposed, as_now = by_proposed[one.digest], by_present[one.digest]
            lines.append(Line(None, one.digest, one.pushed_at, proposed, as_now))
        return lines, f"manifest:{reached[0]}:{reached[1]}" if reached else None


async def _found(tx: Transaction, repository_id: int) -> Policies:
    found = await retention.find_policies(tx, repository_id)
    if found is None:
        raise NotFound(NO_REPOSITORY)
    return found


def _position(after: str) -> tuple[str, int, str]:
    """Kind, moment and name behind which a page begins; of what is none of ours, the start."""
    kind, _, rest = after.partition(":")
    moment, _, name = rest.partition(":")
    if kind not in {"tag", "manifest"} or _MOMENT.fullmatch(moment) is None:
        return "tag", -1, ""
    return kind, int(moment), name


def _details(before: Retention | None, after: Retention | None) -> dict[str, object]:
    return {"from": str(before) if before else None, "to": str(after) if after else None}
