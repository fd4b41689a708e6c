"""One process fetches blobs for many readers."""

import asyncio
import os

import pytest

from entrepot.blobs.answers import File
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    BlobUnknown,
    EntrepotError,
    StorageFull,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamForbidden,
)
from entrepot.services.fetch_here import Fetch
from tests.mirror.fetching import MIB, drained, put
from tests.support.upstreams import Gate, faults


async def test_a_blob_is_fetched_once_and_kept(fleet, worker, upstream):
    content, digest = put(upstream)
    repository = await fleet.repository()

    cold = await worker.read(repository, digest)
    await fleet.settled()
    warm = await worker.fetches.join(repository, Digest.parse(digest))

    assert cold == content
    assert isinstance(warm, File)
    assert warm.path.read_bytes() == content
    assert upstream.log.count(kind="blob") == 1
    assert await fleet.holders(digest) == [repository.id]


async def test_two_hundred_readers_cost_one_get(fleet, worker, upstream):
    content, digest = put(upstream)
    repository = await fleet.repository()

    got = await asyncio.gather(*(worker.read(repository, digest) for _ in range(200)))

    assert all(one == content for one in got)
    assert upstream.log.count(kind="blob") == 1
    await fleet.settled()


async def test_bytes_go_out_while_the_rest_is_still_to_come(fleet, worker, upstream):
    content, digest = put(upstream)
    gate = Gate()
    upstream.script(faults.held(gate, at=MIB), kind="blob")
    repository = await fleet.repository()

    arriving = await worker.fetches.join(repository, Digest.parse(digest))
    first = await arriving.piece(0, 64 * 1024)
    gate.open()

    assert arriving.size == len(content)
    assert content.startswith(first)
    assert await drained(arriving) == content
    await fleet.settled()


async def test_the_end_of_a_cold_blob_is_waited_for(fleet, worker, upstream):
    content, digest = put(upstream)
    repository = await fleet.repository()

    arriving = await worker.fetches.join(repository, Digest.parse(digest))
    last = await arriving.piece(len(content) - 10, 10)
    end = await arriving.piece(len(content), 10)
    arriving.close()

    assert last[-1:] == content[-1:] or len(last) < 10
    assert end == b""
    await fleet.settled()


@pytest.mark.parametrize("fault", [faults.wrong_bytes, faults.body(b"x" * 3 * MIB)])
async def test_wrong_bytes_break_off_before_the_last_and_leave_nothing(
    fleet, worker, upstream, fault
):
    content, digest = put(upstream)
    upstream.script(fault, times=1, kind="blob")
    repository = await fleet.repository()

    arriving = await worker.fetches.join(repository, Digest.parse(digest))
    got = bytearray()
    with pytest.raises(UpstreamBroken):
        await drained(arriving, got)
    await fleet.settled()

    assert len(got) < len(content)
    assert not list(fleet.blobs.glob("*/*"))
    assert await worker.read(repository, digest) == content
    await fleet.settled()


async def test_wrong_bytes_without_a_length_break_off_too(fleet, worker, upstream):
    content, digest = put(upstream)
    upstream.script(lambda reply: faults.chunked(faults.wrong_bytes(reply)), kind="blob")
    repository = await fleet.repository()

    arriving = await worker.fetches.join(repository, Digest.parse(digest))
    got = bytearray()
    with pytest.raises(UpstreamBroken):
        await drained(arriving, got)

    assert arriving.size is None
    assert len(got) < len(content)


async def test_a_blob_without_a_length_arrives(fleet, worker, upstream):
    content, digest = put(upstream)
    upstream.script(faults.chunked, kind="blob")

    assert await worker.read(await fleet.repository(), digest) == content
    await fleet.settled()


async def test_a_body_that_never_ends_is_cut_off(fleet, upstream):
    worker = await fleet.worker(spool_bytes=8 * MIB)
    _, digest = put(upstream, MIB)
    upstream.script(faults.endless, kind="blob")

    with pytest.raises(UpstreamBroken):
        await worker.read(await fleet.repository(), digest)
    await fleet.settled()


@pytest.mark.parametrize(
    "fault",
    [
        faults.truncated(at=20 * MIB),
        faults.reset(at=20 * MIB),
        faults.unfinished_chunks(at=20 * MIB),
    ],
)
async def test_what_broke_off_is_continued_where_it_ended(fleet, worker, upstream, fault):
    # A connection that breaks takes along what was received and not yet handed on: some MiB.
    content, digest = put(upstream, 24 * MIB)
    upstream.script(fault, times=1, kind="blob")

    assert await worker.read(await fleet.repository(), digest) == content

    asked = upstream.log.of(kind="blob", method="GET")
    assert len(asked) == 2
    assert asked[1].headers["range"].startswith("bytes=")
    assert upstream.log.sent(kind="blob") < len(content) + 16 * MIB
    await fleet.settled()


async def test_an_upstream_without_ranges_is_read_from_the_start_again(fleet, worker, upstream):
    content, digest = put(upstream, 12 * MIB)
    upstream.script(faults.truncated(at=8 * MIB), times=1, kind="blob")
    upstream.script(faults.ignores_range, kind="blob")

    assert await worker.read(await fleet.repository(), digest) == content
    await fleet.settled()


@pytest.mark.parametrize("fault", [faults.wrong_range, faults.lying_range])
async def test_a_rest_that_is_another_part_is_never_completed(fleet, worker, upstream, fault):
    _, digest = put(upstream, 12 * MIB)
    upstream.script(faults.truncated(at=8 * MIB), times=1, kind="blob")
    upstream.script(fault, kind="blob")

    with pytest.raises(EntrepotError):
        await worker.read(await fleet.repository(), digest)
    await fleet.settled()
    assert not list(fleet.blobs.glob("*/*"))


async def test_an_upstream_that_always_breaks_off_is_given_up(fleet, worker, upstream):
    _, digest = put(upstream)
    upstream.script(faults.truncated(at=MIB), times=1, kind="blob")
    upstream.script(faults.status(503), kind="blob")

    with pytest.raises(UpstreamDown):
        await worker.read(await fleet.repository(), digest)
    await fleet.settled()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(404), BlobUnknown),
        (faults.status(403), UpstreamForbidden),
        (faults.status(429, retry_after=7), UpstreamBusy),
        (faults.status(500), UpstreamDown),
        (faults.gzip, UpstreamBroken),
    ],
)
async def test_an_error_is_told_and_not_remembered(fleet, worker, upstream, fault, error):
    content, digest = put(upstream)
    repository = await fleet.repository()
    rule = upstream.script(fault, kind="blob")

    with pytest.raises(error):
        await worker.read(repository, digest)
    await fleet.settled()

    upstream.heal(rule)
    if error in {BlobUnknown, UpstreamForbidden, UpstreamBroken}:
        assert await worker.read(repository, digest) == content
        await fleet.settled()


async def test_a_longer_blob_than_its_digest_is_refused(fleet, worker, upstream):
    _, digest = put(upstream)
    upstream.script(faults.longer(), kind="blob")

    with pytest.raises(UpstreamBroken):
        await worker.read(await fleet.repository(), digest)
    await fleet.settled()


async def test_a_fetch_outlives_its_readers(fleet, worker, upstream):
    content, digest = put(upstream)
    gate = Gate()
    upstream.script(faults.held(gate, at=MIB), kind="blob")
    repository = await fleet.repository()

    reading = asyncio.create_task(worker.read(repository, digest))
    await asyncio.to_thread(gate.wait_until_reached)
    reading.cancel()
    gate.open()
    await fleet.settled()

    assert isinstance(await worker.fetches.join(repository, Digest.parse(digest)), File)
    assert upstream.log.sent(kind="blob") == len(content)


async def test_a_fetch_that_nobody_waits_for_ends_when_much_is_missing(fleet, upstream):
    worker = await fleet.worker(finish_bytes=MIB)
    _, digest = put(upstream)
    gate = Gate()
    upstream.script(faults.held(gate, at=MIB), kind="blob")
    repository = await fleet.repository()

    arriving = await worker.fetches.join(repository, Digest.parse(digest))
    arriving.close()
    await fleet.settled()
    gate.open()

    assert await fleet.holders(digest) == []


async def test_who_comes_as_a_fetch_without_readers_ends_gets_the_blob(
    fleet, upstream, monkeypatch
):
    worker, other = await fleet.worker(finish_bytes=MIB), await fleet.worker()
    content, digest = put(upstream)
    gate = Gate()
    upstream.script(faults.held(gate, at=MIB), times=1, kind="blob")
    repository = await fleet.repository()
    end, coming = Fetch._end, []

    async def end_late(fetch, id_, **how):
        coming.append(asyncio.create_task(worker.read(repository, digest)))
        await asyncio.sleep(0)  # it has joined by then
        arriving = await other.fetches.join(repository, Digest.parse(digest))
        coming.append(asyncio.create_task(drained(arriving)))
        await end(fetch, id_, **how)

    monkeypatch.setattr(Fetch, "_end", end_late)

    arriving = await worker.fetches.join(repository, Digest.parse(digest))
    arriving.close()
    await asyncio.gather(*worker.fetches._tasks)
    gate.open()

    assert await asyncio.gather(*coming) == [content, content]
    await fleet.settled()


async def test_what_another_organisation_has_is_proved_first(fleet, worker, upstream):
    content, digest = put(upstream)
    first, second = await fleet.repository(), await fleet.repository()
    third = await fleet.repository("library/other")
    await worker.read(first, digest)
    await fleet.settled()

    got = await worker.read(second, digest)
    with pytest.raises(BlobUnknown):
        await worker.read(third, digest)

    assert got == content
    assert upstream.log.count(kind="blob", method="GET") == 1
    assert upstream.log.count(kind="blob", method="HEAD") == 2
    assert await fleet.holders(digest) == sorted([first.id, second.id])


async def test_who_joins_from_another_repository_is_proved_first(fleet, worker, upstream):
    content, digest = put(upstream)
    gate = Gate()
    upstream.script(faults.held(gate, at=MIB), kind="blob", method="GET")
    upstream_id = await fleet.upstream_row()
    first = await fleet.repository(upstream_id=upstream_id)
    second = await fleet.repository(upstream_id=upstream_id)
    other = await fleet.repository("library/other", upstream_id=upstream_id)

    reading = asyncio.create_task(worker.read(first, digest))
    await asyncio.to_thread(gate.wait_until_reached)
    joining = asyncio.create_task(worker.read(second, digest))
    with pytest.raises(BlobUnknown):
        await worker.read(other, digest)
    gate.open()

    assert await reading == await joining == content
    assert upstream.log.count(kind="blob", method="GET") == 1
    await fleet.settled()
    assert await fleet.holders(digest) == sorted([first.id, second.id])


async def test_a_head_fetches_nothing_and_is_asked_once(fleet, worker, upstream):
    content, digest = put(upstream)
    repository = await fleet.repository()

    sizes = await asyncio.gather(
        *(worker.fetches.size(repository, Digest.parse(digest)) for _ in range(20))
    )

    assert set(sizes) == {len(content)}
    assert [entry.method for entry in upstream.log.of(kind="blob")] == ["HEAD"]


async def test_a_lost_object_is_fetched_again(fleet, worker, upstream):
    content, digest = put(upstream)
    repository = await fleet.repository()
    await worker.read(repository, digest)
    await fleet.settled()
    for path in fleet.blobs.glob("*/*"):
        path.unlink()

    again = await worker.read(repository, digest)
    await fleet.settled()

    assert again == content
    assert isinstance(await worker.fetches.join(repository, Digest.parse(digest)), File)


async def test_a_repository_deleted_meanwhile_gets_nothing(fleet, worker, upstream):
    content, digest = put(upstream)
    gate = Gate()
    upstream.script(faults.held(gate, at=MIB), kind="blob")
    repository = await fleet.repository()

    reading = asyncio.create_task(worker.read(repository, digest))
    await asyncio.to_thread(gate.wait_until_reached)
    await worker.database.write(
        lambda tx: tx.execute(
            "UPDATE repositories SET deleted_at = 1 WHERE id = :id", id=repository.id
        )
    )
    gate.open()

    assert await reading == content
    await fleet.settled()
    assert not await fleet.unburied()


async def test_more_than_the_spools_may_take_is_refused_with_the_setting(fleet, upstream):
    worker = await fleet.worker(spool_bytes=MIB)
    _, digest = put(upstream)

    with pytest.raises(UpstreamBusy, match="ENTREPOT_FETCH__SPOOL_BYTES"):
        await worker.read(await fleet.repository(), digest)
    await fleet.settled()


async def test_a_full_disk_is_told_and_leaves_nothing(fleet, worker, upstream, monkeypatch):
    _, digest = put(upstream)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "pwrite", full)

    with pytest.raises(StorageFull):
        await worker.read(await fleet.repository(), digest)
    await fleet.settled()


async def test_a_budget_of_ours_is_not_held_against_the_upstream(fleet, upstream):
    worker = await fleet.worker(spool_bytes=2 * MIB)
    _, large = put(upstream)
    content, small = put(upstream, MIB)
    repository = await fleet.repository()

    with pytest.raises(UpstreamBusy):
        await worker.read(repository, large)

    assert await worker.read(repository, small) == content
    await fleet.settled()


async def test_what_is_still_to_come_counts_as_taken_on_the_whole_node(fleet, upstream):
    worker, other = [await fleet.worker(spool_bytes=4 * MIB) for _ in range(2)]
    gate = Gate()
    upstream.script(faults.held(gate), kind="blob", method="GET", times=1)
    (content, first), (_, second) = put(upstream), put(upstream)
    repository = await fleet.repository()

    reading = await worker.fetches.join(repository, Digest.parse(first))
    for one in (worker, other):
        with pytest.raises(UpstreamBusy, match="ENTREPOT_FETCH__SPOOL_BYTES"):
            await one.read(repository, second)
    gate.open()

    assert await drained(reading) == content
    await fleet.settled()
    assert len(await worker.read(repository, second)) == 3 * MIB
    await fleet.settled()


async def test_wrong_bytes_are_counted_as_an_error(fleet, worker, upstream):
    _, digest = put(upstream)
    upstream.script(faults.wrong_bytes, kind="blob")
    repository = await fleet.repository()

    with pytest.raises(UpstreamBroken):
        await worker.read(repository, digest)
    await worker.remotes.flush()

    assert await fleet.rows("SELECT errors FROM upstream_states") == [(1,)]


async def test_those_who_wait_for_what_is_stored_meanwhile_get_it(fleet, worker, upstream):
    content, digest = put(upstream)
    repository = await fleet.repository()
    await worker.read(repository, digest)
    await fleet.settled()

    # As by somebody who looked just before it was stored.
    late = worker.fetches._start(repository, Digest.parse(digest))
    answers = await asyncio.gather(*(worker.read(repository, digest) for _ in range(5)))

    assert late.progress is not None
    assert set(answers) == {content}
    assert upstream.log.count(kind="blob", method="GET") == 1
