"""Uploads in an object store, one by one: what comes where, and that nothing of them is left."""

import asyncio
import secrets
import threading

import pytest
import structlog

from entrepot.blobs.objects import ObjectStore
from entrepot.db import segments, uploads
from entrepot.model.clock import DAY, HOUR, MINUTE
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    ClientGone,
    DigestInvalid,
    RangeInvalid,
    Unavailable,
    UploadInvalid,
    UploadUnknown,
)
from entrepot.model.ranges import ByteRange
from entrepot.services import catching_up, joining, upload_checks
from entrepot.services.access import NOBODY
from entrepot.services.joining import LeaseLost
from entrepot.services.upload_checks import UploadBusy
from tests.faults.segments import PIECE, Shifted, cluster, once
from tests.faults.test_interleavings import address_of
from tests.faults.test_uploads import Impatient, Repeating
from tests.support.postgres import DATABASES
from tests.support.swapped import swap

pytestmark = pytest.mark.slow  # a real S3 server

on_both = pytest.mark.parametrize("database_kind", DATABASES)


@pytest.fixture
def database_kind():
    """What becomes of segments is the same on either, but for nodes that meet."""
    return "sqlite"


@pytest.fixture
async def nodes(data, database_url, bucket):
    async with cluster(data, database_url, bucket) as nodes:
        yield nodes


async def rows(nodes, sql):
    async with nodes.first.app.database.read() as tx:
        return await tx.fetch_all(sql)


@on_both
async def test_an_upload_goes_on_at_any_node_and_is_never_copied(nodes):
    upload = await nodes.open(nodes.first)
    for number in range(6):
        await upload.patch((nodes.second, nodes.first)[number % 2], secrets.token_bytes(PIECE))
    before = nodes.kept.objects()

    await upload.put(nodes.second)

    assert nodes.kept.objects() == before
    assert len(before) == 6
    assert await upload.pull(nodes.first) == upload.content
    nodes.check()
    await nodes.end()


@pytest.mark.parametrize("content", [b"", b"x", b"x" * (6 << 20)], ids=["none", "one", "two parts"])
async def test_an_upload_of_one_body_is_one_object(nodes, content):
    upload = await nodes.open(nodes.first)

    await upload.put(nodes.second, content)

    assert len(nodes.kept.objects()) == 1
    assert not await rows(nodes, "SELECT * FROM segments")
    assert await upload.pull(nodes.second) == content
    nodes.check()
    await nodes.end()


async def test_what_a_request_adds_does_not_cost_more_behind_many_others(nodes, monkeypatch):
    upload = await nodes.open(nodes.first)
    await upload.patch(nodes.first, secrets.token_bytes(PIECE))
    monkeypatch.delattr(segments, "find")  # all of them

    await upload.patch(nodes.second, secrets.token_bytes(PIECE))
    monkeypatch.undo()

    await upload.put(nodes.first)
    assert await upload.pull(nodes.first) == upload.content
    nodes.check()
    await nodes.end()


async def test_an_upload_has_so_many_segments_and_ends_with_them(nodes, monkeypatch):
    monkeypatch.setattr(upload_checks, "MOST_SEGMENTS", 3)
    upload = await nodes.open(nodes.first, b"some", b"more")
    await upload.patch(nodes.second, b"last")

    with pytest.raises(UploadInvalid):
        await upload.patch(nodes.first, b"x")
    with pytest.raises(UploadInvalid):
        await upload.put(nodes.second, b"x")

    assert len(nodes.kept.objects()) == 3
    await upload.patch(nodes.first, b"")
    await upload.put(nodes.first)
    assert await upload.pull(nodes.second) == b"somemorelast"
    nodes.check()
    await nodes.end()


async def test_what_came_before_a_client_was_gone_counts(nodes):
    upload = await nodes.open(nodes.first)

    async def broken():
        yield b"some"
        raise ClientGone("it went")

    with pytest.raises(ClientGone):
        await nodes.first.registry.uploads.append(upload.session, broken(), None)

    upload.session, upload.content = await upload.find(nodes.second), b"some"
    assert upload.session.size == 4
    await upload.patch(nodes.second, b" more")
    await upload.put(nodes.first)
    assert await upload.pull(nodes.second) == b"some more"
    await nodes.end()


@on_both
async def test_who_is_too_late_hears_how_much_there_is(nodes):
    upload = await nodes.open(nodes.first, b"first")
    late = upload.session

    await upload.patch(nodes.second, b"second")
    with pytest.raises(RangeInvalid) as refused:
        await nodes.first.registry.uploads.append(late, once(b"late"), ByteRange(5, 9))

    assert refused.value.values["size"] == 11
    assert len(nodes.kept.objects()) == 2
    await upload.put(nodes.first)
    nodes.check()


async def test_a_digest_that_is_another_keeps_the_session(nodes):
    upload = await nodes.open(nodes.first, b"some")
    wrong = Digest.of(b"other")

    with pytest.raises(DigestInvalid):
        await nodes.second.registry.uploads.commit(
            NOBODY, address_of(upload.name), upload.session, wrong, once(b""), None
        )

    await upload.put(nodes.second)
    assert await upload.pull(nodes.first) == b"some"
    await nodes.end()


async def test_a_repeated_commit_is_one_commit(nodes):
    swap(nodes.first.registry.uploads, database=Repeating(nodes.first.app.database))
    upload = await nodes.open(nodes.first, b"first", b"second")

    await upload.put(nodes.first, b"third")
    upload.session = await upload.find(nodes.second)
    await upload.put(nodes.second)

    assert await upload.pull(nodes.second) == b"firstsecondthird"
    nodes.check()
    await nodes.end()


async def test_a_commit_that_arrives_while_its_upload_is_cancelled_keeps_its_bytes(nodes):
    upload = await nodes.open(nodes.first, b"some")
    uploads = nodes.first.registry.uploads
    impatient = Impatient(nodes.first.app.database)
    swap(uploads, database=impatient)
    impatient.is_patient = False
    with pytest.raises(Unavailable):
        await upload.put(nodes.first, b" more")

    with pytest.raises(UploadUnknown):
        await upload.cancel(nodes.first)

    assert await upload.pull(nodes.second, b"some more") == b"some more"
    nodes.check()
    swap(uploads, database=nodes.first.app.database)
    await nodes.end()


async def test_a_cancelled_upload_leaves_nothing(nodes):
    upload = await nodes.open(nodes.first, b"some", b"more")

    await upload.cancel(nodes.second)

    with pytest.raises(UploadUnknown):
        await upload.patch(nodes.first, b"late")
    with pytest.raises(UploadUnknown):
        await upload.find(nodes.first)
    await nodes.collect(nodes.first)
    assert not nodes.kept.objects()


async def test_an_abandoned_upload_is_swept_with_what_its_losers_left(nodes):
    upload = await nodes.open(nodes.first, b"some")
    lost = nodes.first.app.store.upload(upload.session.storage_key)
    lost.resume(0, ())
    await lost.append(once(b"of a node that was killed"), 0, [])
    nodes.check()

    await nodes.end()


async def test_what_losers_left_of_a_committed_upload_is_swept_by_one(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"some")
    lost = nodes.first.app.store.upload(upload.session.storage_key)
    lost.resume(0, ())
    await lost.append(once(b"of a node that was killed"), 0, [])
    await upload.put(nodes.first)
    assert len(nodes.kept.objects()) == 2

    listed = []
    leftovers = ObjectStore.leftovers

    def counted(store, key):
        listed.append(key)
        return leftovers(store, key)

    monkeypatch.setattr(ObjectStore, "leftovers", counted)
    for node in (nodes.first, nodes.second):
        swap(node.registry.uploads, clock=Shifted(2 * DAY))
    await asyncio.gather(*(node.registry.uploads.sweep() for node in (nodes.first, nodes.second)))

    assert listed == [upload.session.storage_key]
    assert len(nodes.kept.objects()) == 1
    assert await upload.pull(nodes.first) == b"some"


async def test_what_losers_left_goes_later_when_the_store_is_away(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"some")
    lost = nodes.first.app.store.upload(upload.session.storage_key)
    lost.resume(0, ())
    await lost.append(once(b"of a node that was killed"), 0, [])
    await upload.put(nodes.first)
    ((key,),) = await rows(nodes, "SELECT storage_key FROM blobs")
    clock = Shifted(2 * DAY)
    for node in (nodes.first, nodes.second):
        swap(node.registry.uploads, clock=clock)

    def away(_):
        raise Unavailable("away")

    monkeypatch.setattr(nodes.second.app.store, "leftovers", away)
    assert await nodes.second.registry.uploads.sweep() == 0
    assert await nodes.first.registry.uploads.sweep() == 0
    assert len(nodes.kept.objects()) == 2

    clock.ahead += 10 * MINUTE
    assert await nodes.first.registry.uploads.sweep() == 1
    assert list(nodes.kept.objects()) == [key]


async def test_what_uploads_to_a_repository_left_goes_with_it(nodes):
    upload = await nodes.open(nodes.first, b"some", b"more")
    lost = nodes.first.app.store.upload(upload.session.storage_key)
    lost.resume(0, ())
    await lost.append(once(b"of a node that was killed"), 0, [])
    await nodes.open(nodes.first, b"of another")

    await nodes.delete_repository(upload)
    with pytest.raises(UploadUnknown):
        await nodes.first.registry.uploads.append(upload.session, once(b"late"), None)
    await nodes.second.registry.uploads.sweep()
    await nodes.collect(nodes.second)

    assert len(nodes.kept.objects()) == 1
    nodes.check()


async def test_a_body_that_arrives_while_its_repository_goes_leaves_nothing(nodes):
    upload = await nodes.open(nodes.first, b"some")

    async def body():
        yield b"before"
        await nodes.delete_repository(upload)
        await nodes.second.registry.uploads.sweep()
        await nodes.collect(nodes.second)
        yield b"behind"

    with pytest.raises(UploadUnknown):
        await nodes.first.registry.uploads.append(upload.session, body(), None)

    assert not nodes.kept.objects()
    nodes.check()


async def test_an_upload_does_not_expire_while_its_body_arrives(nodes):
    upload = await nodes.open(nodes.first, b"some")
    clock = Shifted(23 * HOUR)  # of a day
    for node in (nodes.first, nodes.second):
        swap(node.registry.uploads, clock=clock)

    async def body():
        for number in range(9):
            await nodes.second.registry.uploads.sweep()
            yield b"%d" % number
            clock.ahead += 20 * HOUR

    await nodes.first.registry.uploads.append(upload.session, body(), None)

    upload.session, upload.content = await upload.find(nodes.second), b"some012345678"
    await upload.put(nodes.second)
    assert await upload.pull(nodes.second) == upload.content


async def test_a_renewal_that_fails_is_tried_again_soon(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"some")
    clock, failures = Shifted(23 * HOUR), [Unavailable("away")]  # of a day
    for node in (nodes.first, nodes.second):
        swap(node.registry.uploads, clock=clock)
    renew = uploads.renew

    async def fails_once(*words, **named):
        if failures:
            raise failures.pop()
        return await renew(*words, **named)

    async def body():
        yield b"first"
        clock.ahead += MINUTE
        yield b"second"
        clock.ahead += 2 * HOUR
        await nodes.second.registry.uploads.sweep()

    monkeypatch.setattr(uploads, "renew", fails_once)
    after = await nodes.first.registry.uploads.append(upload.session, body(), None)

    assert after.size == len(b"somefirstsecond")
    assert not failures


async def test_an_upload_does_not_expire_while_its_commit_reads_it(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"some")
    await upload.patch(nodes.second, b"more")
    clock = Shifted(23 * HOUR)  # of a day
    for node in (nodes.first, nodes.second):
        swap(node.registry.uploads, clock=clock)
    read_back = nodes.second.app.store.read_back

    async def late(*words):
        clock.ahead += 2 * HOUR
        await nodes.first.registry.uploads.sweep()
        return await read_back(*words)

    monkeypatch.setattr(nodes.second.app.store, "read_back", late)

    await upload.put(nodes.second)

    assert await upload.pull(nodes.first) == b"somemore"


async def test_a_commit_reads_on_without_its_database(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"some")
    await upload.patch(nodes.second, b"more")
    monkeypatch.setattr(catching_up, "_LOOK_SECONDS", 0.01)
    read_back, is_asked = nodes.second.app.store.read_back, asyncio.Event()

    class Away:
        def read(self):
            is_asked.set()
            raise Unavailable("away")

    async def once_asked(*words):
        await asyncio.wait_for(is_asked.wait(), 20)
        return await read_back(*words)

    monkeypatch.setattr(nodes.second.app.store, "read_back", once_asked)
    swap(nodes.second.registry.uploads._catching_up, database=Away())

    await upload.put(nodes.second)

    assert await upload.pull(nodes.first) == b"somemore"


async def test_nothing_is_added_behind_other_bytes_than_it_was_sent_behind(nodes):
    """As after a failover to a standby that had not heard of the last PATCH, which came again."""
    upload = await nodes.open(nodes.first, b"some")
    sql = "UPDATE segments SET object_key = :key"

    async def body():
        yield b"more"
        await nodes.second.app.database.write(
            lambda tx: tx.execute(sql, key=f"{'a' * 32}.{'b' * 8}")
        )

    with pytest.raises(UploadBusy):
        await nodes.first.registry.uploads.append(upload.session, body(), None)

    assert (await upload.find(nodes.second)).size == 4
    assert len(nodes.kept.objects()) == 1


async def test_a_store_that_cannot_say_whether_it_lost_a_blob_ends_no_push(nodes, monkeypatch):
    before = await nodes.open(nodes.first, b"some")
    await before.put(nodes.first)

    def away(*_):
        raise Unavailable("away")

    monkeypatch.setattr(nodes.second.app.store, "require", away)
    upload = await nodes.open(nodes.second, b"some")

    await upload.put(nodes.second)

    assert await upload.pull(nodes.first) == b"some"


@pytest.mark.parametrize("count", [1, 2], ids=["one object", "segments"])
async def test_a_push_heals_a_blob_that_nobody_has_missed_yet(nodes, bucket, count):
    upload = await nodes.in_segments(nodes.first, count)
    lost = set(nodes.kept.objects())
    key = max(lost)
    bucket.client().delete_object(Bucket=bucket.name, Key=f"{nodes.kept.prefix}{key[:2]}/{key}")

    again = await nodes.open(nodes.second)
    await again.put(nodes.second, upload.content)

    assert await upload.pull(nodes.first) == upload.content
    nodes.check()
    await nodes.collect(nodes.first, ahead=2 * DAY)
    assert not lost & set(nodes.kept.objects())


async def test_a_push_of_what_is_there_is_the_duplicate(nodes):
    upload = await nodes.in_segments(nodes.first, 1)
    kept = nodes.kept.objects()

    again = await nodes.open(nodes.second)
    await again.put(nodes.second, upload.content)

    await nodes.collect(nodes.first, ahead=DAY + MINUTE)
    assert set(nodes.kept.objects()) == set(kept)


@on_both
async def test_a_repeated_put_meets_the_first_one_when_that_has_just_ended(nodes):
    upload = await nodes.open(nodes.first, b"some")
    found = upload.session

    await upload.put(nodes.first, b" more")
    upload.session = found
    await upload.put(nodes.second, b" more", before=b"some")

    assert await upload.pull(nodes.second) == b"some more"
    with pytest.raises(UploadUnknown):
        await upload.put(nodes.second, b" less", before=b"some")


@on_both
async def test_a_joined_blob_is_one_object_and_its_segments_go(nodes):
    upload = await nodes.in_segments(nodes.first, 3)
    other = await nodes.in_segments(nodes.second)

    assert await nodes.joining(nodes.second).count_unjoined() == 2
    assert await nodes.joining(nodes.second).sweep() == 2

    assert await nodes.joining(nodes.first).sweep() == 0
    assert await upload.pull(nodes.first) == upload.content
    assert await other.pull(nodes.first) == other.content
    nodes.check()
    await nodes.collect(nodes.first)
    assert len(nodes.kept.objects()) == 2
    assert await upload.pull(nodes.second) == upload.content
    assert not await rows(nodes, "SELECT * FROM segments")
    nodes.check()
    await nodes.end()


async def test_segments_are_removed_some_at_once(nodes, monkeypatch):
    await nodes.in_segments(nodes.first, 3)
    await nodes.joining(nodes.second).sweep()
    meeting, remove = threading.Barrier(3), ObjectStore.remove

    def together(store, key):
        meeting.wait(60)
        remove(store, key)

    monkeypatch.setattr(ObjectStore, "remove", together)
    await nodes.collect(nodes.first)

    assert len(nodes.kept.objects()) == 1


async def test_what_is_too_large_to_join_does_not_wait_for_it(nodes, monkeypatch):
    upload = await nodes.in_segments(nodes.first)
    monkeypatch.setattr(joining, "_MOST_BYTES", len(upload.content) - 1)

    assert await nodes.joining(nodes.first).sweep() == 0

    assert await nodes.joining(nodes.first).count_unjoined() == 0
    assert await upload.pull(nodes.second) == upload.content


async def test_a_pull_that_began_before_the_join_gets_all_bytes(nodes):
    upload = await nodes.in_segments(nodes.first)
    repository = await upload.repository(nodes.first)
    found = await nodes.first.registry.pull.blob(repository, Digest.of(upload.content))
    begun = await found.piece(0, 10)

    await nodes.joining(nodes.second).sweep()

    assert begun + await found.piece(10, PIECE - 10) == upload.content[:PIECE]
    assert await found.piece(PIECE, PIECE) == upload.content[PIECE:]
    found.close()


async def test_damaged_segments_are_noted_and_not_joined(nodes, bucket):
    upload = await nodes.in_segments(nodes.first)
    key = min(nodes.kept.objects())
    body = b"?" * PIECE
    bucket.client().put_object(
        Bucket=bucket.name, Key=f"{nodes.kept.prefix}{key[:2]}/{key}", Body=body
    )

    assert await nodes.joining(nodes.second).sweep() == 0

    ((damaged_at,),) = await rows(nodes, "SELECT damaged_at FROM blobs")
    assert damaged_at is not None
    assert await nodes.joining(nodes.first).count_unjoined() == 0
    assert set(nodes.kept.objects()) >= {key}
    again = await nodes.open(nodes.second)
    await again.put(nodes.first, upload.content)
    assert await upload.pull(nodes.second) == upload.content
    nodes.check()
    await nodes.end()


async def test_what_was_deleted_before_its_turn_is_joined_when_it_comes_again(nodes):
    upload = await nodes.in_segments(nodes.first)
    joins = nodes.joining(nodes.second)
    (found,) = await joins._page("")
    await nodes.delete_repository(upload)
    for days in (9, 10, 11):
        await nodes.collect(nodes.first, ahead=days * DAY)
    assert not await rows(nodes, "SELECT digest FROM blobs")

    with structlog.testing.capture_logs() as said:
        assert not await joins._join_if_right(found)
        again = await nodes.open(nodes.first, upload.content[:PIECE], upload.content[PIECE:])
        await again.put(nodes.first)
        assert await joins.sweep() == 1

    assert not [line for line in said if line["log_level"] in {"warning", "error"}]
    assert await again.pull(nodes.second) == upload.content


async def test_what_a_killed_join_left_goes_with_the_segments(nodes):
    upload = await nodes.in_segments(nodes.first)
    lost = nodes.first.app.store.upload(upload.session.storage_key)
    lost.resume(0, ())
    await lost.append(once(upload.content), 0, [])

    assert await nodes.joining(nodes.second).sweep() == 1
    await nodes.collect(nodes.second)

    assert len(nodes.kept.objects()) == 1
    assert await upload.pull(nodes.first) == upload.content


async def test_one_process_joins_until_its_lease_is_over(nodes):
    await nodes.in_segments(nodes.first)
    first, second = nodes.joining(nodes.first), nodes.joining(nodes.second)

    assert await first._claim()
    assert await second.sweep() == 0
    second._clock = Shifted(3 * MINUTE)
    assert await second._claim()
    with pytest.raises(LeaseLost):
        await first._renew()


async def test_a_lease_lasts_for_as_many_small_blobs_as_there_are(nodes):
    for _ in range(4):
        await nodes.in_segments(nodes.first)
    first, second = nodes.joining(nodes.first), nodes.joining(nodes.second)
    others = []

    async def meanwhile():
        others.append(await second.sweep())

    after_each_blob(first, second, MINUTE, meanwhile)

    assert await first.sweep() == 4
    assert others == [0] * 4


async def test_who_lost_the_lease_between_two_blobs_joins_no_more(nodes):
    for _ in range(2):
        await nodes.in_segments(nodes.first)
    first, second = nodes.joining(nodes.first), nodes.joining(nodes.second)

    async def meanwhile():
        assert await second._claim()

    after_each_blob(first, second, 3 * MINUTE, meanwhile)

    with pytest.raises(LeaseLost):
        await first.sweep()

    assert await nodes.joining(nodes.first).count_unjoined() == 1


def after_each_blob(first, second, pause, work):
    """Let so much time pass whenever the first has joined one, and do something then."""
    first._clock = second._clock = clock = Shifted()
    join = first._join

    async def slowly(blob):
        is_joined = await join(blob)
        clock.ahead += pause
        await work()
        return is_joined

    first._join = slowly


@on_both
async def test_an_upload_that_hops_is_hashed_where_it_began(nodes):
    upload = await nodes.open(nodes.first, b"first")
    for number in range(4):
        await upload.patch((nodes.second, nodes.first)[number % 2], b"piece %d" % number)
    assert (await upload.find(nodes.second)).digest is None

    assert await nodes.first.registry.uploads.catch_up() == 1
    assert await nodes.second.registry.uploads.catch_up() == 0

    known = str(Digest.of(upload.content))
    assert (await upload.find(nodes.second)).digest == known
    await upload.patch(nodes.first, b"last")  # whose hash is as far as the session
    assert (await upload.find(nodes.second)).digest == str(Digest.of(upload.content))
    await upload.put(nodes.second)
    assert await upload.pull(nodes.first) == upload.content
    assert await nodes.first.registry.uploads.catch_up() == 0
    await nodes.end()


async def test_a_commit_where_an_upload_began_reads_what_others_received(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"first")
    await upload.patch(nodes.second, b"second")
    monkeypatch.setattr(nodes.first.app.store, "read_back", None)

    await upload.put(nodes.first, b"third")

    assert await upload.pull(nodes.second) == b"firstsecondthird"


async def test_a_commit_elsewhere_takes_the_digest_that_is_noted_first(nodes, monkeypatch):
    upload = await nodes.open(nodes.first, b"first")
    await upload.patch(nodes.second, b"second")
    is_asked = asyncio.Event()

    async def never(*_):
        is_asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(nodes.second.app.store, "read_back", never)
    putting = asyncio.create_task(upload.put(nodes.second))
    await asyncio.wait_for(is_asked.wait(), 20)

    await nodes.first.registry.uploads.catch_up()

    assert await asyncio.wait_for(putting, 20) == b"firstsecond"
    assert await upload.pull(nodes.first) == b"firstsecond"


async def test_a_transfer_that_nobody_ends_is_swept_after_a_while(nodes, bucket):
    client = bucket.client()
    client.create_multipart_upload(
        Bucket=bucket.name, Key=f"{nodes.kept.prefix}ab/{'ab' * 16}.{'0' * 8}"
    )
    uploads = nodes.first.registry.uploads

    await uploads.sweep_strays()
    assert len(bucket.unfinished()) == 1
    swap(uploads, clock=Shifted(8 * DAY))
    await uploads.sweep_strays()

    assert bucket.unfinished() == []
