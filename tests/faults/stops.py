"""Holding somebody before their Nth call of the database or the store, while others run."""

import asyncio
import threading
from contextlib import asynccontextmanager

from entrepot.db import repositories
from entrepot.lifecycle import make_collection
from entrepot.model.clock import HOUR, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown
from entrepot.services.eviction import Eviction, EvictionLimits
from tests.faults.test_interleavings import address_of
from tests.support.swapped import swap

_SECONDS = 30.0


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
            swap(service, database=self.database)

    async def collect(self):
        limits = EvictionLimits(-HOUR, None)
        eviction = Eviction(self.database, SystemClock(), limits)  # type: ignore[arg-type]  # a stand-in
        await eviction.sweep()
        settings = self.app._settings
        work = make_collection(settings, SystemClock(), self.database, self.store)  # type: ignore[arg-type]  # stand-ins
        done = await work.run()
        assert not done.failed
        assert not done.refused

    async def repository(self, name):
        async with self.app.database.read() as tx:
            place = await self.app._addresses.place(tx, address_of(name))
            return await repositories.find(tx, place)

    async def head(self, name, digest):
        repository = await self.repository(name)
        await self.node.registry.pull.blob(repository, Digest.parse(digest), renew=True)

    async def has_blob(self, name, digest):
        try:
            await self.head(name, digest)
        except BlobUnknown:
            return False
        return True
