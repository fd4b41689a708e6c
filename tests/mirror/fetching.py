"""Fetches by themselves: workers and nodes of one registry in one event loop, before an upstream.

Locks are of open files and rows of one database, so workers here meet as processes do.
"""

import asyncio
import hashlib
import secrets
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_network

import uvicorn

from entrepot.blobs.disk import DiskStore
from entrepot.blobs.node import node_id
from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.spool import SpoolFolder
from entrepot.db import repositories, upstream_states, upstreams
from entrepot.db.connect import connect
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.identity.seal import Seal
from entrepot.identity.tokens import new_token
from entrepot.model.access import Kind, Place
from entrepot.model.clock import DAY, HOUR, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.ids import new_id
from entrepot.model.upstreams import AuthKind, Challenge, Handshake, Source, Upstream
from entrepot.ops.relay import RelaySurface
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.fetch_lead import FetchLimits, Means
from entrepot.services.fetch_relay import Relays
from entrepot.services.fetch_sweep import FetchSweep
from entrepot.services.fetches import Fetches
from entrepot.services.objects import Objects
from entrepot.services.remotes import Remotes
from entrepot.services.tenancy import Tenancy
from entrepot.services.tombstones import Tombstones
from entrepot.services.upstream_counts import UpstreamCounts
from entrepot.telemetry.metrics import Metrics
from entrepot.upstream.nodes import Nodes
from entrepot.upstream.outbound import Outbound
from tests.blobs.places import PREFIX, place_of
from tests.support.clock import FakeClock
from tests.support.kept import KeptFiles, KeptObjects

RING = KeyRing(SecretKey.of(b"k" * 32))
UNLIMITED = 1 << 60
MIB = 1 << 20
NAME = "library/app"


class Worker:
    """What one process of a node has of the fetches."""

    def __init__(self, registry, data, *, url="", limits=None):
        self.registry = registry
        self.server: uvicorn.Server | None = None
        self.data = data
        self.clock = SystemClock()
        self.database = connect(registry.database_url, pool_size=4)
        self.store = registry.make_store(data)
        self.store.prepare()
        self.spools = SpoolFolder(data / "spool", low_water_bytes=0)
        self.spools.prepare()
        self.outbound = Outbound(allow=[ip_network("127.0.0.0/8")])
        self.nodes = Nodes()
        self.remotes = Remotes(
            self.database,
            self.clock,
            self.outbound,
            Seal(RING),
            UpstreamCounts(self.database, self.clock, Metrics().upstreams),
            concurrency=64,
        )
        limits = {"finish_bytes": UNLIMITED, "spool_bytes": UNLIMITED} | (limits or {})
        self.means = Means(
            self.database,
            self.store,
            Objects(self.database, self.store, self.clock),
            self.spools,
            self.remotes,
            self.clock,
            FetchLimits(grace=DAY, delay=HOUR, **limits),
            leader=secrets.token_hex(4),
            node=node_id(data / "node.id"),
            node_url=url,
        )
        self.relays = Relays(RING, self.clock, self.nodes)
        self.fetches = Fetches(self.means, self.relays)
        self.sweep = FetchSweep(self.means).sweep

    async def open(self):
        await self.database.open()

    async def close(self):
        await self.fetches.close()
        await self.outbound.close()
        await self.nodes.close()
        self.spools.close()
        await self.database.close()
        self.store.close()

    async def die(self):
        """Stop as a killed process does: no word to anybody, locks gone, rows and spools left."""
        await self.fetches.close()
        if self.server is not None:
            self.server.should_exit = True

    async def read(self, repository, digest):
        """The bytes of a blob, wherever they come from."""
        found = await self.fetches.join(repository, Digest.parse(digest))
        return await drained(found)

    def spooled(self):
        """The spools of this node."""
        return sorted(self.spools.names())


async def drained(found, content=None):
    """What a reader gets to the end; `content` has it also where that is never reached."""
    if not hasattr(found, "piece"):
        return found.path.read_bytes()
    content = bytearray() if content is None else content
    try:
        while piece := await found.piece(len(content), 128 * 1024):
            content += piece
    finally:
        found.close()
    return bytes(content)


class Fleet:
    """A registry with an upstream, and its workers; its bytes are in a folder or in a bucket."""

    def __init__(self, database_url, folder, upstream, bucket=None):
        self.database_url = database_url
        self.folder = folder
        self.blobs = folder / "blobs"
        self.bucket = bucket
        self.kept = KeptObjects(bucket, f"{PREFIX}/") if bucket else KeptFiles(folder)
        self.upstream = upstream
        self.workers = []
        self._organisation = 0
        self._servers = []

    def make_store(self, data):
        """The way there of a process of this node."""
        if self.bucket:
            return ObjectStore(place_of(self.bucket))
        return DiskStore(self.blobs, data / "uploads", low_water_bytes=0)

    async def worker(self, data="one", *, url="", **limits):
        """One more process of the node whose data folder this is."""
        folder = self.folder / data
        folder.mkdir(exist_ok=True)
        worker = Worker(self, folder, url=url, limits=limits)
        await worker.open()
        self.workers.append(worker)
        if not self._organisation:
            tenancy = Tenancy(worker.database, worker.clock)
            await tenancy.first_start(new_token(Kind.USER))
            self._organisation = await tenancy.default_organisation() or 0
        return worker

    async def node(self, data, **limits):
        """The one process of a node of its own, which others can reach."""
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        worker = await self.worker(data, url=url, **limits)
        surface = RelaySurface(worker.fetches, worker.relays)
        server = uvicorn.Server(uvicorn.Config(surface, lifespan="off", log_level="error"))
        self._servers.append((server, asyncio.create_task(server.serve([listener]))))
        worker.server = server
        return worker

    async def upstream_row(self, upstream=None):
        """Another upstream registry of the organisation: its id."""
        upstream_id = new_id()
        name = f"up-{upstream_id}"
        row = Upstream(
            id=upstream_id,
            organisation_id=self._organisation,
            organisation_slug="main",
            name=name,
            preset="custom",
            origin=(upstream or self.upstream).origin,
            auth_kind=AuthKind.NONE,
            auth_name="",
            external_id="",
            handshake=Handshake(Challenge.NONE),
            checked_at=1,
            check_error=None,
            member_patterns=(),
            credential_version=1,
            created_at=1,
            version=1,
        )

        async def work(tx):
            await upstreams.add(tx, row, None)
            await upstream_states.ensure(tx, upstream_id)

        await self.workers[0].database.write(work)
        return upstream_id

    async def repository(self, path=NAME, *, upstream_id=None):
        """A pull-through repository of that path of an upstream."""
        source = Source(upstream_id or await self.upstream_row(), path)
        place = Place(self._organisation, f"cache/{secrets.token_hex(4)}")
        return await self.workers[0].database.write(
            lambda tx: repositories.ensure(tx, place, new_id=new_id(), now=1, source=source)
        )

    async def rows(self, sql, **values):
        async with self.workers[0].database.read() as tx:
            return await tx.fetch_all(sql, **values)

    async def holders(self, digest):
        """Ids of the repositories that hold a blob."""
        found = await self.rows(
            "SELECT repository_id FROM blob_links WHERE digest = :digest ORDER BY 1", digest=digest
        )
        return [row[0] for row in found]

    async def buried(self):
        """The keys of objects that are to be deleted, should they be there."""
        return {key for (key,) in await self.rows("SELECT storage_key FROM tombstones")}

    async def unburied(self):
        """The keys of the objects that stay."""
        return self.kept.objects().keys() - await self.buried()

    async def collect(self):
        """Delete what is due within two hours."""
        database, store = self.workers[-1].database, self.workers[-1].store
        clock = FakeClock()
        clock.advance(2 * HOUR)
        await Tombstones(database, store, clock, CollectionGuard(database, store)).remove_due()

    async def settled(self):
        """Wait until no fetch runs, and hash the whole store."""
        while any(worker.fetches._tasks for worker in self.workers):
            await asyncio.wait([t for worker in self.workers for t in worker.fetches._tasks])
            await asyncio.sleep(0)
        rows = dict(
            await self.rows(
                """
                SELECT storage_key, digest FROM blobs
                 UNION ALL
                SELECT storage_key, digest FROM tombstones
                """
            )
        )
        for key in self.kept.objects():
            content = b"".join(self.kept.read(key))
            assert rows[key] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert not await self.rows("SELECT id FROM fetches")
        assert not any(worker.spooled() for worker in self.workers)

    async def close(self):
        for worker in self.workers:
            await worker.fetches.close()
        for server, task in self._servers:
            server.should_exit = True
            await task
        for worker in self.workers:
            await worker.close()


@asynccontextmanager
async def fleet_before(upstream, database_url, folder, bucket=None):
    """A registry without workers yet."""
    fleet = Fleet(database_url, folder, upstream, bucket)
    try:
        yield fleet
    finally:
        await fleet.close()


def put(upstream, size=3 * MIB):
    content = secrets.token_bytes(size)
    return content, upstream.repository(NAME).put_blob(content)
