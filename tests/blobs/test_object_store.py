"""What an object store has beyond a folder: segments, signed addresses, unfinished uploads."""

import asyncio
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import structlog

from entrepot.blobs import objects_check, objects_upload
from entrepot.blobs.objects import ObjectStore
from entrepot.model.errors import EntrepotError, ObjectMissing, StorageFailed, Unavailable
from entrepot.model.stored import Segment
from tests.blobs.places import PREFIX, Session, objects_of, pieces_of, place_of, put, read
from tests.support import s3_faults

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_retries")]

MIB = 1 << 20
KEY = "0123456789abcdef" * 2


async def test_an_object_lies_below_the_prefix_and_the_first_two_digits_of_its_key(
    object_store, bucket
):
    placed = await put(object_store, b"bytes")

    assert bucket.objects() == {f"{PREFIX}/{placed.key[:2]}/{placed.key}": 5}


async def test_any_range_of_segments_is_read_as_of_one_object(object_store):
    session, content = Session(object_store), secrets.token_bytes(3 * MIB)
    for start, stop in ((0, MIB), (MIB, MIB + 1), (MIB + 1, 3 * MIB)):
        await session.append(object_store, content[start:stop])
    stored = object_store.open(session.segments)

    for start in (0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB - 1):
        for most in (1, 1000, 2 * MIB):
            piece = await stored.piece(start, most)
            assert piece
            assert piece == content[start : start + len(piece)]
            assert len(piece) <= most
    assert await stored.piece(3 * MIB, 1) == b""
    stored.close()
    placed = await session.commit(object_store)
    assert await read(object_store, placed, len(content), session.segments) == content


async def test_readers_in_order_take_one_request_and_small_ones_no_more_than_they_want(
    bucket, s3_proxy
):
    store = ObjectStore(place_of(bucket.behind(s3_proxy.origin)))
    content = secrets.token_bytes(4 * MIB)
    placed = await put(store, content)
    s3_proxy.log.clear()

    assert await read(store, placed, len(content)) == content
    whole = [asked.operation for asked in s3_proxy.log]
    stored = store.open(objects_of(placed, len(content)))
    assert await stored.piece(MIB, 1000) == content[MIB : MIB + 1000]
    stored.close()

    assert whole == ["GetObject"]
    assert [asked.operation for asked in s3_proxy.log] == ["GetObject", "GetObject"]
    store.close()


@pytest.mark.parametrize("size", [3 * MIB, 12 * MIB])
async def test_nothing_unfinished_is_left_of_a_cancelled_request(object_store, bucket, size):
    session, sent = Session(object_store), asyncio.Event()
    upload = object_store.upload(session.key)

    async def body():
        async for piece in pieces_of(secrets.token_bytes(size)):
            yield piece
        sent.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(upload.append(body(), 0, []))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (bucket.objects(), bucket.unfinished()) == ({}, [])


async def test_a_body_that_fills_the_parts_of_an_object_goes_on_in_another(
    object_store, monkeypatch
):
    monkeypatch.setattr(objects_upload, "MOST_PARTS", 2)
    session, content = Session(object_store), secrets.token_bytes(21 * MIB)

    await session.append(object_store, content)

    sizes = [segment.size for segment in session.segments]
    assert len(sizes) == 3
    assert all(2 * 5 * MIB <= size < 2 * 5 * MIB + MIB for size in sizes[:-1])
    placed = await session.commit(object_store)
    assert await read(object_store, placed, len(content), session.segments) == content


async def test_what_an_upload_may_have_left_is_all_that_it_became(object_store):
    session, other = Session(object_store), Session(object_store)
    await other.append(object_store, b"another's")
    for content in (b"one", b"two"):
        await session.append(object_store, content)

    found = await asyncio.to_thread(object_store.leftovers, session.key)

    assert sorted(found) == sorted(segment.key for segment in session.segments)


async def test_unfinished_uploads_of_ours_are_ended_once_they_are_old(object_store, bucket):
    client = bucket.client()
    ours = [
        f"{PREFIX}/01/{KEY}.01234567",
        f"{PREFIX}/01/{KEY}",
        f"{PREFIX}/self-test/{'a' * 16}/two",
    ]
    foreign = [
        f"01/{KEY}",
        f"{PREFIX}-2/01/{KEY}",
        f"{PREFIX}/ab/{KEY}",
        f"{PREFIX}/backup/01/{KEY}",
        f"{PREFIX}/thing",
    ]
    for key in (*ours, *foreign):
        client.create_multipart_upload(Bucket=bucket.name, Key=key)

    assert await asyncio.to_thread(object_store.abort_before, time.time() - 3600) == 0
    assert await asyncio.to_thread(object_store.abort_before, time.time() + 3600) == len(ours)

    assert bucket.unfinished() == foreign


@pytest.mark.parametrize("code", ["NoSuchUpload", "AccessDenied"])
async def test_an_unfinished_upload_that_cannot_be_ended_keeps_no_other(bucket, s3_proxy, code):
    store, client = ObjectStore(place_of(bucket.behind(s3_proxy.origin))), bucket.client()
    keys = [f"{PREFIX}/{number}{number}/{str(number) * 32}" for number in range(3)]
    for key in keys:
        client.create_multipart_upload(Bucket=bucket.name, Key=key)
    s3_proxy.on("AbortMultipartUpload", s3_faults.refused(404, code), key=keys[0])

    with structlog.testing.capture_logs() as said:
        assert await asyncio.to_thread(store.abort_before, time.time() + 3600) == 2

    assert bucket.unfinished() == keys[:1]
    assert [line.get("code") for line in said] == ([] if code == "NoSuchUpload" else [code])
    store.close()


async def test_a_signed_address_gives_the_bytes_and_ranges_to_whoever_has_it(object_store):
    placed = await put(object_store, b"0123456789")

    address = await object_store.open(objects_of(placed, 10)).url(60)

    assert address is not None
    async with httpx.AsyncClient() as client:
        whole = await client.get(address)
        part = await client.get(address, headers={"range": "bytes=2-4"})
        altered = await client.get(address.replace("Expires=60", "Expires=61"))
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    assert (part.status_code, part.content) == (206, b"234")
    assert altered.status_code == 403


async def test_an_address_is_signed_for_where_clients_reach_the_store(bucket):
    store = ObjectStore(place_of(bucket), public_endpoint="https://blobs.example.net")

    address = await store.sign(KEY, 60)

    assert address.startswith(f"https://blobs.example.net/{bucket.name}/{PREFIX}/01/{KEY}?")
    store.close()


def test_the_self_test_leaves_nothing(object_store, bucket):
    object_store.prepare()

    assert (bucket.objects(), bucket.unfinished()) == ({}, [])


def test_the_self_test_removes_what_killed_ones_left_long_ago(object_store, bucket, monkeypatch):
    folder = f"{PREFIX}/self-test"
    foreign = f"{folder}/notes"
    ours = [f"{folder}/{'a' * 16}/{name}" for name in ("one", "two", "clock")]
    for key in (foreign, *ours):
        bucket.client().put_object(Bucket=bucket.name, Key=key, Body=b"some")

    object_store.prepare()
    assert set(bucket.objects()) == {foreign, *ours}
    monkeypatch.setattr(objects_check, "_OLD", timedelta(hours=-1))
    object_store.prepare()

    assert set(bucket.objects()) == {foreign}


async def _failures(store: ObjectStore) -> list[EntrepotError]:
    found: list[EntrepotError] = []
    for attempt in (
        lambda: put(store, b"bytes"),
        lambda: put(store, bytes(6 * MIB)),
        lambda: store.open([Segment(0, 5, KEY)]).piece(0, 5),
        lambda: store.read_back([Segment(0, 5, KEY)], "sha256"),
        lambda: asyncio.to_thread(store.require, KEY, 5),
        lambda: asyncio.to_thread(next, store.listed()),
        lambda: asyncio.to_thread(store.read_epoch),
        lambda: asyncio.to_thread(store.advance_epoch, 1),
        lambda: asyncio.to_thread(store.abort_before, time.time()),
        lambda: asyncio.to_thread(store.leftovers, KEY),
    ):
        with pytest.raises(EntrepotError) as raised:
            await attempt()
        found.append(raised.value)
    return found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bucket": "no-such-bucket"}, StorageFailed),
        ({"secret_access_key": "hunter2"}, StorageFailed),
        ({"access_key_id": "UNKNOWN"}, StorageFailed),
        ({"endpoint": "http://127.0.0.1:9"}, Unavailable),
    ],
)
async def test_a_store_that_refuses_is_no_missing_object_and_clients_learn_nothing(
    bucket, change, expected
):
    store = ObjectStore(replace(place_of(bucket), **change))

    failures = await _failures(store)

    assert {type(failure) for failure in failures} == {expected}
    for failure in failures:
        for inside in (bucket.name, bucket.server.endpoint, "127.0.0.1", "hunter2", "UNKNOWN"):
            assert inside not in failure.message
        assert "hunter2" not in repr(failure.values)
    store.close()


async def test_what_is_not_there_is_missing_and_not_a_fault(object_store):
    with pytest.raises(ObjectMissing):
        await object_store.open([Segment(0, 5, KEY)]).piece(0, 5)


async def test_one_request_lists_what_lies_in_all_folders(bucket, s3_proxy):
    store = ObjectStore(place_of(bucket.behind(s3_proxy.origin)))
    keys = [(await put(store, b"bytes")).key for _ in range(5)]
    for name in ("ab/", "backup/ab/readme.txt", "zz/readme.txt", "readme.txt"):
        bucket.client().put_object(Bucket=bucket.name, Key=f"{PREFIX}/{name}")
    store.advance_epoch(1)
    store.add_id("first")
    s3_proxy.log.clear()

    (listed,) = store.listed()

    assert [stored.name for stored in listed] == sorted(keys)
    assert [asked.operation for asked in s3_proxy.log] == ["ListObjectsV2"]
    store.close()


async def test_a_404_of_what_stands_before_the_store_says_nothing_of_an_object(bucket, s3_proxy):
    store = ObjectStore(place_of(bucket.behind(s3_proxy.origin)))
    placed = await put(store, b"bytes")
    ((listed,),) = store.listed()
    s3_proxy.on("*", s3_faults.astray(), times=None)

    for attempt in (
        lambda: put(store, b"others"),
        lambda: read(store, placed, 5),
        lambda: store.read_back([Segment(0, 5, placed.key)], "sha256"),
        lambda: asyncio.to_thread(store.require, placed.key, 5),
        lambda: asyncio.to_thread(store.is_there, listed),
        lambda: asyncio.to_thread(store.remove, placed.key),
    ):
        with pytest.raises(StorageFailed):
            await attempt()
    s3_proxy.mend()

    assert await read(store, placed, 5) == b"bytes"
    store.close()


_LEAVE = """
import asyncio, sys
from entrepot.blobs import objects_upload
from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.objects_place import Place
from entrepot.model.stored import Segment

async def pieces():
    for _ in range(100):
        yield bytes(1 << 16)

async def main():
    store = ObjectStore(Place("s3", *sys.argv[2:4], endpoint=sys.argv[4], region="us-east-1",
        access_key_id=sys.argv[5], secret_access_key=sys.argv[6]))
    if sys.argv[1] == "sent":
        await store.put(store.new_key(), pieces(), 5 << 20)
    else:
        stored = store.open([Segment(0, 8 << 20, sys.argv[7])])
        await stored.piece(0, 1 << 20)
        if sys.argv[1] == "closed":
            stored.close()
    store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["sent", "closed", "left open"])
async def test_a_process_ends_in_peace_right_after_its_last_transfer(object_store, bucket, how):
    placed = await put(object_store, secrets.token_bytes(8 * MIB))
    server = bucket.server
    words = [how, bucket.name, PREFIX, server.endpoint, server.access_key_id]
    words += [server.secret_access_key, placed.key]

    for _ in range(4):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _LEAVE, *words],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
