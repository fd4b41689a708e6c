"""Whose word it takes for a blob that somebody else fetched."""

import asyncio
import secrets

import pytest

from entrepot.db.migrate import migrate
from entrepot.model.errors import EntrepotError
from tests.mirror.fetching import copy_of, fleet_before
from tests.support.upstreams import Reply, ScriptedUpstream, faults


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("migrated") / "entrepot.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def upstream():
    server = ScriptedUpstream()
    with server.running():
        yield server


@pytest.fixture
async def fleet(migrated, tmp_path, upstream):
    async with fleet_before(upstream, copy_of(migrated, tmp_path), tmp_path) as fleet:
        yield fleet


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
        await other.remotes.of(led)  # this process knows it as it is now, for some seconds

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
