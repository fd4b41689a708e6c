"""An object that a store does not show: asked for again once a minute, never by each pull."""

import asyncio

import pytest

from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.stored import pieces_of
from entrepot.db import blobs
from entrepot.model.clock import MINUTE
from entrepot.model.errors import ObjectMissing, Unavailable
from entrepot.services import objects
from entrepot.services.access import OPERATOR
from entrepot.services.objects import Objects
from tests.blobs.places import PREFIX, place_of
from tests.services.conftest import address
from tests.services.test_content import document, push
from tests.support import s3_faults
from tests.support.kept import KeptObjects

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_retries")]  # a real S3 server

HERE = address("acme/app")
CONTENT = b"popular" * 1_000
OTHER = b"altered" * 1_000


@pytest.fixture
def place(bucket, s3_proxy):
    store = ObjectStore(place_of(bucket.behind(s3_proxy.origin)))
    return store, KeptObjects(bucket, f"{PREFIX}/")


class Stand:
    """A blob, what its store answers, and a process that has it pulled."""

    def __init__(self, world, proxy, bucket, digest):
        self._world = world
        self._proxy = proxy
        self._bucket = bucket
        self.digest = digest
        self.objects = self.process()

    def process(self):
        return Objects(self._world.database, self._world.store, self._world.clock)

    async def blob(self):
        repository = await self._world.addresses.where(HERE)
        async with self._world.database.read() as tx:
            return await blobs.find(tx, repository.id, str(self.digest))

    async def pull(self, process=None):
        opened = await (process or self.objects).open(await self.blob())
        return b"".join([piece async for piece in pieces_of(opened)])

    async def lose(self):
        """Somebody pulls it, the store does not show it, and that is noted."""
        self.hide()
        with pytest.raises(ObjectMissing):
            await self.pull()
        await asyncio.gather(*self.objects._running.values(), return_exceptions=True)
        assert (await self.blob()).is_damaged

    def hide(self):
        self._proxy.on("GetObject", s3_faults.refused(404, "NoSuchKey"), times=None)

    def show(self):
        self._proxy.mend()

    def put(self, content):
        (name,) = self._bucket.objects()
        self._bucket.client().put_object(Bucket=self._bucket.name, Key=name, Body=content)

    def asked(self):
        """How often the store was asked for the bytes since the last look."""
        count = self._proxy.count("GetObject")
        self._proxy.log.clear()
        return count


@pytest.fixture
async def stand(world, s3_proxy, bucket):
    return Stand(world, s3_proxy, bucket, await world.upload(OPERATOR, HERE, CONTENT))


async def test_a_loss_that_passed_is_served_a_minute_later(world, stand):
    await stand.lose()
    stand.show()

    world.clock.advance(MINUTE)

    assert await stand.pull() == CONTENT
    assert not (await stand.blob()).is_damaged
    await push(world, OPERATOR, HERE, document(config=CONTENT))


async def test_meanwhile_the_row_answers_and_the_store_is_not_asked(world, stand):
    await stand.lose()
    stand.show()
    stand.asked()

    world.clock.advance(MINUTE // 2)
    for _ in range(20):
        with pytest.raises(ObjectMissing):
            await stand.pull()

    assert stand.asked() == 0


async def test_a_loss_that_lasts_is_asked_for_once_a_minute(world, stand):
    await stand.lose()

    for _ in range(3):
        stand.asked()
        world.clock.advance(MINUTE)
        with pytest.raises(ObjectMissing):
            await stand.pull()
        assert stand.asked() > 0
        for _ in range(9):
            with pytest.raises(ObjectMissing):
                await stand.pull()
        assert stand.asked() == 0


async def test_a_crowd_waits_for_the_one_who_asks(world, stand):
    await stand.lose()
    stand.show()
    stand.asked()
    world.clock.advance(MINUTE)
    blob = await stand.blob()

    await asyncio.gather(*(stand.objects.open(blob) for _ in range(20)))

    assert stand.asked() == 1


async def test_a_process_that_has_not_asked_yet_does_so_at_once(stand):
    await stand.lose()
    stand.show()

    assert await stand.pull(stand.process()) == CONTENT


async def test_a_store_that_is_away_is_asked_once_a_minute_as_well(world, stand, monkeypatch):
    async def refuse(*_):
        stand.tried += 1
        raise Unavailable("the object store does not answer")

    await stand.lose()
    monkeypatch.setattr(world.store, "read_back", refuse)
    stand.tried = 0
    world.clock.advance(MINUTE)

    with pytest.raises(Unavailable):
        await stand.pull()
    with pytest.raises(ObjectMissing):
        await stand.pull()

    assert stand.tried == 1


async def test_altered_bytes_are_not_asked_for_again(world, stand):
    await stand.lose()
    stand.show()
    stand.put(OTHER)
    world.clock.advance(MINUTE)
    with pytest.raises(ObjectMissing):
        await stand.pull()
    stand.asked()

    world.clock.advance(MINUTE)
    with pytest.raises(ObjectMissing):
        await stand.pull()

    assert stand.asked() == 0


async def test_of_many_losses_only_the_last_are_remembered(world, stand, monkeypatch):
    monkeypatch.setattr(objects, "_REMEMBERED", 2)
    digests = [await world.upload(OPERATOR, HERE, b"%d" % number) for number in range(4)]
    stand.hide()
    for digest in digests:
        stand.digest = digest
        with pytest.raises(ObjectMissing):
            await stand.pull(stand.objects)
        await asyncio.gather(*stand.objects._running.values(), return_exceptions=True)

    assert len(stand.objects._asked) == 2
