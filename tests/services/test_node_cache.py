"""A node's cache of blobs in an object store: one request for a crowd, and never a wrong byte."""

import asyncio
import os
import secrets

import pytest

from entrepot.blobs.answers import File
from entrepot.blobs.cache_folder import CacheFolder
from entrepot.blobs.stored import Stored, pieces_of
from entrepot.model.clock import DAY, MINUTE
from entrepot.model.digests import Digest
from entrepot.model.errors import ObjectMissing, StorageFailed, Unavailable
from entrepot.model.stored import Segment
from entrepot.services.node_cache import NodeCache
from tests.support import damage
from tests.support.clock import FakeClock

MIB = 1 << 20
ROOM = 8 * MIB


class Store:
    """Objects in memory, and how often each was asked for."""

    def __init__(self):
        self.objects = {}
        self.asked = []
        self.was_asked = asyncio.Event()
        self.gate = asyncio.Event()  # nothing comes behind the first piece before this is set
        self.gate.set()
        self.breaks_at = None

    def put(self, content):
        key = secrets.token_hex(16)
        self.objects[key] = content
        return key

    def open(self, key):
        return Stored(self, (Segment(0, len(self.objects[key]), key),))

    async def read(self, key, start, stop, size):  # noqa: ARG002  # as stores are asked
        self.asked.append((key, start))
        self.was_asked.set()
        for at in range(start, stop, 65_536):
            if self.breaks_at is not None and at >= self.breaks_at:
                self.breaks_at = None
                raise Unavailable("the store broke off")
            yield self.objects[key][at : min(stop, at + 65_536)]
            await self.gate.wait()

    async def sign(self, key, seconds):
        raise AssertionError(key, seconds)  # nobody is sent here


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def counts():
    return {}


@pytest.fixture
async def node(tmp_path, clock, counts):
    """Makes processes of one node."""
    running = []

    def observe(what, number):
        counts[what] = counts.get(what, 0) + number

    def start(*, room=ROOM, low_water_bytes=0):
        folder = CacheFolder(
            tmp_path / "cache", clock, room=room, low_water_bytes=low_water_bytes, observe=observe
        )
        cache = NodeCache(folder, observe)
        cache.prepare()
        running.append(cache)
        return cache

    yield start
    for cache in running:
        await cache.close()


@pytest.fixture
def objects(tmp_path):
    return tmp_path / "cache" / "objects"


async def pull(cache, store, key):
    """All bytes, however they come."""
    content = store.objects[key]
    near = cache.near(store.open(key), Digest.of(content))
    return b"".join([piece async for piece in pieces_of(near)])


async def settled(cache):
    """Until no copy is being made."""
    while cache._tasks:
        await asyncio.wait(cache._tasks)


async def copied(cache, store, content):
    """Put an object and have a copy made of it; its key."""
    key = store.put(content)
    assert await pull(cache, store, key) == content
    await settled(cache)
    return key


async def test_a_thousand_pulls_cost_the_store_one_request(node, store, counts):
    cache, content = node(), secrets.token_bytes(600_000)
    key = store.put(content)

    pulled = [await pull(cache, store, key)]
    await settled(cache)
    pulled += [await pull(cache, store, key) for _ in range(999)]

    assert all(one == content for one in pulled)
    assert store.asked == [(key, 0)]
    assert (counts["misses"], counts["hits"]) == (1, 999)


async def test_a_crowd_that_comes_at_once_shares_the_one_request(node, store):
    cache, content = node(), secrets.token_bytes(MIB)
    key = store.put(content)
    store.gate.clear()

    crowd = [asyncio.create_task(pull(cache, store, key)) for _ in range(50)]
    await asyncio.sleep(0)
    store.gate.set()

    assert all(one == content for one in await asyncio.gather(*crowd))
    assert store.asked == [(key, 0)]


async def test_a_crowd_in_several_processes_shares_it_as_well(node, store):
    first, second, content = node(), node(), secrets.token_bytes(MIB)
    key = store.put(content)
    store.gate.clear()
    leading = asyncio.create_task(pull(first, store, key))
    await store.was_asked.wait()

    following = [asyncio.create_task(pull(second, store, key)) for _ in range(5)]
    await asyncio.sleep(0)
    store.gate.set()

    assert await leading == content
    assert all(one == content for one in await asyncio.gather(*following))
    assert store.asked == [(key, 0)]


async def test_a_copy_that_another_process_finished_just_now_is_read(node, store, monkeypatch):
    first, second = node(), node()
    key = await copied(first, store, b"popular")
    find = second._folder.find
    looks = iter([None])  # it is not there yet when the pull comes
    monkeypatch.setattr(second._folder, "find", lambda *asked: next(looks, find(*asked)))

    assert await pull(second, store, key) == b"popular"
    assert store.asked == [(key, 0)]


async def test_a_copy_outlives_the_process_that_made_it(node, store):
    key = await copied(node(), store, b"popular")

    assert isinstance(node().near(store.open(key), Digest.of(b"popular")), File)


async def test_a_reader_that_leaves_does_not_take_the_copy_along(node, store, objects):
    cache, content = node(), secrets.token_bytes(MIB)
    key = store.put(content)
    near = cache.near(store.open(key), Digest.of(content))

    await near.piece(0, 10)
    near.close()
    await settled(cache)

    assert (objects / key).read_bytes() == content


async def test_bytes_that_are_not_their_digests_are_cut_off_and_not_kept(node, store, objects):
    cache, content = node(), secrets.token_bytes(MIB)
    key = store.put(content)
    store.objects[key] = content[:-1] + bytes([content[-1] ^ 1])
    near = cache.near(store.open(key), Digest.of(content))
    received = bytearray()

    async def read_all():
        async for piece in pieces_of(near):
            received.extend(piece)

    with pytest.raises(ObjectMissing):
        await read_all()
    await settled(cache)

    assert len(received) < len(content)
    assert not list(objects.iterdir())


@pytest.mark.parametrize("how", damage.DAMAGES)
async def test_a_copy_that_was_changed_is_not_served_but_made_anew(node, store, objects, how):
    cache, content = node(), secrets.token_bytes(10_000)
    key = await copied(cache, store, content)
    damage.DAMAGES[how](objects / key)

    assert await pull(cache, store, key) == content
    await settled(cache)
    assert (objects / key).read_bytes() == content
    assert len(store.asked) == 2


async def test_copies_that_changed_places_are_not_served(node, store, objects):
    cache = node()
    one, other = [await copied(cache, store, content) for content in (b"one", b"two")]
    aside = objects / "aside"
    (objects / one).rename(aside)
    (objects / other).rename(objects / one)
    aside.rename(objects / other)

    assert [await pull(cache, store, key) for key in (one, other)] == [b"one", b"two"]


async def test_the_copies_have_room_and_the_least_used_goes(node, store, clock, objects, counts):
    cache = node()
    contents = [secrets.token_bytes(MIB) for _ in range(8)]
    keys = []
    for content in contents:
        keys.append(await copied(cache, store, content))
        clock.advance(2 * MINUTE)
    await pull(cache, store, keys[0])

    clock.advance(2 * MINUTE)
    await copied(cache, store, secrets.token_bytes(MIB))

    kept = {path.name for path in objects.iterdir()}
    assert sum(path.stat().st_size for path in objects.iterdir()) <= ROOM
    assert keys[0] in kept
    assert keys[1] not in kept
    assert counts["evicted"] >= 1


async def test_processes_together_keep_within_the_room(node, store, clock, objects):
    first, second = node(), node()
    for number in range(24):
        key = await copied((first, second)[number % 2], store, secrets.token_bytes(MIB))
        clock.advance(MINUTE // 2)

        assert (objects / key).exists()
        assert sum(path.stat().st_size for path in objects.iterdir()) <= ROOM


async def test_where_all_copies_are_in_use_a_pull_goes_without_one(node, store, objects, counts):
    cache = node()
    keys = {await copied(cache, store, secrets.token_bytes(MIB)) for _ in range(ROOM // MIB)}

    await copied(cache, store, secrets.token_bytes(MIB))

    assert {path.name for path in objects.iterdir()} == keys
    assert "failures" not in counts


async def test_what_would_take_too_much_of_the_room_gets_no_copy(node, store, objects):
    cache, content = node(), secrets.token_bytes(ROOM // 8 + 1)
    key = store.put(content)

    assert await pull(cache, store, key) == content
    assert not cache._tasks
    assert not list(objects.iterdir())


async def test_without_room_nothing_is_made(node, store, tmp_path):
    cache, key = node(room=0), store.put(b"popular")

    assert await pull(cache, store, key) == b"popular"
    assert not (tmp_path / "cache").exists()


async def test_a_full_disk_fails_no_pull(node, store, objects):
    cache, content = node(low_water_bytes=1 << 62), secrets.token_bytes(MIB)
    key = store.put(content)

    assert await pull(cache, store, key) == content
    await settled(cache)
    assert not list(objects.iterdir())


async def test_a_cache_that_fails_fails_no_pull(node, store, tmp_path, counts):
    cache, content = node(), secrets.token_bytes(MIB)
    key = store.put(content)
    (tmp_path / "cache" / "filling").rmdir()
    (tmp_path / "cache" / "filling").write_bytes(b"no folder")

    assert await pull(cache, store, key) == content
    assert counts["failures"] == 1


async def test_a_disk_that_fails_while_a_copy_is_made_fails_no_pull(node, store, monkeypatch):
    cache, content = node(), secrets.token_bytes(MIB)
    key = store.put(content)
    store.gate.clear()
    near = cache.near(store.open(key), Digest.of(content))
    received = bytearray(await near.piece(0, MIB))

    cache._filling[key].fail(StorageFailed("the disk failed"))
    store.gate.set()
    async for piece in pieces_of(near, len(received)):
        received += piece

    assert received == content


async def test_a_store_that_is_away_is_asked_once_for_all_who_wait(node, store, objects):
    """It was asked often enough for the copy, and each of a crowd would do so again."""
    cache, content = node(), secrets.token_bytes(MIB)
    key = store.put(content)
    store.breaks_at = 500_000

    crowd = [asyncio.create_task(pull(cache, store, key)) for _ in range(50)]
    ends = await asyncio.gather(*crowd, return_exceptions=True)

    assert {type(end) for end in ends} == {Unavailable}
    assert store.asked == [(key, 0)]
    await settled(cache)
    assert not list(objects.iterdir())
    assert await pull(cache, store, key) == content


async def test_a_reader_far_ahead_does_not_wait_for_the_copy(node, store):
    cache, content = node(room=64 * MIB), secrets.token_bytes(8 * MIB)
    key = store.put(content)
    store.gate.clear()
    near = cache.near(store.open(key), Digest.of(content))

    piece = await near.piece(7 * MIB, 1000)
    near.close()
    store.gate.set()

    assert piece == content[7 * MIB : 7 * MIB + 1000]


async def test_what_a_dead_process_left_is_in_nobodys_way(node, store, tmp_path, objects):
    key, filling = store.put(b"popular"), tmp_path / "cache" / "filling"
    cache = node()
    (filling / key).write_bytes(b"pop")
    (filling / ("a" * 32)).write_bytes(bytes(MIB))
    (tmp_path / "cache" / "room").write_text("what is this")

    assert await pull(cache, store, key) == b"popular"
    await settled(cache)

    assert (objects / key).read_bytes() == b"popular"
    assert not list(filling.iterdir())


async def test_what_nobody_used_for_a_day_goes(node, store, clock, objects):
    cache = node()
    used, _ = [await copied(cache, store, content) for content in (b"used", b"unused")]
    clock.advance(DAY // 2)
    await pull(cache, store, used)
    clock.advance(DAY // 2 + MINUTE)

    await cache.sweep()

    assert [path.name for path in objects.iterdir()] == [used]


async def test_uses_are_noted_once_a_minute(node, store, clock, objects):
    cache, digest = node(), Digest.of(b"popular")
    key = await copied(cache, store, b"popular")
    made = (objects / key).stat().st_atime_ns

    clock.advance(MINUTE // 2)
    cache.near(store.open(key), digest)
    soon = (objects / key).stat().st_atime_ns
    clock.advance(MINUTE)
    cache.near(store.open(key), digest)

    assert soon == made
    assert (objects / key).stat().st_atime_ns > made


async def test_the_mark_of_a_copy_is_older_than_any_use(node, store, objects):
    """Else the kernel would note each reading by itself."""
    cache = node()
    for number in range(20):
        key = await copied(cache, store, b"popular %d" % number)

        assert (objects / key).stat().st_mtime < 2**30


async def test_copies_are_for_the_registry_alone(node, store, objects):
    key = await copied(node(), store, b"private")

    assert (objects / key).stat().st_mode & 0o077 == 0
    assert os.access(objects / key, os.R_OK)


async def test_a_blob_in_segments_waits_for_its_join(node, store):
    cache = node()
    parts = [store.put(content) for content in (b"one", b"two")]
    stored = Stored(store, (Segment(0, 3, parts[0]), Segment(3, 3, parts[1])))

    assert cache.near(stored, Digest.of(b"onetwo")) is stored
