"""What would go by a policy: the one plan of previews and runs.

All reads are pages, so that a plan takes the same memory whatever the size of the repository, and
no transaction stays open between them.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from entrepot.db import orphans, reachability, retention
from entrepot.db.database import Database, Transaction
from entrepot.db.retention import Policies
from entrepot.model.retention import Retention
from entrepot.model.retention_rules import DEFAULT_DAYS, Rules, TagFacts, UntaggedFacts, Verdict

Source = Literal["repository", "organisation", "server"]

BATCH = 100  # of one transaction of a run
_PAGE = 500
_START = (-1, "")
_END = (2**62, "")


@dataclass(frozen=True, slots=True)
class Going:
    """Some of what goes."""

    tags: list[TagFacts] = field(default_factory=list)
    untagged: list[UntaggedFacts] = field(default_factory=list)

    def split(self, size: int) -> tuple["Going", "Going | None"]:
        """The first so many of it, which is of one kind, and the rest, if there is any."""
        if max(len(self.tags), len(self.untagged)) <= size:
            return self, None
        rest = Going(self.tags[size:], self.untagged[size:])
        return Going(self.tags[:size], self.untagged[:size]), rest


class RetentionPlan:
    """Finds what goes. `server` is the policy where nobody else says one; times in µs."""

    def __init__(self, database: Database, server: Retention, *, restore: int) -> None:
        self._database = database
        self.server = server
        self._restore = restore

    def effective(self, policies: Policies) -> tuple[Retention, Source]:
        """The policy that holds, and whose it is. It holds as a whole."""
        if policies.own is not None:
            return policies.own, "repository"
        if policies.organisations is not None:
            return policies.organisations, "organisation"
        return self.server, "server"

    async def rules(self, policies: Policies, policy: Retention, now: int) -> Rules:
        """What to judge by."""
        repository = policies.repository
        rules = Rules(
            policy,
            repository.immutable_tags,
            repository.protected_tags,
            self.server.untagged_days or self.server.days or DEFAULT_DAYS,
            now,
        )
        if policy.tags is None:
            return rules
        return rules.with_newest(await self._last_of_newest(repository.id, rules, policy.tags))

    async def _last_of_newest(
        self, repository_id: int, rules: Rules, wanted: int
    ) -> tuple[int, str] | None:
        """When the last of so many tags that count was pushed, and its name.

        Patterns are matched here, a page at a time; without one the database walks the tags, which
        takes a tenth of the time.
        """
        if not rules.has_patterns:
            async with self._database.read(scan=True) as tx:
                return await retention.find_nth_newest(tx, repository_id, wanted, now=rules.now)
        before = _END
        while True:
            async with self._database.read(scan=True) as tx:
                limit = min(_PAGE, wanted + BATCH)
                page = await retention.page_of_newest(tx, repository_id, before=before, limit=limit)
            for tag in page:
                wanted -= rules.counts(tag)
                if not wanted:
                    return (tag.pushed_at, tag.name)
            if len(page) < limit:
                return None
            before = (page[-1].pushed_at, page[-1].name)

    async def going(
        self, repository_id: int, rules: Rules, *, pulled: bool = False
    ) -> AsyncIterator[Going]:
        """All that goes, at most a batch at once; sometimes nothing, after a page of what stays.

        First the manifests without a tag, judged while all tags are there: so a run does what its
        preview said. `pulled` reads when things were pulled where the policy does not ask for it.
        """
        pulled = pulled or rules.policy.pulled_days is not None
        async for untagged in self._untagged(repository_id, rules, pulled=pulled):
            for manifests in _batches(untagged):
                yield Going(untagged=manifests)
        async for tags in self._expired(repository_id, rules):
            for some in _batches(tags):
                yield Going(tags=some)
        async for tags in self._old(repository_id, rules, pulled=pulled):
            for some in _batches(tags):
                yield Going(tags=some)

    async def _untagged(
        self, repository_id: int, rules: Rules, *, pulled: bool
    ) -> AsyncIterator[list[UntaggedFacts]]:
        before = rules.untagged_before
        after: tuple[int, str] | None = _START
        while before is not None and after is not None:
            async with self._database.read(scan=True) as tx:
                page, after = await retention.page_of_untagged(
                    tx, repository_id, after=after, before=before, pulled=pulled, limit=_PAGE
                )
                verdicts = await judge_untagged(tx, repository_id, rules, page)
            yield [found for found in page if verdicts[found.digest].goes]

    async def _expired(self, repository_id: int, rules: Rules) -> AsyncIterator[list[TagFacts]]:
        after = _START
        while True:
            async with self._database.read(scan=True) as tx:
                page = await retention.page_of_expired(
                    tx, repository_id, now=rules.now, after=after, limit=_PAGE
                )
            yield [tag for tag in page if rules.of_tag(tag).goes]
            if len(page) < _PAGE:
                break
            after = (page[-1].expires_at or 0, page[-1].name)

    async def _old(
        self, repository_id: int, rules: Rules, *, pulled: bool
    ) -> AsyncIterator[list[TagFacts]]:
        """What the policy lets go by age or number, without what has expired."""
        after, before = _START, rules.tags_before
        while before is not None:
            async with self._database.read(scan=True) as tx:
                page = await retention.page_of_oldest(
                    tx, repository_id, after=after, before=before, pulled=pulled, limit=_PAGE
                )
            yield [tag for tag in page if not rules.expired(tag) and rules.of_tag(tag).goes]
            if len(page) < _PAGE:
                break
            after = (page[-1].pushed_at, page[-1].name)

    async def freed(
        self, policies: Policies, tags: Iterable[TagFacts], untagged: Iterable[str], now: int
    ) -> retention.Freed:
        """What goes for good once these are gone, with all that hangs below them."""
        repository = policies.repository
        tags = list(tags)
        names = [tag.name for tag in tags]
        suspects = {tag.digest for tag in tags} | set(untagged)
        gone: set[str] = set()
        judged: set[str] = set()
        while suspects:
            some = sorted(suspects)[:BATCH]
            suspects -= set(some)
            judged |= set(some)
            async with self._database.read(scan=True) as tx:
                kept = await reachability.find_kept(
                    tx, repository.id, some, now=now + self._restore, without_tags=names
                )
                lost = set(some) - set(kept)
                below = await orphans.find_below(tx, repository.id, lost)
            gone |= lost
            suspects |= {digest for kind, digest in below if kind == "below"} - judged
        async with self._database.read(scan=True) as tx:
            return await retention.count_freed(tx, repository.organisation_id, repository.id, gone)


async def judge_untagged(
    tx: Transaction, repository_id: int, rules: Rules, found: list[UntaggedFacts]
) -> dict[str, Verdict]:
    """The verdict on each of these manifests; a hundred are one question."""
    verdicts: dict[str, Verdict] = {}
    for some in _batches(found):
        digests = [manifest.digest for manifest in some]
        kept = await reachability.find_kept(tx, repository_id, digests, now=rules.now)
        for manifest in some:
            verdicts[manifest.digest] = rules.of_untagged(manifest, kept.get(manifest.digest))
    return verdicts


T = TypeVar("T")


def _batches(found: list[T]) -> Iterable[list[T]]:
    """At least one, which may be empty."""
    return (found[start : start + BATCH] for start in range(0, len(found) or 1, BATCH))
