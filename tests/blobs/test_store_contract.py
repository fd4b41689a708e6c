"""What services may rely on, wherever the bytes are: a folder, or a bucket of a real S3 server."""

import asyncio
import hashlib
import secrets

import pytest

from entrepot.blobs.spool import SpoolFolder
from entrepot.blobs.store import BlobStore, StoredObject
from entrepot.model.digests import Digest
from entrepot.model.errors import ClientGone, ObjectMissing
from entrepot.model.stored import Segment
from tests.blobs.places import Session, objects_of, pieces_of, put, read

pytestmark = pytest.mark.usefixtures("quick_retries")

MIB = 1 << 20
SIZES = [
    0,
    1,
    100_000,
    5 * MIB - 1,
    5 * MIB,
    5 * MIB + 1,
    12 * MIB + 345,
]


def list_all(store: BlobStore) -> list[StoredObject]:
    return [stored for page in store.listed() for stored in page]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_uploaded_is_an_object_of_the_same_bytes(store, new_store, size):
    content = secrets.token_bytes(size)

    placed = await put(store, content)

    another = new_store()
    assert await read(another, placed, size) == content
    assert (await another.read_back(objects_of(placed, size), "sha256")).hex == sha256(content)
    assert another.stamp(placed.key, size) == placed.stamp
    another.require(placed.key, size)


async def test_an_upload_goes_on_in_any_process_with_its_next_request(store, new_store):
    first, second, third = (secrets.token_bytes(size) for size in (6 * MIB, 1, 70_000))
    session, content = Session(store), first + second + third

    await session.append(store, first)
    await session.append(new_store(), second)
    await session.append(store, third)
    placed = await session.commit(new_store())

    objects = objects_of(placed, len(content), session.segments)
    found = await store.read_back(objects, "sha256")
    assert (found.size, found.hex) == (len(content), sha256(content))
    assert await read(store, placed, len(content), session.segments) == content


async def test_an_upload_is_hashed_again_where_nobody_remembers_its_hash(store, new_store):
    session, content = Session(store), secrets.token_bytes(300_000)
    await session.append(store, content[:200_000])
    await session.append(store, content[200_000:])

    upload = new_store().upload(session.key)
    upload.open(is_new=False)
    upload.resume(session.size, session.segments)
    found = await upload.digest("sha512", session.size)
    await upload.close()

    assert found == hashlib.sha512(content).hexdigest()


@pytest.mark.parametrize("size", [0, 100_000, 6 * MIB + 5])
async def test_what_came_of_a_body_that_broke_off_counts(store, size):
    session, content = Session(store), secrets.token_bytes(size)
    gone = ClientGone("the client has gone")

    assert await session.append(store, content, stopped=gone) is gone
    await session.append(store, b"the rest")
    placed = await session.commit(store)

    found = await store.read_back(objects_of(placed, size + 8, session.segments), "sha256")
    assert found.hex == sha256(content + b"the rest")


@pytest.mark.parametrize("size", [100_000, 12 * MIB])
async def test_a_request_that_is_cancelled_adds_nothing(store, size):
    session, sent = Session(store), asyncio.Event()
    await session.append(store, b"begun")

    async def body():
        async for piece in pieces_of(secrets.token_bytes(size)):
            yield piece
        sent.set()
        await asyncio.Event().wait()

    async def request():
        upload = store.upload(session.key)
        try:
            upload.open(is_new=False)
            upload.resume(session.size, session.segments)
            await upload.append(body(), session.size, [])
        finally:
            await upload.close()

    task = asyncio.create_task(request())
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await session.append(store, b", ended")
    placed = await session.commit(store)
    assert await read(store, placed, 12, session.segments) == b"begun, ended"
    if store.has_segments:
        assert sorted(store.leftovers(session.key)) == sorted(s.key for s in session.segments)


async def test_a_row_that_says_more_than_there_is_is_refused(store):
    session = Session(store)
    await session.append(store, b"bytes")
    upload = store.upload(session.key)
    upload.open(is_new=False)

    with pytest.raises(ObjectMissing):
        upload.resume(6, session.segments)

    await upload.close()


async def test_what_nobody_acknowledged_can_be_taken_back(store):
    session = Session(store)
    upload = store.upload(session.key)
    upload.open(is_new=True)
    upload.resume(0, ())
    await upload.append(pieces_of(b"bytes"), 0, [])

    await upload.discard()
    await upload.close()

    assert list_all(store) == []


@pytest.mark.parametrize("size", [0, 4, 6, 5 * MIB])
async def test_an_object_of_another_size_is_not_the_blobs(store, size):
    placed = await put(store, b"bytes")

    with pytest.raises(ObjectMissing):
        store.require(placed.key, size)
    if size:
        with pytest.raises(ObjectMissing):
            await read(store, placed, size)


async def test_an_object_that_is_not_there_is_missing(store):
    placed = await put(store, b"bytes")

    store.remove(placed.key)
    store.remove(placed.key)

    with pytest.raises(ObjectMissing):
        await store.read_back(objects_of(placed, 5), "sha256")
    with pytest.raises(ObjectMissing):
        store.require(placed.key, 5)
    with pytest.raises(ObjectMissing):
        await read(store, placed, 5)


async def test_every_object_is_listed_with_the_folder_that_it_is_in(store):
    placed = [await put(store, b"x" * size) for size in range(4)]

    found = list_all(store)

    assert [stored.folder for stored in found] == sorted(each.key[:2] for each in placed)
    assert {(stored.name, stored.size) for stored in found} == {
        (each.key, size) for size, each in enumerate(placed)
    }
    assert all(stored.is_object and store.is_there(stored) for stored in found)
    store.remove(placed[0].key)
    assert sum(store.is_there(stored) for stored in found) == len(placed) - 1


async def test_a_spool_becomes_an_object_and_is_gone(store, tmp_path):
    content = secrets.token_bytes(7 * MIB)
    spools = SpoolFolder(tmp_path / "spool", low_water_bytes=0)
    spools.prepare()
    key = spools.new_id()
    spool = spools.write(key, Digest.parse(f"sha256:{sha256(content)}"), is_new=True)
    assert spool is not None
    await spool.append(content)
    spool.seal()

    stamp = await store.adopt(spool, key)

    await spool.close()
    spools.close()
    assert not spool.path.exists()
    assert stamp == store.stamp(key, len(content))
    assert (await store.read_back([Segment(0, len(content), key)], "sha256")).hex == sha256(content)


async def test_whoever_reads_back_may_pause(store):
    placed, paused = await put(store, secrets.token_bytes(9 * MIB)), []

    async def pause(count: int) -> None:
        paused.append(count)

    found = await store.read_back(objects_of(placed, 9 * MIB), "sha256", pause)

    assert sum(paused) == found.size == 9 * MIB
    assert len(paused) > 1


async def test_the_epoch_only_grows(store, new_store):
    assert store.read_epoch() == 0

    store.advance_epoch(7)
    new_store().advance_epoch(3)

    assert store.read_epoch() == new_store().read_epoch() == 7


async def test_two_who_count_on_at_once_do_not_set_each_other_back(store, new_store):
    await asyncio.gather(
        *(asyncio.to_thread(new_store().advance_epoch, value) for value in range(1, 9))
    )

    assert store.read_epoch() == 8


@pytest.mark.parametrize("key", ["", "../../../../etc/passwd", "A" * 32, "a" * 31, "a" * 32 + "/b"])
def test_a_name_that_is_no_key_reaches_no_store(store, key):
    with pytest.raises(ValueError, match="not a storage key"):
        store.remove(key)
    with pytest.raises(ValueError, match="not a storage key"):
        store.upload(key)


def test_a_new_key_is_no_other(store):
    assert len({store.new_key() for _ in range(100)}) == 100


async def test_what_others_put_there_is_no_object(store, bucket_or_folder):
    bucket_or_folder("ab/readme.txt")

    (found,) = list_all(store)

    assert (found.name, found.is_object) == ("readme.txt", False)
    assert store.is_there(found)
    assert not store.is_there(StoredObject("ab", "other.txt", 0, 0, is_object=False))
