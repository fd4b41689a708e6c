"""Collection when the store or the database fails: what it was about stays, and it is told."""

from contextlib import asynccontextmanager

import pytest

from entrepot.db import collection
from entrepot.model.clock import HOUR, MINUTE
from entrepot.model.errors import Conflict, StorageFailed, StorageFull, Unavailable
from entrepot.services.collection_guard import EPOCH
from tests.services.collecting import DELAY, GRACE, WINDOW, Yard, digest_of

APP = "acme/app"


@pytest.fixture
def yard(world):
    return Yard(world)


class FailingStore:
    """A store that fails at one of its calls, for some keys or for all."""

    def __init__(self, store, method, error, keys=None):
        self._store = store
        self._method = method
        self._error = error
        self._keys = keys

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name != self._method:
            return method

        def failing(*arguments):
            if self._keys is None or arguments[0] in self._keys:
                raise self._error
            return method(*arguments)

        return failing


class FailingDatabase:
    """A database that fails before its Nth statement or COMMIT, or right behind that COMMIT."""

    def __init__(self, database, nth, error):
        self._database = database
        self.left = nth
        self._error = error

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise self._error

    @asynccontextmanager
    async def read(self, **options):
        async with self._database.read(**options) as tx:
            yield _Failing(tx, self._count)

    async def write(self, work, **options):
        async def counted(tx):
            result = await work(_Failing(tx, self._count))
            self._count()
            return result

        result = await self._database.write(counted, **options)
        self._count()
        return result


class _Failing:
    def __init__(self, tx, count):
        self._tx = tx
        self._count = count

    async def fetch_one(self, sql, **values):
        self._count()
        return await self._tx.fetch_one(sql, **values)

    async def fetch_all(self, sql, **values):
        self._count()
        return await self._tx.fetch_all(sql, **values)

    async def execute(self, sql, **values):
        self._count()
        return await self._tx.execute(sql, **values)


async def buried(yard, *contents):
    """Blobs that nothing needs, whose objects are due."""
    for content in contents:
        await yard.upload(APP, content)
    yard.world.clock.advance(GRACE + HOUR)
    await yard.collect()
    yard.world.clock.advance(DELAY + 1)


async def test_an_object_that_the_store_refuses_to_delete_keeps_its_row_and_is_tried_again(yard):
    await buried(yard, b"one", b"other")
    key = yard.objects()[0]
    store = FailingStore(yard.store, "remove", StorageFailed("the disk failed"), {key})

    done = await yard.collection(store=store).run()

    assert (done.objects, done.refused) == (1, 1)
    assert yard.objects() == [key]
    yard.check()
    facts = await yard.status.look()
    assert (facts.objects.refused, facts.store_error) == (1, "the disk failed")
    assert not (await yard.collect()).objects, "not before its time"
    yard.world.clock.advance(2 * MINUTE)
    assert (await yard.collect()).objects == 1
    assert not yard.objects()


@pytest.mark.parametrize("method", ["read_epoch", "advance_epoch"])
@pytest.mark.parametrize("error", [StorageFailed("failed"), StorageFull("full")])
async def test_nothing_goes_while_the_store_cannot_keep_the_epoch(yard, method, error):
    await buried(yard, b"one")
    store = FailingStore(yard.store, method, error)

    with pytest.raises(type(error)):
        await yard.collection(store=store).run()

    assert len(yard.objects()) == 1
    yard.check()
    await yard.collect()
    assert not yard.objects()


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        *(Unavailable("away"), StorageFailed("failed"), StorageFull("full")),
        *(Conflict("others"), RuntimeError("a mistake of ours")),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_database_that_fails_at_any_statement_loses_nothing(yard, error):
    kept = await yard.image(APP, "kept", layers=[b"shared"])
    nth, failed = 0, True
    while failed:
        nth += 1 if isinstance(error, Unavailable) else 7
        gone = await yard.image(APP, "gone", layers=[b"shared", b"own"], note="gone")
        await yard.index(APP, [gone], "index")
        for tag in ("gone", "index"):
            await yard.delete_tag(APP, tag)
        yard.world.clock.advance(WINDOW + HOUR)
        database = FailingDatabase(yard.database, nth, error)
        try:
            await yard.collection(database).run()
        except type(error):
            pass
        failed = database.left <= 0
        yard.check()
        for _ in range(2):
            yard.world.clock.advance(2 * HOUR)
            await yard.collect()
        assert await yard.manifests() == {kept}
        assert len(yard.objects()) == 2
    assert nth > 10


async def test_one_that_cannot_be_judged_does_not_hold_up_the_others(yard, monkeypatch):
    bad, good = [await yard.upload(APP, content) for content in (b"bad", b"good")]
    yard.world.clock.advance(GRACE + HOUR)
    judge = collection.finish

    async def finish(tx, reviews):
        if any(review.digest == bad for review in reviews):
            raise Conflict("another change came first")
        return await judge(tx, reviews)

    monkeypatch.setattr(collection, "finish", finish)
    done = await yard.collection().run()

    assert done.failed == 1
    assert await yard.blobs() == {bad}
    assert good != bad
    ((_, digest, reason, _),) = await yard.queue()
    assert (digest, reason) == (bad, "failed: another change came first")
    yard.check()


async def test_a_database_from_a_backup_stops_collection_until_somebody_has_compared(yard):
    await buried(yard, b"one")
    await yard.collect()
    await buried(yard, b"other")
    await yard.execute("UPDATE installation SET value = '0' WHERE name = :name", name=EPOCH)

    done = await yard.collection().run()

    assert done.stopped is not None
    assert "the database is older than the store" in done.stopped
    assert len(yard.objects()) == 1
    assert (await yard.status.look()).stopped == done.stopped
    await yard.guard.accept()
    assert (await yard.collect()).stopped is None
    assert not yard.objects()


async def test_a_store_from_a_backup_stops_collection(yard):
    for content in (b"one", b"two"):
        await buried(yard, content)
        await yard.collect()
    (yard.world.data / "blobs" / "collection.epoch").unlink()

    done = await yard.collection().run()

    assert done.stopped is not None
    assert "the store is older than the database" in done.stopped
    await yard.guard.accept()
    assert (await yard.collection().run()).stopped is None


async def test_a_crash_between_the_two_halves_of_the_epoch_is_no_reason_to_stop(yard):
    await buried(yard, b"one")
    store = FailingStore(yard.store, "advance_epoch", StorageFailed("failed"), {1})
    with pytest.raises(StorageFailed):
        await yard.collection(store=store).run()
    assert yard.store.read_epoch() == 0
    assert await yard.world.rows("SELECT value FROM installation WHERE name = :n", n=EPOCH) == [
        ("1",)
    ]

    assert (await yard.collect()).objects == 1


async def test_an_epoch_that_cannot_be_read_keeps_everything(yard):
    await buried(yard, b"one")
    (yard.world.data / "blobs" / "collection.epoch").write_text("what?")

    with pytest.raises(StorageFailed, match="fsck"):
        await yard.collection().run()

    assert len(yard.objects()) == 1
    assert digest_of(b"one") not in await yard.blobs()
