"""Collection against everybody else, held before each thing that it does in turn.

The collector is stopped before its Nth call of the database or the store, on PostgreSQL inside its
transactions as well; the other runs, and the collector goes on. Then the same with the other
stopped and collection running. Whatever was answered with yes is there, with all it needs.
"""

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from entrepot.db import fetches
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    BlobUnknown,
    EntrepotError,
    ManifestBlobUnknown,
    ManifestUnknown,
)
from entrepot.model.ids import new_id
from entrepot.services.fetch_lead import Leading
from entrepot.services.fetch_progress import Progress
from entrepot.services.orphans import KEPT
from tests.faults.stops import Player, at_turns, everywhere
from tests.faults.test_interleavings import (
    image_of,
    index_of,
    looking,
    new_name,
    two_nodes,
)
from tests.support.invariants import check_invariants

_SECONDS = 30.0
_NO = (BlobUnknown, ManifestBlobUnknown, ManifestUnknown)


async def make_due(app):
    """All protection and all windows are over, and every review is due.

    But for what a tag keeps: it is looked at daily, and each round of a scene would leave more.
    """

    async def work(tx):
        await tx.execute("UPDATE blob_links SET protected_until = 1")
        await tx.execute("UPDATE manifests SET protected_until = 1")
        await tx.execute("UPDATE manifests SET orphaned_at = 1 WHERE orphaned_at IS NOT NULL")
        await tx.execute("UPDATE manifests SET deleted_at = 1 WHERE deleted_at IS NOT NULL")
        await tx.execute(
            "UPDATE review_queue SET due_at = 1 WHERE COALESCE(reason, '') <> :kept", kept=KEPT
        )
        await tx.execute("UPDATE tombstones SET due_at = 1")

    await app.database.write(work)


# Each prepares, and answers what another does and what must be so if that was answered with yes.


async def a_manifest_that_names_the_blob_is_pushed(player):
    name = new_name()
    config = await player.node.upload(name, secrets.token_bytes(20))

    async def push(other):
        await other.node.push(name, image_of(config), "v1")

    return push, lambda: player.has_blob(name, config)


async def the_blob_is_asked_for_by_who_may_push(player):
    name = new_name()
    digest = await player.node.upload(name, secrets.token_bytes(20))

    async def push_behind():
        await player.node.push(name, image_of(digest), "v1")
        return True

    return lambda other: other.head(name, digest), push_behind


async def the_blob_is_mounted_elsewhere(player):
    source, target = new_name(), new_name()
    digest = await player.node.upload(source, secrets.token_bytes(20))
    await player.node.upload(target, b"")

    async def mount(other):
        if not await other.node.mount(target, source, digest):
            raise BlobUnknown("an upload")

    return mount, lambda: player.has_blob(target, digest)


async def the_digest_is_uploaded_again(player):
    name, content = new_name(), secrets.token_bytes(20)
    digest = await player.node.upload(name, content)

    async def upload(other):
        await other.node.upload(name, content)

    return upload, lambda: player.has_blob(name, digest)


async def the_digest_is_uploaded_elsewhere(player):
    name, content = new_name(), secrets.token_bytes(20)
    digest = await player.node.upload(name, content)
    elsewhere = new_name()
    await player.node.upload(elsewhere, b"")

    async def upload(other):
        await other.node.upload(elsewhere, content)

    return upload, lambda: player.has_blob(elsewhere, digest)


async def an_orphan_is_tagged(player):
    name = new_name()
    body = image_of(await player.node.upload(name, secrets.token_bytes(20)))
    await player.node.push(name, body, "v1")
    await player.node.delete_tag(name, "v1")

    async def push(other):
        await other.node.push(name, body, "v2")

    return push, lambda: player.has_blob(name, body["config"]["digest"])


async def an_index_lists_an_orphan(player):
    name = new_name()
    child = await player.node.push_image(name, "v1")
    await player.node.delete_tag(name, "v1")

    async def push(other):
        await other.node.push(name, index_of(child), "index")

    async def is_there():
        return await has_manifest(player, name, child)

    return push, is_there


async def what_an_orphan_hangs_below_is_tagged(player):
    name = new_name()
    image = await player.node.image(name)
    subject = await player.node.push(name, image, "v1")
    signature = await player.node.image(name)
    signature["subject"] = {"mediaType": image["mediaType"], "digest": subject, "size": 1}
    await player.node.push(name, signature, f"sha256-{subject[7:]}.sig")
    await player.node.delete_tag(name, "v1")

    async def push(other):
        await other.node.push(name, image, "v2")

    async def is_there():
        return await has_manifest(player, name, subject)

    return push, is_there


async def an_orphan_is_deleted_by_its_digest(player):
    name = new_name()
    digest = await player.node.push_image(name, "v1")
    await player.node.delete_tag(name, "v1")

    async def yes():
        return True

    return lambda other: other.node.delete_manifest(name, digest), yes


async def another_collects(player):
    name = new_name()
    for number in range(2):
        await player.node.push_image(name, f"v{number}")
        await player.node.delete_tag(name, f"v{number}")

    async def yes():
        return True

    return lambda other: other.collect(), yes


async def another_collects_and_the_digest_comes_again(player):
    name, content = new_name(), secrets.token_bytes(20)
    digest = await player.node.upload(name, content)

    async def collect_and_upload(other):
        await other.collect()
        await other.node.upload(name, content)

    return collect_and_upload, lambda: player.has_blob(name, digest)


async def a_deleted_tag_is_restored(player):
    name = new_name()
    child = await player.node.push_image(name, "child")
    await player.node.push(name, index_of(child), "v1")
    await player.node.delete_tag(name, "child")
    await player.node.delete_tag(name, "v1")

    async def restore(other):
        await other.node.restore_tag(name, "v1")

    async def is_there():
        return await has_manifest(player, name, child)

    return restore, is_there


async def a_deleted_manifest_is_restored(player):
    name = new_name()
    config = await player.node.upload(name, secrets.token_bytes(20))
    digest = await player.node.push(name, image_of(config), "v1")
    await player.node.delete_manifest(name, digest)

    async def restore(other):
        await other.node.restore_manifest(name, digest)

    async def is_there():
        has_image = await has_manifest(player, name, digest)
        return has_image and await player.has_blob(name, config)

    return restore, is_there


async def a_fetch_brings_what_is_evicted(player):
    name, content = new_name(), secrets.token_bytes(20)
    digest = await player.node.upload(name, content)
    await fill_from_an_upstream(player, await player.repository(name))

    async def fetch(other):
        repository = await other.repository(name)
        means = replace(other.app.caching.fetches._means, database=other.database)
        means.spools.prepare()
        key, wanted = means.spools.new_id(), Digest.parse(digest)
        spool = means.spools.write(key, wanted, is_new=True)
        await spool.append(content)
        holders = {repository.id: repository}
        await means.database.write(
            lambda tx: fetches.claim(
                tx,
                id=key,
                upstream_id=repository.source.upstream_id,
                digest=digest,
                repository_id=repository.id,
                leader=means.leader,
                node=means.node,
                node_url="",
                now=1,
            )
        )
        await Leading(means, key, repository.source, wanted, holders, Progress())._finish(spool)
        await spool.close()

    return fetch, lambda: player.has_blob(name, digest)


async def fill_from_an_upstream(player, repository):
    async def work(tx):
        values = {"id": new_id(), "organisation_id": repository.organisation_id}
        await tx.execute(
            """
            INSERT INTO upstreams (id, organisation_id, name, preset, origin, auth_kind, auth_name,
                                   external_id, credential_version, created_at, version)
            VALUES (:id, :organisation_id, :name, 'custom', 'http://127.0.0.1:9', 'none', '', '',
                    1, 0, 1)
            """,
            name=f"up-{secrets.token_hex(4)}",
            **values,
        )
        await tx.execute(
            """
            UPDATE repositories
               SET upstream_id = :id, upstream_path = path, freshness = 3600
             WHERE id = :repository_id
            """,
            id=values["id"],
            repository_id=repository.id,
        )

    await player.app.database.write(work)


SCENES = {
    scene.__name__.replace("_", " "): scene
    for scene in (
        a_manifest_that_names_the_blob_is_pushed,
        the_blob_is_asked_for_by_who_may_push,
        the_blob_is_mounted_elsewhere,
        the_digest_is_uploaded_again,
        the_digest_is_uploaded_elsewhere,
        an_orphan_is_tagged,
        an_index_lists_an_orphan,
        what_an_orphan_hangs_below_is_tagged,
        an_orphan_is_deleted_by_its_digest,
        another_collects,
        another_collects_and_the_digest_comes_again,
        a_deleted_tag_is_restored,
        a_deleted_manifest_is_restored,
        a_fetch_brings_what_is_evicted,
    )
}


async def has_manifest(player, name, digest):
    async with player.app.database.read() as tx:
        row = await tx.fetch_one(
            "SELECT 1 FROM manifests WHERE digest = :digest AND deleted_at IS NULL", digest=digest
        )
    assert name
    return row is not None


async def play(scene, url, data, *, is_swapped, inside):
    """Hold one of the two at each of its stops in turn; at how many that was.

    SQLite has one writer, which nothing can run beside: there it is held between its calls.
    """
    is_sqlite = url.startswith("sqlite:")
    environment = {"ENTREPOT_COLLECTION__DELAY_SECONDS": "0"}
    async with (
        two_nodes(data, url, environment) as nodes,
        standing_still() if is_sqlite else looking(url) as is_waiting_or_done,
    ):
        players = [Player(node, None if is_sqlite else inside) for node in nodes]
        nth, was_reached = 0, True
        while was_reached:
            nth += 1
            other, is_there = await scene(players[0])
            await make_due(players[0].app)
            held, quick = (other, Player.collect) if is_swapped else (Player.collect, other)
            stops = players[0].stops
            stops.hold_before(nth)
            slow = asyncio.create_task(held(players[0]))
            reached = asyncio.create_task(stops.reached.wait())
            await asyncio.wait([slow, reached], return_when=asyncio.FIRST_COMPLETED)
            was_reached = reached.done()
            reached.cancel()
            fast = asyncio.create_task(quick(players[1]))
            await is_waiting_or_done(fast)
            stops.go_on()
            async with asyncio.timeout(_SECONDS):
                outcomes = await asyncio.gather(slow, fast, return_exceptions=True)

            if not refused(outcomes[0 if is_swapped else 1]):
                assert not refused(outcomes[1 if is_swapped else 0])
                assert await is_there(), f"held before {nth}"
            if inside is everywhere:  # what is broken stays so until the end
                check_invariants(url, data)
        check_invariants(url, data)
        await make_due(players[0].app)
        await players[1].collect()
        await players[1].collect()
        check_invariants(url, data)
    return nth - 1


@asynccontextmanager
async def standing_still():
    """As `looking`, where one that is held between its calls holds up nobody."""

    async def is_done(task):
        await asyncio.wait([task], timeout=_SECONDS)
        assert task.done(), "nobody waits for a collector that stands still"

    yield is_done


def refused(outcome):
    """Whether somebody was told no; whatever else went wrong is raised."""
    if isinstance(outcome, BaseException) and not isinstance(outcome, _NO):
        raise outcome
    assert outcome is None or isinstance(outcome, EntrepotError)
    return outcome is not None


@pytest.mark.slow
@pytest.mark.parametrize("is_swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
async def test_collection_may_come_at_any_time(database_url, data, scene, is_swapped):
    stops = await play(scene, database_url, data, is_swapped=is_swapped, inside=at_turns)

    assert stops > 0


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("is_swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
async def test_any_statement_of_collection_may_come_at_any_time(
    postgres_url, data, scene, is_swapped
):
    stops = await play(scene, postgres_url, data, is_swapped=is_swapped, inside=everywhere)

    assert stops > 0
