"""A store is that of one database: another one is refused before anything misses its blobs."""

import asyncio
import shutil
from dataclasses import replace

import pytest

from entrepot.blobs.disk import DiskStore
from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.store import BlobStore
from entrepot.db import installation
from entrepot.db.connect import connect
from entrepot.model.errors import StartRefused
from entrepot.services.access import OPERATOR
from entrepot.services.store_id import STORE, refuse_other_store, require_store
from tests.blobs.places import place_of, put
from tests.services.conftest import address, on_every_store

pytestmark = on_every_store


@pytest.fixture
def new_store(store_kind, request, tmp_path):
    """Makes the store of a node whose settings name this place."""
    stores = []

    def make(name):
        store: BlobStore
        if store_kind == "objects":
            bucket = request.getfixturevalue("bucket")
            store = ObjectStore(replace(place_of(bucket), prefix=name))
        else:
            store = DiskStore(tmp_path / name, tmp_path / "uploads", low_water_bytes=0)
        store.prepare()
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


@pytest.fixture
async def empty_database(sqlite_template, tmp_path):
    """What a mistaken address names: a database with the schema and without a row."""
    path = shutil.copy(sqlite_template, tmp_path / "empty.db")
    database = connect(f"sqlite:///{path}", pool_size=1)
    await database.open()
    yield database
    await database.close()


async def recorded(database):
    async with database.read() as tx:
        return await installation.find(tx, STORE)


async def pushed(world, count=1):
    """A registry from before stores had ids, with some blobs; their keys."""
    for number in range(count):
        await world.upload(OPERATOR, address("acme/app"), b"layer %d" % number)
    return [key for (key,) in await world.rows("SELECT storage_key FROM blobs ORDER BY digest")]


async def test_a_store_is_known_from_its_first_start_on_and_another_is_refused(world, new_store):
    await require_store(world.database, new_store("ours"))

    await require_store(world.database, new_store("ours"))
    other = new_store("other")
    for check in (require_store, refuse_other_store):
        with pytest.raises(StartRefused, match="ENTREPOT_BLOBS__URL"):
            await check(world.database, other)
    assert other.ids() == []


async def test_nodes_that_start_together_on_one_store_all_do(world, new_store):
    nodes = [new_store("ours") for _ in range(4)]

    await asyncio.gather(*(require_store(world.database, node) for node in nodes))

    for node in nodes:
        await require_store(world.database, node)


async def test_of_nodes_that_start_together_on_stores_of_their_own_one_does(world, new_store):
    nodes = [new_store(f"of-node-{number}") for number in range(4)]

    ends = await asyncio.gather(
        *(require_store(world.database, node) for node in nodes), return_exceptions=True
    )

    assert [type(end) for end in ends if end is not None] == [StartRefused] * 3


async def test_the_store_of_an_older_registry_is_known_by_its_blobs(world, new_store):
    await pushed(world)
    other = new_store("other")

    with pytest.raises(StartRefused, match="none of the registry's blobs"):
        await require_store(world.database, other)
    await refuse_other_store(world.database, other)  # nobody can tell yet
    await require_store(world.database, world.store)

    assert other.ids() == []
    with pytest.raises(StartRefused):
        await refuse_other_store(world.database, other)


async def test_an_older_registry_that_lost_a_blob_starts(world):
    lost, _ = await pushed(world, 2)
    world.store.remove(lost)

    await require_store(world.database, world.store)

    assert len(world.store.ids()) == 1


async def test_another_database_that_is_empty_is_refused_on_a_store_that_is_in_use(
    world, new_store, empty_database
):
    store = new_store("ours")
    await require_store(world.database, store)
    (known,) = store.ids()
    await put(store, b"of another registry")

    for check in (require_store, refuse_other_store):
        with pytest.raises(StartRefused, match="ENTREPOT_DATABASE__URL"):
            await check(empty_database, store)

    assert store.ids() == [known]
    assert await recorded(empty_database) is None
    await require_store(world.database, store)


async def test_a_store_that_was_given_an_id_by_a_start_that_was_killed_is_taken(
    world, new_store, empty_database
):
    store = new_store("ours")
    store.add_id("of a start that was killed")

    await require_store(empty_database, store)

    assert store.ids() == ["of a start that was killed"]


async def test_a_node_starts_on_what_another_was_sent_while_it_began(world, new_store):
    ours, others = new_store("ours"), new_store("ours")
    first_look = ours.listed

    def look():
        """The other node has begun, and takes a push, before we look."""
        asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
        return first_look()

    async def begin():
        await require_store(world.database, others)
        await put(others, b"pushed to the other node")

    loop = asyncio.get_running_loop()
    ours.listed = look

    await require_store(world.database, ours)

    assert len(ours.ids()) == 1


async def test_a_store_that_everything_was_moved_to_is_taken_with_the_id(world, new_store):
    first, second = new_store("ours"), new_store("moved")
    await require_store(world.database, first)

    second.add_id(first.ids()[0])

    await require_store(world.database, second)
    await require_store(world.database, first)
