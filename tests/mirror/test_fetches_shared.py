"""Several processes and several nodes fetch a blob together: the upstream's log is the witness."""

import asyncio
import os
import secrets

import pytest

from entrepot.model.digests import Digest
from entrepot.model.errors import (
    BlobUnknown,
    EntrepotError,
    NotFound,
    UpstreamBroken,
    UpstreamError,
)
from tests.mirror.fetching import MIB, NAME, drained, fleet_before, put
from tests.support.upstreams import Gate, faults


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def shared_bucket(request):
    """Where the bytes of several nodes are, if not in a folder that all of them mount."""
    return request.getfixturevalue("bucket") if request.param == "bucket" else None


@pytest.fixture
async def wide_fleet(postgres_url, tmp_path, upstream, shared_bucket):
    """A registry of nodes that have no disk in common but, perhaps, that of the bytes."""
    async with fleet_before(upstream, postgres_url, tmp_path, shared_bucket) as fleet:
        yield fleet


async def reached(*arriving):
    """Until each of these has got all bytes that come before the gate."""
    for one in arriving:
        assert await one.piece(2 * MIB - 1, 1)


async def test_workers_of_a_node_share_one_get(fleet, upstream):
    workers = [await fleet.worker() for _ in range(4)]
    content, digest = put(upstream)
    repository = await fleet.repository()

    got = await asyncio.gather(
        *(worker.read(repository, digest) for worker in workers for _ in range(20))
    )

    assert all(one == content for one in got)
    assert upstream.log.count(kind="blob") == 1
    await fleet.settled()


async def test_nodes_share_one_get(wide_fleet, upstream):
    nodes = [await wide_fleet.node(name) for name in ("one", "two", "three")]
    content, digest = put(upstream)
    repository = await wide_fleet.repository()

    got = await asyncio.gather(
        *(node.read(repository, digest) for node in nodes for _ in range(20))
    )

    assert all(one == content for one in got)
    assert upstream.log.count(kind="blob") == 1
    assert upstream.log.sent(kind="blob") == len(content)
    await wide_fleet.settled()


async def test_a_node_takes_part_while_the_rest_is_still_to_come(wide_fleet, upstream, held):
    first, second = await wide_fleet.node("one"), await wide_fleet.node("two")
    third = await wide_fleet.worker("two")
    content, digest = put(upstream)
    repository = await wide_fleet.repository()

    leading = await first.fetches.join(repository, Digest.parse(digest))
    following = await second.fetches.join(repository, Digest.parse(digest))
    tailing = await third.fetches.join(repository, Digest.parse(digest))
    await reached(leading, following, tailing)
    held.open()

    assert leading.size == following.size == tailing.size == len(content)
    assert await drained(leading) == content
    assert await drained(following) == content
    assert await drained(tailing) == content
    assert upstream.log.count(kind="blob") == 1
    await wide_fleet.settled()


async def test_a_worker_goes_on_where_another_of_its_node_died(fleet, upstream, held):
    first, second = await fleet.worker(), await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()

    leading = await first.fetches.join(repository, Digest.parse(digest))
    following = await second.fetches.join(repository, Digest.parse(digest))
    await reached(leading, following)
    await first.die()

    assert await drained(following) == content
    asked = upstream.log.of(kind="blob", method="GET")
    assert [entry.headers.get("range") for entry in asked] == [None, f"bytes={2 * MIB}-"]
    leading.close()
    await fleet.settled()


async def test_a_node_goes_on_where_another_died(wide_fleet, upstream, held):
    first = await wide_fleet.node("one", take_over_seconds=1)
    second = await wide_fleet.node("two", take_over_seconds=1)
    third = await wide_fleet.node("three", take_over_seconds=1)
    content, digest = put(upstream)
    repository = await wide_fleet.repository()

    leading = await first.fetches.join(repository, Digest.parse(digest))
    following = [
        await node.fetches.join(repository, Digest.parse(digest)) for node in (second, third)
    ]
    await reached(leading, *following)
    await first.die()

    assert await drained(following[0]) == content
    assert await drained(following[1]) == content
    asked = upstream.log.of(kind="blob", method="GET")
    assert [entry.headers.get("range") for entry in asked] == [None, f"bytes={2 * MIB}-"]
    leading.close()
    for name in first.spooled():
        assert first.spools.remove_left(name)
    await wide_fleet.settled()


async def test_what_came_from_a_dead_node_goes_when_nobody_may_go_on_with_it(
    wide_fleet, upstream, held
):
    first = await wide_fleet.node("one", take_over_seconds=1)
    second = await wide_fleet.node("two", take_over_seconds=1)
    _, digest = put(upstream)
    repository = await wide_fleet.repository()
    leading = await first.fetches.join(repository, Digest.parse(digest))
    following = await second.fetches.join(repository, Digest.parse(digest))
    await reached(leading, following)
    upstream.script(faults.status(503), kind="blob")

    await first.die()

    with pytest.raises(UpstreamError):
        await drained(following)
    await asyncio.gather(*second.fetches._tasks)
    assert not second.spooled()
    leading.close()


async def test_a_new_process_goes_on_where_the_last_one_stopped(fleet, upstream, held):
    first = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()
    leading = await first.fetches.join(repository, Digest.parse(digest))
    await reached(leading)
    leading.close()
    await first.die()

    second = await fleet.worker()

    assert await second.read(repository, digest) == content
    asked = upstream.log.of(kind="blob", method="GET")
    assert asked[1].headers["range"] == f"bytes={2 * MIB}-"
    await fleet.settled()


async def test_bytes_that_a_dead_worker_left_wrong_are_found_out(fleet, upstream, held):
    first = await fleet.worker()
    content, digest = put(upstream)
    repository = await fleet.repository()
    leading = await first.fetches.join(repository, Digest.parse(digest))
    await reached(leading)
    leading.close()
    await first.die()
    [name] = first.spooled()
    with (first.data / "spool" / name).open("r+b") as spool:
        spool.write(b"not what came")

    second = await fleet.worker()
    with pytest.raises(UpstreamBroken):
        await second.read(repository, digest)
    await fleet.settled()

    assert not fleet.kept.objects()
    assert await second.read(repository, digest) == content
    await fleet.settled()


async def test_a_leader_that_hangs_is_replaced(fleet, upstream, held, monkeypatch):
    first = await fleet.worker(take_over_seconds=1)
    second = await fleet.worker(take_over_seconds=1)
    content, digest = put(upstream)
    repository = await fleet.repository()

    leading = await first.fetches.join(repository, Digest.parse(digest))
    following = await second.fetches.join(repository, Digest.parse(digest))
    await reached(leading, following)

    assert await drained(following) == content  # its beat comes every three seconds: that is hung
    held.open()
    assert await drained(leading) == content
    await fleet.settled()
    assert len(await fleet.rows("SELECT digest FROM blobs")) == 1
    assert len(await fleet.unburied()) == 1


async def test_wrong_bytes_break_off_on_every_node(wide_fleet, upstream):
    nodes = [await wide_fleet.node("one"), await wide_fleet.node("two")]
    workers = [*nodes, await wide_fleet.worker("one"), await wide_fleet.worker("two")]
    content, digest = put(upstream)
    gate = Gate()

    def wrong(reply):
        return faults.held(gate, at=2 * MIB)(faults.wrong_bytes(reply))

    rule = upstream.script(wrong, kind="blob", method="GET")
    repository = await wide_fleet.repository()
    arriving = [await worker.fetches.join(repository, Digest.parse(digest)) for worker in workers]
    await reached(*arriving)
    gate.open()

    got = [bytearray() for _ in arriving]
    ends = await asyncio.gather(
        *(drained(one, into) for one, into in zip(arriving, got, strict=True)),
        return_exceptions=True,
    )

    assert all(isinstance(end, EntrepotError) for end in ends)
    assert all(len(into) < len(content) for into in got)
    while any(worker.fetches._tasks for worker in workers):
        await asyncio.wait([t for worker in workers for t in worker.fetches._tasks])
    assert not wide_fleet.kept.objects()
    upstream.heal(rule)
    assert await nodes[1].read(repository, digest) == content
    await wide_fleet.settled()


async def test_an_upstream_that_has_nothing_is_heard_by_all(fleet, upstream):
    workers = [await fleet.worker() for _ in range(3)]
    repository = await fleet.repository()
    upstream.repository(NAME)
    digest = f"sha256:{secrets.token_hex(32)}"

    ends = await asyncio.gather(
        *(worker.read(repository, digest) for worker in workers for _ in range(5)),
        return_exceptions=True,
    )

    assert {type(end) for end in ends} <= {BlobUnknown}
    assert upstream.log.count(kind="blob") <= 2 * len(workers)
    await fleet.settled()


async def test_nodes_that_cannot_reach_each_other_fetch_alone(wide_fleet, upstream, held):
    first, second = await wide_fleet.worker("one"), await wide_fleet.worker("two")
    content, digest = put(upstream)
    repository = await wide_fleet.repository()

    leading = await first.fetches.join(repository, Digest.parse(digest))
    await reached(leading)
    got = await second.read(repository, digest)
    held.open()

    assert got == await drained(leading) == content
    await wide_fleet.settled()
    assert len(await wide_fleet.rows("SELECT digest FROM blobs")) == 1
    assert len(wide_fleet.kept.objects()) == 1  # who has no row stores nothing


async def test_what_another_node_stored_is_found(wide_fleet, upstream):
    first, second = await wide_fleet.node("one"), await wide_fleet.node("two")
    content, digest = put(upstream)
    repository = await wide_fleet.repository()
    await first.read(repository, digest)
    await wide_fleet.settled()

    found = await second.fetches.join(repository, Digest.parse(digest))

    assert await drained(found) == content
    assert upstream.log.count(kind="blob") == 1


async def test_what_the_dead_left_is_swept(fleet, upstream, held, monkeypatch):
    monkeypatch.setattr("entrepot.services.fetch_sweep._SECONDS", 0.0)
    first, second = await fleet.worker(), await fleet.worker()
    _, digest = put(upstream)
    leading = await first.fetches.join(await fleet.repository(), Digest.parse(digest))
    await reached(leading)
    leading.close()
    await first.die()

    assert first.spooled()
    assert await second.sweep() == 1  # the row
    assert await second.sweep() == 1  # the spool

    await fleet.settled()


async def test_nobody_without_the_key_gets_bytes_from_a_node(wide_fleet, upstream, held):
    first = await wide_fleet.node("one")
    content, digest = put(upstream)
    leading = await first.fetches.join(await wide_fleet.repository(), Digest.parse(digest))
    await reached(leading)
    [(id_,)] = await wide_fleet.rows("SELECT id FROM fetches")
    path = f"/internal/fetches/{id_}?from=0"

    for headers in (
        {},
        {"x-entrepot-node": ""},
        {"x-entrepot-node": f"99999999999.{'0' * 64}"},
        {"x-entrepot-node": "é.é"},
    ):
        with pytest.raises(NotFound):
            async with first.nodes.take(first.means.node_url, path, headers):
                pass
    async with first.relays.take(first.means.node_url, id_, 0) as relayed:
        assert relayed.size == len(content)
        held.open()
        assert b"".join([piece async for piece in relayed.pieces]) == content
    await drained(leading)
    await wide_fleet.settled()


def test_a_proof_is_for_one_path_and_a_short_time(tmp_path):
    from entrepot.identity.keys import KeyRing, SecretKey
    from entrepot.services.fetch_relay import Relays, _signature
    from entrepot.upstream.nodes import Nodes
    from tests.support.clock import FakeClock

    clock, key = FakeClock(), SecretKey.of(os.urandom(32))
    relays = Relays(KeyRing(SecretKey.of(b"n" * 32), key), clock, Nodes())
    path, expiry = "/internal/fetches/a?from=0", clock.now() // 1_000_000 + 60
    proof = f"{expiry}.{_signature(key.derive('fetch relay'), path, expiry)}"

    assert relays.is_ours(path, proof)
    assert not relays.is_ours("/internal/fetches/a?from=1", proof)
    assert not relays.is_ours("/internal/fetches/b?from=0", proof)
    assert not relays.is_ours(path, proof.replace(str(expiry), str(expiry + 1)))
    assert not relays.is_ours(path, None)
    clock.advance(300_000_000)
    assert not relays.is_ours(path, proof)
