"""Uploads in segments on an object store that fails: what was acknowledged stays, the rest goes."""

import secrets

import pytest

from entrepot.model.clock import MINUTE
from entrepot.model.errors import DigestInvalid, StorageFailed, Unavailable, UploadUnknown
from tests.faults.segments import Shifted, cluster
from tests.support import s3_faults
from tests.support.s3_lag import Lag
from tests.support.s3_proxy import S3Proxy
from tests.support.swapped import swap

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_retries")]  # a real S3 server

_MIB = 1 << 20
_BUSY = s3_faults.refused(503, "SlowDown")
_SKEWED = s3_faults.refused(403, "RequestTimeTooSkewed")
_OBJECTS = "/[0-9a-f]{2}/"  # not the epoch of collection


@pytest.fixture
def database_kind():
    """What the store does is the same on either database."""
    return "sqlite"


@pytest.fixture
async def nodes(data, database_url, bucket, s3_proxy):
    async with cluster(data, database_url, bucket.behind(s3_proxy.origin)) as nodes:
        yield nodes
        s3_proxy.mend()
        await nodes.end()


def id_of(value):
    return value.name if isinstance(value, s3_faults.Fault) else value


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("PutObject", _BUSY),
        ("PutObject", _SKEWED),
        ("PutObject", s3_faults.swallowed()),
        ("PutObject", s3_faults.broken_request(100)),
        ("HeadObject", _BUSY),  # the segment is there, and nobody knows
    ],
    ids=id_of,
)
async def test_a_segment_that_fails_leaves_the_upload_where_it_was(
    nodes, s3_proxy, operation, fault
):
    upload = await nodes.open(nodes.first, b"first, ")
    s3_proxy.on(operation, fault, times=None)

    with pytest.raises((Unavailable, StorageFailed)):
        await upload.patch(nodes.first, secrets.token_bytes(1_000))
    s3_proxy.mend()

    assert (await upload.find(nodes.second)).size == 7
    await upload.patch(nodes.second, b"second")
    await upload.put(nodes.first)
    assert await upload.pull(nodes.second) == b"first, second"
    nodes.check()


async def test_a_body_that_fails_behind_the_end_of_its_upload_leaves_nothing(nodes, s3_proxy):
    upload = await nodes.open(nodes.first, b"some")

    async def body():
        yield secrets.token_bytes(1_000)
        await upload.cancel(nodes.second)
        await nodes.collect(nodes.second)
        s3_proxy.on("DeleteObject", _SKEWED, times=None)

    with pytest.raises(UploadUnknown):
        await nodes.first.registry.uploads.append(upload.session, body(), None)
    s3_proxy.mend()
    assert len(nodes.kept.objects()) == 1

    await nodes.collect(nodes.second)

    assert not nodes.kept.objects()


async def test_a_segment_whose_answer_is_lost_counts_once(nodes, s3_proxy):
    upload = await nodes.open(nodes.first, b"first, ")
    s3_proxy.on("PutObject", s3_faults.lost_answer("reset"), times=None)

    await upload.patch(nodes.second, b"second")
    s3_proxy.mend()

    await upload.put(nodes.first)
    assert await upload.pull(nodes.second) == b"first, second"
    assert len(nodes.kept.objects()) == 2
    nodes.check()


async def test_a_commit_on_another_node_reads_on_where_the_store_broke_off(nodes, s3_proxy):
    upload = await nodes.open(nodes.first, secrets.token_bytes(3 * _MIB))
    await upload.patch(nodes.second, b"end")
    broken = s3_faults.short(_MIB, "reset")
    s3_proxy.on("GetObject", broken, times=2)

    await upload.put(nodes.second)

    assert s3_proxy.count("GetObject", fault=broken.name) == 2
    assert await upload.pull(nodes.first) == upload.content


async def test_a_commit_that_reads_other_bytes_is_no_blob(nodes, s3_proxy):
    upload = await nodes.open(nodes.first, b"first, ")
    await upload.patch(nodes.second, b"second")
    s3_proxy.on("GetObject", s3_faults.altered(3), key=_OBJECTS)

    with pytest.raises(DigestInvalid):
        await upload.put(nodes.second)

    assert not await rows(nodes, "SELECT * FROM blobs")
    nodes.check()


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("GetObject", _BUSY),
        ("GetObject", _SKEWED),
        ("GetObject", s3_faults.short(500, "reset")),
        ("CreateMultipartUpload", _BUSY),
        ("UploadPart", s3_faults.broken_request(_MIB, "reset")),
        ("UploadPart", s3_faults.swallowed()),
        ("CompleteMultipartUpload", s3_faults.swallowed()),
        ("CompleteMultipartUpload", s3_faults.refused(200, "InternalError")),
    ],
    ids=id_of,
)
async def test_a_blob_stays_in_segments_until_they_can_be_joined(nodes, s3_proxy, operation, fault):
    upload = await nodes.open(nodes.first, *(secrets.token_bytes(3 * _MIB) for _ in range(3)))
    await upload.put(nodes.first)
    s3_proxy.on(operation, fault, key=_OBJECTS, times=None)

    assert await nodes.joining(nodes.first).sweep() == 0
    s3_proxy.mend()

    assert await is_in_segments(nodes)
    assert await upload.pull(nodes.second) == upload.content
    assert await nodes.joining(nodes.second).sweep() == 1
    assert not await is_in_segments(nodes)
    assert await upload.pull(nodes.first) == upload.content
    nodes.check()


async def test_a_join_that_fails_is_tried_again_less_and_less_often(nodes, s3_proxy):
    upload = await nodes.in_segments(nodes.first)
    clock, joining = Shifted(), nodes.joining(nodes.first)
    swap(joining, clock=clock)
    s3_proxy.on("PutObject", _SKEWED, key=_OBJECTS, times=None)

    tried = []
    for minute in range(15):
        clock.ahead = minute * MINUTE
        before = s3_proxy.count("PutObject", fault=_SKEWED.name)
        assert await joining.sweep() == 0
        if s3_proxy.count("PutObject", fault=_SKEWED.name) > before:
            tried.append(minute)
    s3_proxy.mend()

    assert tried == [0, 2, 6, 14]
    assert await joining.sweep() == 0
    clock.ahead = 30 * MINUTE
    assert await joining.sweep() == 1
    assert await upload.pull(nodes.second) == upload.content


async def test_segments_that_are_seen_late_are_one_blob_all_the_same(nodes, s3_proxy):
    s3_proxy.lag = Lag(3, seed=2)
    uploads = [await nodes.open(nodes.first, b"one, ", b"two, ", b"three") for _ in range(5)]

    for upload in uploads:
        await upload.put(nodes.second, secrets.token_bytes(8))
        assert await upload.pull(nodes.first) == upload.content
    assert await nodes.joining(nodes.first).sweep() == 5
    for upload in uploads:
        assert await upload.pull(nodes.second) == upload.content

    s3_proxy.lag.settle()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_by_chance_nothing_acknowledged_is_lost(data, database_url, bucket, seed):
    with S3Proxy(bucket.server.endpoint, seed=seed).running() as proxy:
        async with cluster(data, database_url, bucket.behind(proxy.origin)) as nodes:
            for operation, fault in (
                ("*", _BUSY),
                ("*", _SKEWED),
                ("*", s3_faults.lost_answer("reset")),
                ("PutObject", s3_faults.broken_request(100)),
                ("HeadObject", s3_faults.refused(404, "NoSuchKey")),
            ):
                proxy.on(operation, fault, key=_OBJECTS, times=None, chance=0.05)
            uploads = [await some_upload(nodes, number) for number in range(12)]
            proxy.mend()

            for number, upload in enumerate(uploads):
                node = (nodes.first, nodes.second)[number % 2]
                assert await upload.pull(node) == upload.content
            nodes.check()
            await nodes.end()
    assert {entry.fault for entry in proxy.log} > {"", _BUSY.name, _SKEWED.name}


async def some_upload(nodes, number):
    """Of some pieces, each tried at one node after the other until it is acknowledged."""
    upload = await until_done(lambda: nodes.open(nodes.first))
    for turn in range(3):
        piece = f"{number}.{turn} ".encode() * 100
        node = (nodes.first, nodes.second)[turn % 2]
        await until_done(lambda node=node, piece=piece: upload.patch(node, piece))
    await until_done(lambda: upload.put(nodes.second))
    return upload


async def until_done(attempt):
    for _ in range(20):
        try:
            return await attempt()
        except (Unavailable, StorageFailed):
            continue
    pytest.fail("it never succeeded")


async def is_in_segments(nodes):
    return bool(await rows(nodes, "SELECT * FROM blobs WHERE storage_key LIKE '%.segments'"))


async def rows(nodes, sql):
    async with nodes.first.app.database.read() as tx:
        return await tx.fetch_all(sql)
