"""Whose word it takes for a blob that somebody else fetched."""

import asyncio
import secrets

import pytest

from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, EntrepotError
from tests.mirror.fetching import MIB, drained
from tests.support.upstreams import Gate, Reply, ScriptedUpstream, faults


async def test_where_an_upstream_was_before_has_no_say(fleet, upstream):
    worker, other = await fleet.worker(), await fleet.worker()
    digest = upstream.repository("library/app").put_blob(secrets.token_bytes(1000))
    victim = await fleet.repository()
    await worker.read(victim, digest)
    await fleet.settled()
    liar = ScriptedUpstream()
    liar.script(faults.answer(Reply(200, {}, b"")), kind="blob", method="HEAD")
    with liar.running():
        led = await fleet.upstream_row(liar)
        async with other.remotes.calling(led):
            pass  # this process knows it as it is now, for some seconds

        async def lead_elsewhere(tx):
            await tx.execute(
                "UPDATE upstreams SET origin = :origin WHERE id = :id",
                origin=upstream.origin,
                id=led,
            )

        await worker.database.write(lead_elsewhere)
        thief = await fleet.repository("library/private", upstream_id=led)
        with pytest.raises(EntrepotError):
            await other.read(thief, digest)

    assert liar.log.count(kind="blob", method="HEAD")
    assert await fleet.holders(digest) == [victim.id]


async def test_what_anothers_proof_brought_is_not_for_who_goes_on(fleet, upstream):
    """A node whose repository may not have the blob follows, until whoever leads fails."""
    first, second = await fleet.node("one"), await fleet.node("two")
    content = secrets.token_bytes(4 * MIB)
    digest = upstream.repository("library/app").put_blob(content)
    upstream_id, gate = await fleet.upstream_row(), Gate()
    allowed = await fleet.repository(upstream_id=upstream_id)
    refused = await fleet.repository("library/other", upstream_id=upstream_id)
    upstream.script(
        lambda reply: faults.held(gate, at=2 * MIB)(faults.reset(3 * MIB)(reply)),
        kind="blob",
        method="GET",
        name="library/app",
        times=1,
    )
    upstream.script(faults.status(404), kind="blob", method="GET", name="library/app")
    upstream.script(faults.hangs("headers"), kind="blob", method="GET", name="library/other")

    leading = asyncio.create_task(first.read(allowed, digest))
    await asyncio.to_thread(gate.wait_until_reached)
    with pytest.raises(BlobUnknown):
        await second.read(refused, digest)
    (fetch,) = second.fetches._running.values()
    async with asyncio.timeout(10):
        await fetch.progress.beyond(0)
    gate.open()
    with pytest.raises(EntrepotError):
        await leading
    await asyncio.wait(second.fetches._tasks, timeout=3)  # it would lead now, without bytes

    with pytest.raises((BlobUnknown, TimeoutError)):
        async with asyncio.timeout(1):
            await second.fetches.join(refused, Digest.parse(digest))


@pytest.mark.parametrize("data", ["one", "two"], ids=["same node", "other node"])
async def test_a_fetch_that_failed_is_not_completed_from_what_others_pulled(fleet, upstream, data):
    """While an upstream seems to answer one, somebody else brings the blob into the store."""
    first, second = await fleet.node("one"), await fleet.node(data)
    content = secrets.token_bytes(2 * MIB)
    digest = upstream.repository("library/app").put_blob(content)
    upstream.repository("library/private")
    victim, thief = await fleet.repository(), await fleet.repository("library/private")
    gate = Gate()
    upstream.script(
        lambda _: faults.held(gate)(faults.reset(0)(Reply(200, {}, content))),
        kind="blob",
        method="GET",
        name="library/private",
        times=1,
    )

    leading = await first.fetches.join(thief, Digest.parse(digest))
    following = await second.fetches.join(thief, Digest.parse(digest))
    await first.read(victim, digest)
    gate.open()

    for reader in (leading, following):
        with pytest.raises(EntrepotError):
            await drained(reader)
    await fleet.settled()
    assert await fleet.holders(digest) == [victim.id]
