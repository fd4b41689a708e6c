"""A node's copies: what was just handed out stays until whoever has it has opened it."""

import secrets

import pytest

from entrepot.blobs.cache_folder import CacheFolder
from entrepot.model.clock import MINUTE, SECOND
from entrepot.model.digests import Digest
from entrepot.model.errors import StorageFull
from tests.support.clock import FakeClock

SIZE = 1_000
ROOM = 8 * SIZE


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def new_folder(tmp_path, clock):
    """Makes the folder as one process of the node has it."""
    made = []

    def make():
        folder = CacheFolder(tmp_path / "cache", clock, room=ROOM, low_water_bytes=0)
        folder.prepare()
        made.append(folder)
        return folder

    yield make
    for folder in made:
        folder.close()


@pytest.fixture
def folder(new_folder):
    return new_folder()


async def copy(folder):
    """Its key."""
    key, content = secrets.token_hex(16), secrets.token_bytes(SIZE)
    spool = folder.begin(key, Digest.of(content), SIZE)
    await spool.append(content)
    spool.seal()
    await folder.keep(spool, key)
    await spool.close()
    return key


async def fill(folder):
    """Copies until there is room for none; their keys."""
    return [await copy(folder) for _ in range(ROOM // SIZE)]


async def test_what_was_just_handed_out_is_there_when_it_is_opened(folder, clock):
    keys = await fill(folder)
    clock.advance(2 * MINUTE)
    found = [folder.find(key, SIZE) for key in keys]

    with pytest.raises(StorageFull):
        await copy(folder)

    assert all(len(file.path.read_bytes()) == SIZE for file in found)


async def test_also_when_its_use_was_not_noted_because_another_had_just_been(folder, clock):
    keys = await fill(folder)
    clock.advance(MINUTE - 1_000)
    found = [folder.find(key, SIZE) for key in keys]
    clock.advance(MINUTE // 2)

    with pytest.raises(StorageFull):
        await copy(folder)

    assert all(file.path.exists() for file in found)


async def test_also_to_another_process(folder, new_folder, clock):
    keys = await fill(folder)
    clock.advance(2 * MINUTE)
    found = [folder.find(key, SIZE) for key in keys]

    with pytest.raises(StorageFull):
        await copy(new_folder())

    assert all(file.path.exists() for file in found)


async def test_what_was_used_two_minutes_ago_makes_room(folder, clock):
    keys = await fill(folder)
    clock.advance(MINUTE)
    found = [folder.find(key, SIZE) for key in keys[:4]]
    clock.advance(MINUTE)

    another = await copy(folder)

    assert all(file.path.exists() for file in [*found, folder.find(another, SIZE)])
    assert sum(folder.find(key, SIZE) is None for key in keys[4:]) > 0


async def test_what_was_refused_for_want_of_room_takes_none(folder, clock):
    await fill(folder)
    for _ in range(20):
        with pytest.raises(StorageFull):
            await copy(folder)
    clock.advance(2 * MINUTE)

    assert folder.find(await copy(folder), SIZE) is not None


async def test_a_use_that_is_noted_while_room_is_made_counts(folder, clock, monkeypatch):
    keys = await fill(folder)
    clock.advance(3 * MINUTE)
    listed = folder._listed

    def and_used_by_another():
        yield from list(listed())
        folder.find(keys[0], SIZE)

    monkeypatch.setattr(folder, "_listed", and_used_by_another)

    await copy(folder)

    assert folder.find(keys[0], SIZE) is not None


async def test_a_clock_that_was_set_back_keeps_nothing_for_long(folder, clock):
    await fill(folder)
    clock.advance(-60 * MINUTE)

    assert folder.find(await copy(folder), SIZE) is not None


async def test_without_room_the_copies_are_looked_at_once_a_second(folder, clock, monkeypatch):
    await fill(folder)
    looks, listed = [], folder._listed

    def counted():
        looks.append(clock.now())
        return listed()

    monkeypatch.setattr(folder, "_listed", counted)

    for _ in range(10):
        with pytest.raises(StorageFull):
            await copy(folder)
    assert len(looks) == 1

    clock.advance(SECOND)
    with pytest.raises(StorageFull):
        await copy(folder)
    assert len(looks) == 2
