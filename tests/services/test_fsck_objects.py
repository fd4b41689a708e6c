"""Fsck, scrub and the guard of collection where the bytes are in an object store."""

import pytest

from entrepot.db import installation, tombstones
from entrepot.model.clock import DAY, HOUR
from entrepot.model.digests import Digest
from entrepot.services.access import OPERATOR
from entrepot.services.collection_guard import EPOCH, CollectionGuard
from entrepot.services.fsck import Fsck, FsckLimits
from entrepot.services.objects import Objects
from entrepot.services.scrub import Scrub, ScrubLimits
from tests.services.collecting import Yard
from tests.services.conftest import address

pytestmark = pytest.mark.slow  # a real S3 server

HERE = address("acme/app")
PIECES = (b"first" * 100, b"second" * 100)
WHOLE = b"whole" * 100


class Bench:
    """A blob in one object and a blob in two segments, and who looks at them."""

    def __init__(self, world):
        self.world = world
        self.guard = CollectionGuard(world.database, world.store)
        self.objects = Objects(world.database, world.store, world.clock)

    async def push(self):
        await self.world.upload(OPERATOR, HERE, WHOLE)
        session = await self.open(*PIECES)
        await self.world.uploads.commit(
            OPERATOR, HERE, session, Digest.of(b"".join(PIECES)), _once(b""), None
        )

    async def open(self, *pieces):
        session = await self.world.uploads.open(OPERATOR, HERE, algorithm="sha256")
        for piece in pieces:
            session = await self.world.uploads.append(session, _once(piece), None)
        return session

    async def fsck(self, *, repair=False):
        check = Fsck(
            self.world.database,
            self.world.store,
            self.world.clock,
            self.guard,
            FsckLimits(DAY, HOUR),
            repair=repair,
            progress=lambda *_: None,
        )
        return [finding async for finding in check.run()]

    async def scrub(self):
        limits = ScrubLimits(10**9, DAY)
        scrub = Scrub(self.world.database, self.objects, self.world.clock, limits)
        return sorted([scrubbed.outcome async for scrubbed in scrub.all()])

    def name_of(self, key):
        return f"{self.world.kept.prefix}{key[:2]}/{key}"

    def put(self, name, content):
        bucket = self.world.kept.bucket
        bucket.client().put_object(Bucket=bucket.name, Key=name, Body=content)

    def remove(self, key):
        bucket = self.world.kept.bucket
        bucket.client().delete_object(Bucket=bucket.name, Key=self.name_of(key))

    async def segments(self):
        rows = await self.world.rows("SELECT object_key FROM segments ORDER BY start")
        return [str(row[0]) for row in rows]


async def _once(content):
    yield content


@pytest.fixture
def store_kind():
    return "objects"


@pytest.fixture
def database_url(postgres_url):
    """Of one kind: what fsck asks SQLite is asked in `test_fsck`."""
    return postgres_url


@pytest.fixture
async def bench(world):
    bench = Bench(world)
    await bench.push()
    return bench


async def test_nothing_wrong_is_nothing_found(world, bench):
    await bench.open(b"an open upload")
    world.clock.advance(2 * DAY)

    assert await bench.fsck() == []
    assert await bench.fsck(repair=True) == []
    assert await bench.scrub() == ["ok", "ok"]


async def test_lost_objects_are_found_and_become_damage(world, bench):
    for key in world.kept.objects():
        if key != (await bench.segments())[0]:
            bench.remove(key)

    found = await bench.fsck()
    mended = await bench.fsck(repair=True)

    assert [finding.kind for finding in found] == ["blob whose object is missing or cut"] * 2
    assert [finding.is_mended for finding in mended] == [True, True]
    assert await bench.fsck() == []
    await bench.push()
    assert await bench.scrub() == ["ok", "ok"]
    Yard(world).check()


async def test_segments_that_are_not_all_of_a_blob_are_damage(world, bench):
    await world.database.write(lambda tx: tx.execute("DELETE FROM segments WHERE start > 0"))

    (finding,) = await bench.fsck(repair=True)

    assert (finding.kind, finding.is_mended) == ("blob whose object is missing or cut", True)
    assert await bench.scrub() == ["damaged", "ok"]


async def test_an_object_that_nothing_knows_goes_once_it_is_old(world, bench):
    stray = f"{world.store.new_key()}.12345678"
    bench.put(bench.name_of(stray), b"stray")
    assert await bench.fsck() == []
    world.clock.advance(2 * DAY)

    (finding,) = await bench.fsck(repair=True)
    world.clock.advance(2 * HOUR)
    assert await bench.fsck() == []
    await Yard(world).collection().run()

    assert (finding.what, finding.is_mended) == (stray, True)
    assert stray not in world.kept.objects()


async def test_what_writers_left_is_known_for_as_long_as_their_upload(world, bench):
    session = await bench.open(b"an open upload")
    uploads = [session.storage_key, (await bench.segments())[-1].partition(".")[0]]
    for upload_key in uploads:
        bench.put(bench.name_of(f"{upload_key}.12345678"), b"of a writer that lost")
    world.clock.advance(2 * DAY)

    assert await bench.fsck(repair=True) == []


async def test_a_segment_that_is_to_be_deleted_is_kept(world, bench):
    key, _ = await bench.segments()
    await world.database.write(
        lambda tx: tombstones.bury(tx, storage_key=key, digest="", size=1, due_at=1)
    )

    await Yard(world).collection().run()

    assert key in world.kept.objects()
    (finding,) = await bench.fsck(repair=True)
    assert (finding.kind, finding.is_mended) == ("tombstone of an object in use", True)
    assert await bench.fsck() == []


async def test_an_object_of_somebody_else_is_left(world, bench):
    bench.put(f"{world.kept.prefix}00/notes.txt", b"mine")
    world.clock.advance(2 * DAY)

    (finding,) = await bench.fsck(repair=True)

    assert (finding.what, finding.is_mended) == ("notes.txt", False)
    assert "notes.txt" in world.kept.objects()


async def test_scrub_finds_segments_that_were_changed(bench):
    _, second = await bench.segments()
    bench.put(bench.name_of(second), PIECES[1][::-1])

    assert await bench.scrub() == ["damaged", "ok"]

    await bench.push()
    assert await bench.scrub() == ["ok", "ok"]


@pytest.mark.parametrize("is_older", ["database", "store"])
async def test_collection_stops_where_one_of_both_was_restored(world, bench, is_older):
    if is_older == "database":
        world.store.advance_epoch(50)
    else:
        await world.database.write(lambda tx: installation.put(tx, EPOCH, "50"))
    assert await bench.guard.why_stopped() is not None
    assert not await bench.guard.begin()

    assert await bench.fsck() == []

    assert await bench.guard.why_stopped() is None
    assert await bench.guard.begin()
