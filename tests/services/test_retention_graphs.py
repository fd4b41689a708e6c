"""Random repositories and policies: what a preview says goes, goes, and nothing that is kept does.

The oracle here is plain Python on plain values; it shares nothing with the registry's SQL and
rules but their names.
"""

import asyncio
import itertools
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.db import reachability, repositories
from entrepot.db import retention as policies
from entrepot.model.access import Place
from entrepot.model.clock import DAY, HOUR
from entrepot.model.retention import Retention
from entrepot.services.access import OPERATOR
from entrepot.services.retention import RetentionPolicies
from entrepot.services.retention_plan import RetentionPlan
from entrepot.services.retention_run import RetentionRun
from tests.services.collecting import Yard
from tests.services.test_content import organisation_id
from tests.support.graphs import Graph, digest, fallback

IMMUTABLE, PROTECTED = ("imm-*",), ("prot-*",)
_ids = itertools.count(1_000_000)


@dataclass(frozen=True)
class Manifest:
    """Ages are in half days, so that no age is exactly a policy's."""

    name: str
    children: frozenset[str]
    subject: str | None
    age: float
    pulled: float | None
    is_protected: bool


@dataclass(frozen=True)
class Tag:
    name: str
    target: str
    age: float
    expires: float | None


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 9))
    names = [f"m{number}" for number in range(count)]
    ages = st.integers(0, 14).map(lambda days: days + 0.5)
    manifests = []
    for number, name in enumerate(names):
        earlier = st.sampled_from(names[:number]) if number else st.nothing()
        manifests.append(
            Manifest(
                name,
                frozenset(draw(st.sets(earlier, max_size=2))) if number else frozenset(),
                draw(st.one_of(st.none(), st.just("absent"), earlier)),
                draw(ages),
                draw(st.one_of(st.none(), ages)),
                draw(st.integers(0, 9)) == 0,
            )
        )
    plain = st.sampled_from(["v1", "v2", "v3", "v4", "latest", "keep-1", "imm-1", "prot-1"])
    belonging = st.builds(
        fallback, st.sampled_from([*names, "absent"]), st.sampled_from(["", ".sig", ".att", "x"])
    )
    tags = draw(
        st.lists(
            st.builds(
                Tag,
                st.one_of(plain, plain, belonging),
                st.sampled_from(names),
                ages,
                st.one_of(st.none(), st.none(), st.integers(-3, 3).map(lambda days: days + 0.5)),
            ),
            max_size=7,
            unique_by=lambda tag: tag.name,
        )
    )
    return manifests, tags, draw(st.booleans())


days = st.integers(1, 12)
retentions = st.builds(
    lambda said, keep, pulled, untagged: Retention(
        **said, keep=keep, pulled_days=pulled, untagged_days=untagged
    ),
    st.one_of(
        st.builds(lambda number: {"days": number}, days),
        st.builds(lambda number: {"tags": number}, st.integers(1, 4)),
        st.just({"never": True}),
    ),
    st.sampled_from([(), ("keep-*",), ("v*", "latest")]),
    st.one_of(st.none(), days),
    st.one_of(st.none(), days),
)


class Oracle:
    """What must happen, by reading the rules aloud."""

    def __init__(self, manifests, tags, has_patterns, policy):
        self.manifests = {manifest.name: manifest for manifest in manifests}
        self.tags = tags
        self.fixed = (*IMMUTABLE, *PROTECTED) if has_patterns else ()
        self.policy = policy

    def subject_of(self, tag):
        """The manifest here that a tag says it belongs to, which is not what it points at."""
        return next(
            (
                name
                for name in self.manifests
                if name != tag.target
                and any(tag.name == fallback(name, ending) for ending in ("", ".sig", ".att"))
            ),
            None,
        )

    def goes(self, tag):
        policy = self.policy
        if any(fnmatchcase(tag.name, pattern) for pattern in self.fixed):
            return False
        if self.subject_of(tag):
            return False
        if tag.expires is not None and tag.expires < 0:
            return True
        if policy.never or any(fnmatchcase(tag.name, pattern) for pattern in policy.keep):
            return False
        pulled = self.manifests[tag.target].pulled
        if policy.pulled_days and pulled is not None and pulled < policy.pulled_days:
            return False
        if policy.days:
            return tag.age > policy.days
        return tag not in self.newest()

    def newest(self):
        counted = [
            tag
            for tag in self.tags
            if not any(
                fnmatchcase(tag.name, pattern) for pattern in (*self.fixed, *self.policy.keep)
            )
            and not self.subject_of(tag)
            and not (tag.expires is not None and tag.expires < 0)
        ]
        counted.sort(key=lambda tag: (-tag.age, tag.name), reverse=True)
        return counted[: self.policy.tags]

    def kept(self, tags, *, protected=True):
        """All manifests that something keeps, if these are the tags."""
        kept = {tag.target for tag in tags if not self.subject_of(tag)}
        if protected:
            kept |= {one.name for one in self.manifests.values() if one.is_protected}
        while True:
            more = set()
            for one in self.manifests.values():
                if one.name in kept:
                    more |= one.children | ({one.subject} & set(self.manifests))
                elif one.subject in kept:
                    more.add(one.name)
            more |= {tag.target for tag in tags if self.subject_of(tag) in kept}
            if more <= kept:
                return kept
            kept |= more

    def untagged(self):
        """The manifests without a tag that go."""
        policy = self.policy
        limit = policy.untagged_days or policy.days or (None if policy.never else 7)
        tagged = {tag.target for tag in self.tags if not self.subject_of(tag)}
        return {
            one.name
            for one in self.manifests.values()
            if limit is not None
            and one.name not in tagged
            and one.age > limit
            and not (
                policy.pulled_days and one.pulled is not None and one.pulled < policy.pulled_days
            )
            and one.name not in self.kept(self.tags)
        }

    def gone(self, left, orphans):
        """What collection takes once nothing can be restored: orphans, and what hangs below."""
        gone: set[str] = set()
        kept = self.kept(left, protected=False)
        while True:
            more = {
                one.name
                for one in self.manifests.values()
                if one.name not in kept
                and (
                    one.name in orphans
                    or one.subject in gone
                    or any(one.name in self.manifests[parent].children for parent in gone)
                    or any(self.subject_of(tag) in gone for tag in left if tag.target == one.name)
                )
                and all(
                    parent.name in gone
                    for parent in self.manifests.values()
                    if one.name in parent.children
                )
            }
            if more <= gone:
                return gone
            gone |= more


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), policy=retentions, other=retentions)
def test_what_a_preview_says_goes_and_nothing_that_is_kept(play, graph, policy, other):
    play(*graph, policy, other)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), policy=retentions, budget=st.integers(1, 4))
def test_whoever_looks_no_further_than_this_lets_nothing_go_that_is_kept(
    play_short, graph, policy, budget
):
    play_short(*graph, policy, budget)


@pytest.fixture
def play_short(world, monkeypatch):
    """Plays one repository with little patience for what reaches far."""
    loop = asyncio.get_event_loop()
    yard = Yard(world)
    plan = RetentionPlan(world.database, Retention(days=7), restore=DAY)
    runs = RetentionRun(world.database, world.clock, world.access, plan, restore=DAY, every=HOUR)

    async def example(manifests, tags, has_patterns, policy, budget):
        monkeypatch.setattr(reachability, "_BUDGET", budget)
        oracle = Oracle(manifests, tags, has_patterns, policy)
        repository_id = await lay(world, manifests, tags, has_patterns, policy)
        await runs.run(OPERATOR, repository_id)
        left = [tag for tag in tags if not oracle.goes(tag)]

        for _ in range(4):
            world.clock.advance(DAY + HOUR)
            done = await yard.collection().run()
            assert not done.failed
        found = await manifests_of(world, repository_id)
        kept = oracle.kept(left, protected=False)
        assert {digest(name) for name in kept} <= found

    return lambda *values: loop.run_until_complete(example(*values))


@pytest.fixture
def play(world, request):
    """Plays one repository in the loop of the fixture's database."""
    loop = asyncio.get_event_loop()
    yard = Yard(world)
    plan = RetentionPlan(world.database, Retention(days=7), restore=DAY)
    shown = RetentionPolicies(world.database, world.clock, world.access, plan)
    runs = RetentionRun(world.database, world.clock, world.access, plan, restore=DAY, every=HOUR)

    async def example(manifests, tags, has_patterns, policy, other):
        oracle = Oracle(manifests, tags, has_patterns, policy)
        repository_id = await lay(world, manifests, tags, has_patterns, policy)

        previewed = await preview(shown, repository_id, None)
        proposed = await preview(shown, repository_id, other)
        ran = await runs.run(OPERATOR, repository_id)

        removed = {tag.name for tag in tags if oracle.goes(tag)}
        untagged = oracle.untagged()
        assert previewed == (removed, {digest(name) for name in untagged})
        assert proposed == (
            {tag.name for tag in tags if Oracle(manifests, tags, has_patterns, other).goes(tag)},
            {digest(name) for name in Oracle(manifests, tags, has_patterns, other).untagged()},
        )
        assert (ran.tags, ran.untagged, ran.is_done) == (len(removed), len(untagged), True)
        left = [tag for tag in tags if tag.name not in removed]
        assert await tags_of(world, repository_id) == {tag.name for tag in left}
        orphans = {tag.target for tag in tags} - {tag.target for tag in left} | untagged
        assert await orphans_of(world, repository_id) == {digest(name) for name in orphans}

        for _ in range(4):  # protection has ended by then, and nothing can be restored
            world.clock.advance(DAY + HOUR)
            done = await yard.collection().run()
            assert not done.failed
        found = await manifests_of(world, repository_id)
        gone = {name for name in oracle.manifests if digest(name) not in found}
        assert gone == oracle.gone(left, orphans), (manifests[-4:], tags, policy)

    return lambda *values: loop.run_until_complete(example(*values))


async def lay(world, manifests, tags, has_patterns, policy):
    """Write a repository of its own."""
    repository_id = next(_ids)
    owner = await organisation_id(world, "acme")
    now = world.clock.now()

    def ago(age):
        return now - int(age * DAY)

    async def work(tx):
        await repositories.ensure(
            tx, Place(owner, f"r{repository_id}"), new_id=repository_id, now=now
        )
        await tx.execute(
            """
            UPDATE repositories
               SET immutable_tags = :immutable, protected_tags = :protected
             WHERE id = :id
            """,
            immutable='["imm-*"]' if has_patterns else "[]",
            protected='["prot-*"]' if has_patterns else "[]",
            id=repository_id,
        )
        await policies.set_policy(tx, repository_id, policy, version=1)
        graph = Graph(tx, repository_id)
        for one in manifests:
            await graph.put(
                one.name,
                subject=one.subject,
                children=one.children,
                at=ago(one.age),
                protected_until=now + DAY if one.is_protected else 0,
            )
            if one.pulled is not None:
                await graph.pull(one.name, at=ago(one.pulled))
        for tag in tags:
            expires = None if tag.expires is None else now + int(tag.expires * DAY)
            await graph.tag(tag.name, tag.target, at=ago(tag.age), expires_at=expires)

    await world.database.write(work)
    return repository_id


async def preview(shown, repository_id, proposed):
    """All that a preview says goes, page by page; its totals say the same."""
    tags: set[str] = set()
    untagged: set[str] = set()
    after, totals = "", None
    while after is not None:
        page = await shown.preview(OPERATOR, repository_id, proposed, after=after, limit=3)
        totals = totals or page.proposed
        for line in page.lines:
            if line.proposed.goes:
                (untagged if line.name is None else tags).add(line.name or line.digest)
        after = page.after
    assert (totals.tags, totals.untagged) == (len(tags), len(untagged))
    return tags, untagged


async def tags_of(world, repository_id):
    rows = await world.rows("SELECT name FROM tags WHERE repository_id = :id", id=repository_id)
    return {str(row[0]) for row in rows}


async def orphans_of(world, repository_id):
    rows = await world.rows(
        "SELECT digest FROM manifests WHERE repository_id = :id AND orphaned_at IS NOT NULL",
        id=repository_id,
    )
    return {str(row[0]) for row in rows}


async def manifests_of(world, repository_id):
    rows = await world.rows(
        "SELECT digest FROM manifests WHERE repository_id = :id", id=repository_id
    )
    return {str(row[0]) for row in rows}
