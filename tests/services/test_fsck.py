"""Fsck finds what does not fit, mends what can be mended, and blames nothing that is right."""

import asyncio

import pytest

from entrepot.db import fsck, installation, tombstones
from entrepot.model.clock import DAY, HOUR
from entrepot.model.digests import Digest
from entrepot.model.names import Tag
from entrepot.services.access import OPERATOR
from entrepot.services.collection_guard import EPOCH, CollectionGuard
from entrepot.services.fsck import Fsck, FsckLimits
from tests.services.conftest import address
from tests.services.test_content import document, push
from tests.support import damage
from tests.support.invariants import check_invariants

HERE = address("acme/app")
CONTENT = b"c" * 5_000
LAYER = b"l" * 7_000


def _digests(*contents):
    return [Digest.of(content) for content in contents]


class Check:
    """Runs fsck on the world's database and store."""

    def __init__(self, world):
        self.world = world
        self.guard = CollectionGuard(world.database, world.store)

    async def run(self, *, repair=False, grace=DAY):
        check = Fsck(
            self.world.database,
            self.world.store,
            self.world.clock,
            self.guard,
            FsckLimits(grace, HOUR),
            repair=repair,
            progress=lambda *_: None,
        )
        return [finding async for finding in check.run()]

    async def kinds(self, **options):
        return [finding.kind for finding in await self.run(**options)]

    async def change(self, sql, **values):
        await self.world.database.write(lambda tx: tx.execute(sql, **values))

    async def break_foreign_keys(self, sql, **values):
        """As a bug or another program would, past the database's own checks."""
        if self.world.url.startswith("sqlite"):
            import sqlite3

            with sqlite3.connect(self.world.url.removeprefix("sqlite:///")) as connection:
                connection.execute(sql, values)
            return

        async def work(tx):
            await tx.execute("SET LOCAL session_replication_role = replica")
            await tx.execute(sql, **values)

        await self.world.database.write(work)

    def path_of(self, key):
        return self.world.data / "blobs" / key[:2] / key

    async def key_of(self, digest):
        ((key,),) = await self.world.rows(
            "SELECT storage_key FROM blobs WHERE digest = :digest", digest=str(digest)
        )
        return key


@pytest.fixture
async def image(world):
    """An image with a tag in one repository, and its parts in another."""
    for where in (HERE, address("acme/other"), address("globex/app")):
        for content in (CONTENT, LAYER):
            await world.upload(OPERATOR, where, content)
    body = document(LAYER, config=CONTENT)
    await push(world, OPERATOR, address("acme/other"), body)
    return (await push(world, OPERATOR, HERE, body, "v1")).digest


@pytest.fixture
async def check(world, image):
    return Check(world)


async def test_nothing_wrong_is_nothing_found(world, check):
    assert await check.run() == []
    assert await check.run(repair=True, grace=0) == []


async def test_a_check_beside_pushes_and_deletions_finds_nothing(world, check):
    is_done = asyncio.Event()

    async def work(number):
        where = address(f"acme/busy-{number}")
        for turn in range(12):
            layer = b"%d" % turn * 999
            await world.upload(OPERATOR, where, layer)
            await world.upload(OPERATOR, where, CONTENT)
            await push(world, OPERATOR, where, document(layer, config=CONTENT), "v1", f"v{turn}")
            await world.delete.tag(OPERATOR, where, Tag.parse(f"v{turn}"))

    async def checks():
        found = []
        while not is_done.is_set():
            found += await check.run()
        return found

    checking = asyncio.create_task(checks())
    await asyncio.gather(*(work(number) for number in range(3)))
    is_done.set()

    assert await checking == []


async def test_a_missing_and_a_short_object_are_found_and_become_damage(world, check):
    first, second = [await check.key_of(digest) for digest in _digests(CONTENT, LAYER)]
    damage.remove(check.path_of(first))
    damage.truncate(check.path_of(second))

    assert await check.kinds() == ["blob whose object is missing or cut"] * 2
    mended = await check.run(repair=True)

    assert [finding.is_mended for finding in mended] == [True, True]
    assert await check.run() == []  # known damage is scrub's to tell
    for content in (CONTENT, LAYER):
        await world.upload(OPERATOR, HERE, content)
    check_invariants(world.url, world.data, now=world.clock.now() / 1e6, late_seconds=1e9)


async def test_an_object_that_nothing_knows_is_buried_once_it_is_old(world, check):
    key = world.store.new_key()
    check.path_of(key).write_bytes(b"stray")

    assert await check.run() == []
    world.clock.advance(2 * DAY)
    assert await check.kinds() == ["object that nothing knows"]
    assert [finding.is_mended for finding in await check.run(repair=True)] == [True]

    assert await check.run() == []
    buried = await world.rows("SELECT storage_key, size FROM tombstones")
    assert (key, 5) in buried
    assert check.path_of(key).exists()


async def test_a_file_that_is_no_object_is_found_and_left(world, check):
    path = world.data / "blobs" / "00" / "notes.txt"
    path.write_text("mine")
    world.clock.advance(2 * DAY)

    (finding,) = await check.run(repair=True)

    assert (finding.what, finding.is_mended) == ("notes.txt", False)
    assert path.exists()


async def test_a_tombstone_of_an_object_in_use_is_taken_away(world, check):
    key = await check.key_of(_digests(CONTENT)[0])
    await world.database.write(
        lambda tx: tombstones.bury(tx, storage_key=key, digest="", size=1, due_at=1)
    )

    assert await check.kinds() == ["tombstone of an object in use"]
    await check.run(repair=True)

    assert await check.run() == []
    assert (key,) not in await world.rows("SELECT storage_key FROM tombstones")


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("tag of no manifest", "UPDATE manifests SET deleted_at = 1"),
        ("manifest that lacks a blob", "UPDATE blob_links SET deleted_at = 1"),
        ("link to no blob", "DELETE FROM blobs"),
        ("tag without its history", "UPDATE tag_history SET version = version + 7"),
        ("history of no tag", "DELETE FROM tags"),
        ("manifest with other bytes", "UPDATE manifests SET body = body || body"),
        (
            "manifest with other references than its bytes say",
            "DELETE FROM manifest_blobs WHERE digest = (SELECT MIN(digest) FROM manifest_blobs)",
        ),
    ],
)
async def test_a_reference_that_leads_nowhere_is_found(check, kind, sql):
    if "body ||" in sql:
        await check.change("UPDATE manifests SET body = :body", body=b"{}")
    else:
        await check.break_foreign_keys(sql)

    assert kind in await check.kinds(repair=True)
    assert kind in await check.kinds()


async def test_every_kind_of_reference_can_be_asked_for(world, check):
    async with world.database.read() as tx:
        for kind in fsck.BROKEN:
            assert await fsck.find_broken(tx, kind, limit=10) == []


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE organisation_content SET holders = holders + 2",
        "DELETE FROM organisation_content",
        "UPDATE byte_deltas SET bytes = bytes + 11",
        "DELETE FROM byte_deltas",
        "UPDATE byte_deltas SET tags = tags + 3",
    ],
)
async def test_accounts_that_do_not_add_up_are_put_right(world, check, sql):
    await check.change(sql)

    assert await check.run() != []
    assert all(finding.is_mended for finding in await check.run(repair=True))

    assert await check.run() == []
    check_invariants(world.url, world.data, now=world.clock.now() / 1e6, late_seconds=1e9)


async def test_holders_of_what_is_gone_are_put_right(world, check):
    ((organisation,),) = await world.rows("SELECT id FROM organisations WHERE slug = 'acme'")
    await check.change(
        "INSERT INTO organisation_content (organisation_id, digest, holders) VALUES (:id, 'x', 3)",
        id=organisation,
    )

    await check.run(repair=True)

    assert await check.run() == []
    assert await world.rows("SELECT 1 FROM organisation_content WHERE digest = 'x'") == []


@pytest.mark.parametrize("is_older", ["database", "store"])
async def test_collection_goes_on_once_nothing_is_left_that_does_not_fit(world, check, is_older):
    if is_older == "database":
        world.store.advance_epoch(50)
    else:
        await world.database.write(lambda tx: installation.put(tx, EPOCH, "50"))
    check.path_of(world.store.new_key()).write_bytes(b"stray")
    world.clock.advance(2 * DAY)
    assert await check.guard.why_stopped() is not None

    assert await check.run() != []
    assert await check.guard.why_stopped() is not None

    await check.run(repair=True)
    assert await check.guard.why_stopped() is None


async def test_damage_that_is_known_does_not_keep_collection_from_going_on(world, check):
    digest = _digests(CONTENT)[0]
    damage.remove(check.path_of(await check.key_of(digest)))
    await check.run(repair=True)
    world.store.advance_epoch(50)

    assert await check.run() == []
    assert await check.guard.why_stopped() is None


async def test_a_store_that_cannot_be_read_is_not_taken_for_an_empty_one(world, check):
    path = check.path_of(await check.key_of(_digests(CONTENT)[0]))
    aside = path.rename(path.with_name("aside"))
    path.symlink_to(path)

    (finding,) = await check.run(repair=True)

    assert (finding.kind, finding.is_mended) == ("object that the store cannot read", False)
    aside.replace(path)
    assert await check.run() == []
