"""Collection against everybody else, held before each thing that it does in turn.

The collector is stopped before its Nth call of the database or the store, on PostgreSQL inside its
transactions as well; the other runs, and the collector goes on. Then the same with the other
stopped and collection running. Whatever was answered with yes is there, with all it needs.
"""

import asyncio
import secrets
import threading
from contextlib import asynccontextmanager

import pytest

from entrepot.db import repositories
from entrepot.lifecycle import make_collection
from entrepot.model.clock import SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    BlobUnknown,
    EntrepotError,
    ManifestBlobUnknown,
    ManifestUnknown,
)
from tests.faults.test_interleavings import (
    address_of,
    image_of,
    index_of,
    is_waiting_or_done,
    new_name,
    two_nodes,
)
from tests.support.invariants import check_invariants

_SECONDS = 30.0
_NO = (BlobUnknown, ManifestBlobUnknown, ManifestUnknown)


class Stops:
    """Where somebody is to be held: before the Nth call, of any thread."""

    def __init__(self):
        self._left = 0
        self.reached = asyncio.Event()
        self._may_go_on = threading.Event()
        self._loop = asyncio.get_running_loop()

    def hold_before(self, nth):
        self._left = nth
        self.reached.clear()
        self._may_go_on.clear()

    def go_on(self):
        self._left = 0
        self._may_go_on.set()

    async def pass_one(self):
        if self._is_here():
            await asyncio.to_thread(self._may_go_on.wait, _SECONDS)

    def pass_one_in_a_thread(self):
        if self._is_here():
            self._may_go_on.wait(_SECONDS)

    def _is_here(self):
        if not self._left:
            return False
        self._left -= 1
        if self._left:
            return False
        self._loop.call_soon_threadsafe(self.reached.set)
        return True


class StoppingDatabase:
    """Held before each call, and inside writes where `inside` says."""

    def __init__(self, database, stops, inside):
        self._database = database
        self._stops = stops
        self._inside = inside

    @asynccontextmanager
    async def read(self, **options):
        await self._stops.pass_one()
        async with self._database.read(**options) as tx:
            yield tx

    async def write(self, work, **options):
        if self._inside is None:
            await self._stops.pass_one()
            return await self._database.write(work, **options)

        async def stopping(tx):
            result = await work(_StoppingTransaction(tx, self._stops, self._inside))
            await self._stops.pass_one()
            return result

        return await self._database.write(stopping, **options)


def at_turns(sql, before):
    """Between a lock and the question it is for, and between an answer and what follows from it."""
    return before is None or _asks(sql) != _asks(before)


def everywhere(sql, before):
    del sql, before
    return True


def _asks(sql):
    return sql.split(None, 1)[0] in {"SELECT", "WITH"}


class _StoppingTransaction:
    def __init__(self, tx, stops, inside):
        self._tx = tx
        self._stops = stops
        self._inside = inside
        self._before = None

    async def fetch_one(self, sql, **values):
        await self._pass(sql)
        return await self._tx.fetch_one(sql, **values)

    async def fetch_all(self, sql, **values):
        await self._pass(sql)
        return await self._tx.fetch_all(sql, **values)

    async def execute(self, sql, **values):
        await self._pass(sql)
        return await self._tx.execute(sql, **values)

    async def _pass(self, sql):
        before, self._before = self._before, sql
        if self._inside(sql, before):
            await self._stops.pass_one()


class StoppingStore:
    """Held before each call that collection makes, in its thread."""

    def __init__(self, store, stops):
        self._store = store
        self._stops = stops

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name not in {"remove", "read_epoch", "advance_epoch"}:
            return method

        def held(*arguments):
            self._stops.pass_one_in_a_thread()
            return method(*arguments)

        return held


class Player:
    """A node of which each service stops where the test says."""

    def __init__(self, node, inside):
        self.node = node
        self.app = node.app
        self.stops = Stops()
        self.database = StoppingDatabase(node.app.database, self.stops, inside)
        self.store = StoppingStore(node.app.store, self.stops)
        for service in (
            node.restore,
            *(node.registry.push, node.registry.delete, node.registry.uploads),
            *(node.registry.mount, node.registry.pull),
        ):
            service._database = self.database

    async def collect(self):
        settings = self.app._settings
        work = make_collection(settings, SystemClock(), self.database, self.store)
        done = await work.run()
        assert not done.failed
        assert not done.refused

    async def head(self, name, digest):
        async with self.app.database.read() as tx:
            place = await self.app._addresses.place(tx, address_of(name))
            repository = await repositories.find(tx, place)
        await self.node.registry.pull.blob(repository, Digest.parse(digest), renew=True)

    async def has_blob(self, name, digest):
        try:
            await self.head(name, digest)
        except BlobUnknown:
            return False
        return True


async def make_due(app):
    """All protection and all windows are over, and every review is due."""

    async def work(tx):
        await tx.execute("UPDATE blob_links SET protected_until = 1")
        await tx.execute("UPDATE manifests SET protected_until = 1")
        await tx.execute("UPDATE manifests SET orphaned_at = 1 WHERE orphaned_at IS NOT NULL")
        await tx.execute("UPDATE manifests SET deleted_at = 1 WHERE deleted_at IS NOT NULL")
        await tx.execute("UPDATE review_queue SET due_at = 1")
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
    async with two_nodes(data, url, environment) as nodes:
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
            if is_sqlite:
                await asyncio.wait([fast], timeout=_SECONDS)
                assert fast.done(), "nobody waits for a collector that stands still"
            else:
                await is_waiting_or_done(url, fast)
            stops.go_on()
            async with asyncio.timeout(_SECONDS):
                outcomes = await asyncio.gather(slow, fast, return_exceptions=True)

            if not refused(outcomes[0 if is_swapped else 1]):
                assert not refused(outcomes[1 if is_swapped else 0])
                assert await is_there(), f"held before {nth}"
            check_invariants(url, data)
        await make_due(players[0].app)
        await players[1].collect()
        await players[1].collect()
        check_invariants(url, data)
    return nth - 1


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
