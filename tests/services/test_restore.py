"""Undoing, against the clock and collection: what comes back, for how long, and what it takes along."""

import asyncio
import itertools
import json
from bisect import bisect
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.db import tag_history
from entrepot.model.clock import DAY, HOUR, MINUTE
from entrepot.model.digests import Digest
from entrepot.model.errors import ManifestUnknown, NotFound, Taken
from entrepot.model.names import Tag
from entrepot.model.retention import Retention
from entrepot.services.access import OPERATOR
from entrepot.services.deletions import Deletions
from entrepot.services.projects import Projects
from entrepot.services.repositories import Repositories
from entrepot.services.restore import AT_ONCE, Restore
from entrepot.services.retention_plan import RetentionPlan
from entrepot.services.retention_run import RetentionRun
from tests.services.collecting import WINDOW, Yard

APP = "acme/app"
_numbers = itertools.count()


class Bench:
    """A registry in which things are deleted, go, and come back; short words."""

    def __init__(self, world):
        self.world = world
        self.yard = Yard(world)
        common = (world.database, world.clock, world.access)
        self.restore = Restore(*common, window=WINDOW)
        self.repositories = Repositories(*common, world.addresses, window=WINDOW)
        projects = Projects(*common, self.repositories)
        self.deletions = Deletions(*common, self.repositories, projects)
        plan = RetentionPlan(world.database, Retention(days=7), restore=WINDOW)
        self.runs = RetentionRun(*common, plan, restore=WINDOW, every=HOUR)

    async def id_of(self, path=APP):
        return (await self.yard.repository(path)).id

    async def tag(self, name, path=APP, **which):
        return await self.restore.tag(OPERATOR, await self.id_of(path), Tag.parse(name), **which)

    async def manifest(self, digest, path=APP):
        return await self.restore.manifest(OPERATOR, await self.id_of(path), Digest.parse(digest))

    async def tags(self, path=APP):
        rows = await self.world.rows(
            "SELECT name, digest FROM tags WHERE repository_id = :id", id=await self.id_of(path)
        )
        return {str(name): str(digest) for name, digest in rows}

    async def live(self):
        rows = await self.world.rows(
            "SELECT digest FROM manifests WHERE deleted_at IS NULL AND orphaned_at IS NULL"
        )
        return {str(row[0]) for row in rows}


@pytest.fixture
def bench(world):
    return Bench(world)


async def test_what_came_back_is_not_collected_and_its_bytes_count_as_before(bench):
    digest = await bench.yard.image(APP, "v1", layers=[b"layer"])
    before = await bench.world.bytes_of()
    await bench.yard.delete_tag(APP, "v1")
    bench.world.clock.advance(WINDOW - HOUR)
    await bench.yard.collect()

    await bench.tag("v1")
    bench.world.clock.advance(2 * HOUR)
    await bench.yard.collect_all()

    assert await bench.tags() == {"v1": digest}
    assert await bench.live() == {digest}
    assert len(bench.yard.objects()) == 2
    assert await bench.world.bytes_of() == before
    assert not await bench.yard.queue()


async def test_what_was_collected_is_refused_with_when_it_ended_and_how_long_it_had(bench):
    digest = await bench.yard.image(APP, "v1")
    await bench.yard.image(APP, "other", note="other")
    await bench.yard.delete_tag(APP, "v1")
    await bench.yard.collect_all()

    with pytest.raises(ManifestUnknown, match=f"was {digest} until .* restored until .*collected"):
        await bench.tag("v1")
    with pytest.raises(ManifestUnknown, match="longer than 24 h ago, and is gone"):
        await bench.manifest(digest)
    assert set(await bench.tags()) == {"other"}


async def test_a_tag_comes_back_with_an_index_and_all_below_it(bench):
    parts = [await bench.yard.image(APP, note=str(number)) for number in range(2)]
    inner = await bench.yard.index(APP, parts)
    outer = await bench.yard.index(APP, [inner], "v1")
    await bench.yard.delete_manifest(APP, outer)
    for digest in (inner, *parts):
        await bench.yard.delete_manifest(APP, digest)
    bench.world.clock.advance(HOUR)

    await bench.tag("v1")
    bench.yard.check()
    await bench.yard.collect_all()

    assert await bench.live() == {outer, inner, *parts}
    assert await bench.tags() == {"v1": outer}


async def test_a_signature_stays_with_an_image_that_came_back(bench):
    digest = await bench.yard.image(APP, "v1")
    bench.world.clock.advance(2 * DAY)
    signature = await bench.yard.image(APP, note="signature", subject=digest)
    await bench.yard.delete_tag(APP, "v1")
    bench.world.clock.advance(HOUR)
    await bench.tag("v1")

    await bench.yard.collect_all()

    assert await bench.yard.manifests() == {digest, signature}


async def test_coming_back_counts_as_a_push_so_that_retention_lets_it_be(bench):
    digest = await bench.yard.image(APP, "v1")
    bench.world.clock.advance(8 * DAY)
    assert (await bench.runs.run(OPERATOR, await bench.id_of())).tags == 1

    await bench.tag("v1")

    assert (await bench.runs.run(OPERATOR, await bench.id_of())).tags == 0
    bench.world.clock.advance(6 * DAY)
    assert (await bench.runs.run(OPERATOR, await bench.id_of())).tags == 0
    bench.world.clock.advance(2 * DAY)
    assert (await bench.runs.run(OPERATOR, await bench.id_of())).tags == 1
    assert digest in await bench.yard.manifests()


async def test_a_manifest_without_tags_comes_back_for_as_long_as_one_that_is_pushed(bench):
    digest = await bench.yard.image(APP)
    bench.world.clock.advance(8 * DAY)
    assert (await bench.runs.run(OPERATOR, await bench.id_of())).untagged == 1

    await bench.manifest(digest)

    assert await bench.live() == {digest}
    assert (await bench.runs.run(OPERATOR, await bench.id_of())).untagged == 0


async def test_a_wrong_policy_is_undone_in_parts_without_what_people_did(bench):
    digest = await bench.yard.image(APP, "deleted")
    await bench.yard.delete_tag(APP, "deleted")
    names = [f"v{number:03}" for number in range(2 * AT_ONCE + 5)]
    for start in range(0, len(names), 40):
        await bench.yard.image(APP, *names[start : start + 40])
    before = await bench.tags()
    bench.world.clock.advance(8 * DAY)
    await bench.yard.image(APP, "kept", note="kept")
    since = bench.world.clock.now()
    bench.world.clock.advance(MINUTE)
    ran = await bench.runs.run(OPERATOR, await bench.id_of())
    pushed = await bench.yard.image(APP, "v000", note="pushed since")
    repository_id = await bench.id_of()

    parts, after = [], ""
    while after is not None:
        part, after = await bench.restore.since(OPERATOR, repository_id, since=since, after=after)
        parts.append(part)
    later, _ = await bench.restore.since(
        OPERATOR, repository_id, since=bench.world.clock.now() + 1, after=""
    )

    assert (ran.tags, ran.is_done) == (len(names), True)
    assert [len(part.back) for part in parts] == [AT_ONCE, AT_ONCE, 4]
    assert not any(part.left for part in parts)
    tags = await bench.tags()
    assert tags == {**before, "v000": pushed, "kept": tags["kept"]}
    assert digest in tags.values()
    assert later.back == ()
    bench.yard.check()
    assert (await bench.runs.run(OPERATOR, repository_id)).tags == 0


async def test_bulk_says_which_tags_are_gone(bench):
    await bench.yard.image(APP, "v1")
    bench.world.clock.advance(8 * DAY)
    await bench.yard.image(APP, "v2", note="2")
    since = bench.world.clock.now()
    await bench.runs.run(OPERATOR, await bench.id_of())
    await bench.yard.collect_all()

    found, _ = await bench.restore.since(OPERATOR, await bench.id_of(), since=since, after="")

    assert (found.back, found.left) == ((), ("v1",))


async def test_a_repository_can_be_restored_until_its_time_is_over(bench):
    digest = await bench.yard.image(APP, "v1", "v2", layers=[b"layer"])
    await bench.yard.image("acme/late", "v1")
    ours, late = await bench.id_of(), await bench.id_of("acme/late")
    before = await bench.world.bytes_of()
    for repository_id in (ours, late):
        await bench.repositories.delete(OPERATOR, repository_id, version=None)
    bench.world.clock.advance(WINDOW - MINUTE)
    await bench.yard.collect()

    await bench.deletions.repository(OPERATOR, ours)
    bench.world.clock.advance(MINUTE)
    with pytest.raises(NotFound, match="longer than 24 h ago, and is gone"):
        await bench.deletions.repository(OPERATOR, late)
    await bench.world.uploads.sweep()
    await bench.yard.collect_all()

    assert await bench.tags() == {"v1": digest, "v2": digest}
    assert await bench.live() == {digest}
    assert (await bench.world.bytes_of())["acme", "app"] == before["acme", "app"]
    with pytest.raises(NotFound, match="no such repository"):
        await bench.deletions.repository(OPERATOR, late)


async def test_a_repository_that_returned_is_left_alone_by_retention_for_a_while(bench):
    await bench.yard.image(APP, "v1")
    bench.world.clock.advance(8 * DAY)
    ours = await bench.id_of()
    await bench.repositories.delete(OPERATOR, ours, version=None)
    await bench.deletions.repository(OPERATOR, ours)

    assert await bench.runs.sweep() == 0
    assert (await bench.runs.run(OPERATOR, ours)).tags == 0
    assert set(await bench.tags()) == {"v1"}


# What people do with two tags of three images, and how much later.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "delete", "manifest", "restore", "version", "at", "back"]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 2),
        st.integers(0, 40),
        st.integers(1, 90),
    ),
    max_size=14,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_history_has_no_gap_and_what_comes_back_is_what_was_there(play, steps):
    play(steps)


@pytest.fixture
def play(bench):
    """Plays in the loop of the fixture's database, each time in a repository of its own."""
    loop = asyncio.get_event_loop()
    return lambda steps: loop.run_until_complete(Story(bench).play(steps))


class Story:
    """A repository, and what each of its tags was at every moment, in plain Python."""

    def __init__(self, bench):
        self.bench = bench
        self.path = f"acme/story-{next(_numbers)}"
        self.now = {}  # what each tag is
        self.states = []  # (moment, what each tag was from then on)
        # By tag: (digest, from, until, how it ended).
        self.versions: dict[str, list[Any]] = {"a": [], "b": []}
        self.ended_together = {}  # by digest: the tags that the last deletion of it ended
        self.hidden = set()

    async def play(self, steps):
        bench = self.bench
        self.images = [
            await bench.yard.image(self.path, note=f"{self.path} {number}") for number in range(3)
        ]
        self.bodies = {
            str(digest): body
            for digest, body in await bench.world.rows("SELECT digest, body FROM manifests")
        }
        for what, tag, image, number, minutes in steps:
            bench.world.clock.advance(minutes * MINUTE)
            await getattr(self, f"_{what}")(tag, self.images[image], number)
            self.states.append((bench.world.clock.now(), dict(self.now)))
        await self._compare()

    def _set(self, tag, digest, how):
        """From now on the tag is that."""
        now = self.bench.world.clock.now()
        if self.now.get(tag) == digest:
            return
        if tag in self.now:
            was, since, _, _ = self.versions[tag][-1]
            self.versions[tag][-1] = (was, since, now, how)
            del self.now[tag]
        if digest is not None:
            self.versions[tag].append((digest, now, None, None))
            self.now[tag] = digest
            self.hidden.discard(digest)

    async def _push(self, tag, digest, _):
        await self.bench.yard.push(self.path, json.loads(self.bodies[digest]), tag)
        self.hidden.discard(digest)
        self._set(tag, digest, "push")

    async def _delete(self, tag, _, __):
        if tag not in self.now:
            with pytest.raises(ManifestUnknown):
                await self.bench.yard.delete_tag(self.path, tag)
            return
        await self.bench.yard.delete_tag(self.path, tag)
        self._set(tag, None, "delete")

    async def _manifest(self, _, digest, __):
        if digest in self.hidden:
            with pytest.raises(ManifestUnknown):
                await self.bench.yard.delete_manifest(self.path, digest)
            return
        await self.bench.yard.delete_manifest(self.path, digest)
        self.hidden.add(digest)
        tags = [tag for tag, named in self.now.items() if named == digest]
        self.ended_together[digest] = {tag: len(self.versions[tag]) for tag in tags}
        for tag in tags:
            self._set(tag, None, "manifest")

    async def _restore(self, tag, _, __):
        if tag in self.now or not self.versions[tag]:
            with pytest.raises(Taken if tag in self.now else ManifestUnknown):
                await self.bench.tag(tag, self.path)
            return
        found = await self.bench.tag(tag, self.path)
        assert found.digest == self.versions[tag][-1][0]
        self._set(tag, found.digest, "restore")

    async def _version(self, tag, _, number):
        version = number % (len(self.versions[tag]) + 1)
        if not version:
            with pytest.raises(ManifestUnknown):
                await self.bench.tag(tag, self.path, version=len(self.versions[tag]) + 1)
            return
        found = await self.bench.tag(tag, self.path, version=version)
        assert found.digest == self.versions[tag][version - 1][0]
        self._set(tag, found.digest, "restore")

    async def _at(self, tag, _, number):
        if not self.states:
            return
        moment, was = self.states[number % len(self.states)]
        if tag not in was:
            with pytest.raises(ManifestUnknown):
                await self.bench.tag(tag, self.path, at=moment)
            return
        found = await self.bench.tag(tag, self.path, at=moment)
        assert found.digest == was[tag]
        self._set(tag, found.digest, "restore")

    async def _back(self, _, digest, __):
        found = await self.bench.manifest(digest, self.path)
        if digest not in self.hidden:
            assert found.back == ()
            return
        self.hidden.discard(digest)
        ended = self.ended_together[digest]
        expected = sorted(
            tag
            for tag, count in ended.items()
            if tag not in self.now and len(self.versions[tag]) == count
        )
        assert list(found.back) == expected
        assert sorted(found.left) == sorted(set(ended) - set(expected))
        for tag in expected:
            self._set(tag, digest, "restore")

    async def _compare(self):
        bench = self.bench
        bench.yard.check()
        assert await bench.tags(self.path) == self.now
        repository_id = await bench.id_of(self.path)
        for tag, versions in self.versions.items():
            async with bench.world.database.read() as tx:
                found = await tag_history.page(tx, repository_id, tag, before=1 << 62, limit=100)
            assert [
                (line.version, line.digest, self._step(line.started_at), line.ended_by)
                for line in found[::-1]
            ] == [
                (number, digest, self._step(since), how)
                for number, (digest, since, _, how) in enumerate(versions, 1)
            ]
            assert [line.ended_at and self._step(line.ended_at) for line in found[::-1]] == [
                until and self._step(until) for _, _, until, _ in versions
            ]
            assert all(line.is_held for line in found)

    def _step(self, moment):
        """In which step that was: the clock goes on by itself, a microsecond each time."""
        return bisect([end for end, _ in self.states], moment - 1)
