"""Scrub finds every damage, blames nothing that is right, and a push heals."""

import asyncio

import pytest

from entrepot.db import blobs
from entrepot.model.clock import DAY, HOUR
from entrepot.model.errors import ManifestBlobUnknown, ObjectMissing, StorageFailed, Unavailable
from entrepot.services.access import OPERATOR
from entrepot.services.objects import Objects
from entrepot.services.scrub import Pace, Scrub, ScrubLimits
from tests.services.conftest import address
from tests.services.test_content import document, push
from tests.support import damage
from tests.support.damage import DAMAGES
from tests.support.invariants import check_invariants

HERE = address("acme/app")
CONTENT = bytes(range(256)) * 1_000
OTHER = bytes(reversed(range(256))) * 1_000


class Reading:
    """The world's objects, and a scrub that reads as fast as it can."""

    def __init__(self, world):
        self.world = world
        self.counts = {}
        self.objects = Objects(world.database, world.store, world.clock, self._count)
        self.scrub = self.new()

    def new(self):
        limits = ScrubLimits(1 << 50, 30 * DAY)
        return Scrub(self.world.database, self.objects, self.world.clock, limits, self._count)

    def _count(self, operation, value):
        self.counts[operation] = self.counts.get(operation, 0) + value

    async def blob(self, digest):
        repository = await self.world.addresses.where(HERE)
        async with self.world.database.read() as tx:
            return await blobs.find(tx, repository.id, str(digest))

    async def path(self, digest):
        key = (await self.blob(digest)).storage_key
        return self.world.data / "blobs" / key[:2] / key

    async def open(self, digest):
        return await self.objects.open(await self.blob(digest))

    async def look_right(self, digest):
        """The disk rots below the file system: nothing but the bytes has changed."""
        stamp = (await self.path(digest)).stat().st_ctime_ns
        await self.world.database.write(
            lambda tx: tx.execute(
                "UPDATE blobs SET stamp = :stamp WHERE digest = :digest",
                stamp=stamp,
                digest=str(digest),
            )
        )

    async def damaged(self):
        return [report.damaged.digest async for report in self.scrub.report()]

    def let_time_pass(self):
        self.world.clock.advance(31 * DAY)


@pytest.fixture
async def reading(world):
    return Reading(world)


async def test_what_was_just_stored_is_not_read_again(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)

    assert await reading.scrub.sweep() == 0
    assert (await reading.open(digest)).size == len(CONTENT)
    assert reading.counts == {}


async def test_every_object_is_read_once_in_its_time(world, reading):
    for number in range(20):
        await world.upload(OPERATOR, HERE, b"%d" % number)
    reading.let_time_pass()

    rounds = await asyncio.gather(*(reading.new().sweep() for _ in range(3)))

    assert sum(rounds) == 20
    assert await reading.scrub.sweep() == 0
    assert reading.counts["objects"] == 20
    assert await reading.damaged() == []


@pytest.mark.parametrize("how", DAMAGES)
async def test_scrub_finds_damage_that_nothing_shows(world, reading, how):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    right = await world.upload(OPERATOR, HERE, OTHER)
    DAMAGES[how](await reading.path(digest))
    if how != "removed":
        await reading.look_right(digest)
    reading.let_time_pass()

    await reading.scrub.sweep()

    assert await reading.damaged() == [str(digest)]
    with pytest.raises(ObjectMissing):
        await reading.open(digest)
    assert (await reading.open(right)).size == len(OTHER)


async def test_two_objects_in_each_others_place_are_found(world, reading):
    digests = [await world.upload(OPERATOR, HERE, content) for content in (CONTENT, OTHER)]
    damage.swap(*[await reading.path(digest) for digest in digests])
    for digest in digests:
        await reading.look_right(digest)
    reading.let_time_pass()

    await reading.scrub.sweep()

    assert await reading.damaged() == sorted(map(str, digests))


@pytest.mark.parametrize("how", DAMAGES)
async def test_an_object_that_changed_is_read_before_anybody_gets_it(world, reading, how):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    DAMAGES[how](await reading.path(digest))

    with pytest.raises(ObjectMissing):
        await reading.open(digest)

    assert await reading.damaged() == [str(digest)]


async def test_an_object_that_only_looks_changed_is_read_once_for_all(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    damage.touch(await reading.path(digest))

    await asyncio.gather(*(reading.open(digest) for _ in range(20)))
    await reading.open(digest)

    assert reading.counts == {"objects": 1, "bytes": len(CONTENT)}
    assert await reading.damaged() == []


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("is_known", [False, True])
async def test_the_next_push_heals(world, reading, how, is_known):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    before = await reading.path(digest)
    DAMAGES[how](before)
    if is_known:
        reading.let_time_pass()
        await reading.scrub.sweep()

    await world.upload(OPERATOR, HERE, CONTENT)

    file = await reading.open(digest)
    assert file.path.read_bytes() == CONTENT
    assert file.path != before
    assert await reading.damaged() == []
    buried = await world.rows("SELECT storage_key FROM tombstones")
    assert buried == [(before.name,)]


async def test_a_damaged_blob_is_not_here_for_whoever_could_push_it(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    elsewhere = address("acme/elsewhere")
    damage.flip(await reading.path(digest))
    with pytest.raises(ObjectMissing):
        await reading.open(digest)

    with pytest.raises(ManifestBlobUnknown) as refused:
        await push(world, OPERATOR, HERE, document(config=CONTENT))
    assert refused.value.values["missing"] == [str(digest)]
    assert not await world.mount.blob(OPERATOR, elsewhere, HERE, digest)


async def test_a_store_that_fails_proves_nothing(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    path = await reading.path(digest)
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(path)  # any use of it fails, and not because it was not found
    reading.let_time_pass()

    assert await reading.scrub.sweep() == 1
    with pytest.raises(StorageFailed):
        await reading.open(digest)

    assert reading.counts == {"failures": 1}
    assert await reading.damaged() == []
    aside.replace(path)
    world.clock.advance(13 * HOUR)
    assert await reading.scrub.sweep() == 1
    assert reading.counts["objects"] == 1


async def test_a_store_that_is_away_is_not_an_empty_one(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    blobs_folder = world.data / "blobs"
    blobs_folder.rename(world.data / "away")
    blobs_folder.mkdir()
    reading.let_time_pass()

    assert await reading.scrub.sweep() == 1
    with pytest.raises(StorageFailed):
        await reading.open(digest)

    assert await reading.damaged() == []


async def test_what_an_object_store_says_is_told(world, reading, monkeypatch):
    async def refuse(*_):
        raise Unavailable("the object store does not answer", store="503 SlowDown")

    await world.upload(OPERATOR, HERE, CONTENT)
    monkeypatch.setattr(world.store, "read_back", refuse)

    (found,) = [each async for each in reading.scrub.all()]

    assert found.outcome == "unreadable"
    assert "503 SlowDown" in found.error
    assert await reading.damaged() == []


async def test_a_round_ends_when_the_store_fails_again_and_again(world, reading):
    for number in range(15):
        await world.upload(OPERATOR, HERE, b"%d" % number)
    (world.data / "blobs").rename(world.data / "away")
    reading.let_time_pass()

    assert await reading.scrub.sweep() == 10


async def test_what_was_missing_and_is_back_as_it_was_is_served_again(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    path = await reading.path(digest)
    away = path.parent.with_name("away")
    path.parent.rename(away)  # as of a disk that was not mounted: the file itself is untouched
    path.parent.mkdir()
    with pytest.raises(ObjectMissing):
        await reading.open(digest)
    assert await reading.damaged() == [str(digest)]

    path.parent.rmdir()
    away.rename(path.parent)

    assert (await reading.open(digest)).path.read_bytes() == CONTENT
    assert await reading.damaged() == []


async def test_what_an_operator_puts_right_is_found_within_a_day(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    path = await reading.path(digest)
    damage.flip(path)
    with pytest.raises(ObjectMissing):
        await reading.open(digest)
    path.write_bytes(CONTENT)

    world.clock.advance(DAY + HOUR)
    await reading.scrub.sweep()

    assert await reading.damaged() == []
    assert (await reading.open(digest)).size == len(CONTENT)


async def test_a_scrub_that_was_killed_is_gone_on_with(world, reading):
    for content in (CONTENT, OTHER):
        await world.upload(OPERATOR, HERE, content)
    reading.let_time_pass()
    killed = reading.new()
    await world.database.write(killed._claim)  # and no more: that was its end

    assert await reading.scrub.sweep() == 1
    world.clock.advance(13 * HOUR)
    assert await reading.scrub.sweep() == 1
    world.clock.advance(13 * HOUR)
    assert await reading.scrub.sweep() == 0


async def test_a_push_that_heals_while_scrub_reads_is_not_blamed(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    damage.flip(await reading.path(digest))
    stale = await reading.blob(digest)
    await world.upload(OPERATOR, HERE, CONTENT)

    with pytest.raises(ObjectMissing):
        await reading.objects.examine(stale)

    assert await reading.damaged() == []
    assert (await reading.open(digest)).path.read_bytes() == CONTENT


async def test_a_blob_that_is_collected_while_scrub_reads_is_not_blamed(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    stale, path = await reading.blob(digest), await reading.path(digest)

    async def collect(tx):
        await tx.execute("DELETE FROM blob_links")
        await tx.execute("DELETE FROM blobs")

    await world.database.write(collect)
    path.unlink()

    with pytest.raises(ObjectMissing):
        await reading.objects.examine(stale)

    assert "damaged" not in reading.counts
    assert await reading.damaged() == []


async def test_scrubs_pushes_and_damage_at_once_end_well(world, reading):
    digests = [await world.upload(OPERATOR, HERE, b"%d" % number * 999) for number in range(10)]
    for digest in digests[::2]:
        damage.flip(await reading.path(digest))
    reading.let_time_pass()

    async def heal():
        for number in range(10):
            await world.upload(OPERATOR, HERE, b"%d" % number * 999)

    await asyncio.gather(reading.new().sweep(), heal(), reading.new().sweep(), heal())

    for number, digest in enumerate(digests):
        assert (await reading.open(digest)).path.read_bytes() == b"%d" % number * 999
    assert await reading.damaged() == []
    check_invariants(world.url, world.data, now=world.clock.now() / 1e6, late_seconds=1e9)


async def test_a_report_names_the_tags_that_lead_to_damage(world, reading):
    digest = await world.upload(OPERATOR, HERE, CONTENT)
    await push(world, OPERATOR, HERE, document(config=CONTENT), "v1", "v2")
    damage.remove(await reading.path(digest))
    reading.let_time_pass()
    await reading.scrub.sweep()

    (report,) = [report async for report in reading.scrub.report()]

    assert (report.damaged.digest, report.damaged.size) == (str(digest), len(CONTENT))
    assert {(found.organisation, found.repository, found.tag) for found in report.affected} == {
        ("acme", "app", "v1"),
        ("acme", "app", "v2"),
    }


async def test_manifests_are_read_again_too(world, reading):
    await world.upload(OPERATOR, HERE, CONTENT)
    manifest = await push(world, OPERATOR, HERE, document(config=CONTENT), "v1")
    assert await reading.scrub.sweep_manifests() == 1
    assert await reading.scrub.sweep_manifests() == 0
    await world.database.write(
        lambda tx: tx.execute("UPDATE manifests SET body = :body", body=b"{}")
    )
    reading.let_time_pass()

    found = [scrubbed async for scrubbed in reading.scrub.manifests()]

    assert [(each.digest, each.outcome) for each in found] == [(str(manifest.digest), "damaged")]
    assert await reading.scrub.sweep_manifests() == 1


def test_the_pace_is_kept_over_many_small_and_few_large_pieces():
    pace = Pace(1_000)

    assert pace.delay(500, now=10.0) == 0.5
    assert pace.delay(500, now=10.0) == 1.0
    assert pace.delay(2_000, now=20.0) == 2.0
