"""Two nodes on one bucket, and what is left in it when all has ended."""

import asyncio
import secrets
from contextlib import asynccontextmanager

from entrepot.db import repositories
from entrepot.lifecycle import make_collection
from entrepot.model.clock import DAY, SystemClock
from entrepot.model.digests import Digest
from entrepot.model.ranges import ByteRange
from entrepot.services.access import NOBODY, OPERATOR
from entrepot.services.joining import Joining
from entrepot.services.repositories import Repositories
from tests.faults.test_interleavings import address_of, new_name, two_nodes
from tests.support.invariants import check_invariants
from tests.support.kept import KeptObjects
from tests.support.swapped import swap

PREFIX = "some/registry"
PIECE = 1_000


class Shifted:
    """The machine's clock, ahead by as much as a test says."""

    def __init__(self, ahead=0):
        self.ahead = ahead

    def now(self):
        return SystemClock().now() + self.ahead


async def once(content):
    """A body of one piece, or of none."""
    if content:
        yield content


class Cluster:
    """Short words for what tests of segments do on two nodes."""

    def __init__(self, nodes, database_url, bucket):
        self.first, self.second = nodes
        self.database_url = database_url
        self.kept = KeptObjects(bucket, f"{PREFIX}/")

    async def open(self, node, *pieces):
        """A session that has these pieces, each a segment."""
        name = new_name()
        session = await node.registry.uploads.open(NOBODY, address_of(name), algorithm="sha256")
        upload = Uploading(name, session)
        for piece in pieces:
            await upload.patch(node, piece)
        return upload

    async def in_segments(self, node, count=2):
        """A blob that is still in segments."""
        upload = await self.open(node, *(secrets.token_bytes(PIECE) for _ in range(count)))
        await upload.put(node)
        return upload

    def check(self):
        check_invariants(self.database_url, self.kept, grace_seconds=3_600, samples=5)

    def joining(self, node, database=None):
        app = node.app
        return Joining(database or app.database, app.store, app.objects, SystemClock(), delay=0)

    async def collect(self, node, *, ahead=0, database=None):
        app = node.app
        done = await make_collection(
            app._settings, Shifted(ahead), database or app.database, app.store
        ).run()
        assert not done.failed
        assert not done.refused
        assert done.stopped is None

    async def delete_repository(self, upload):
        app = self.first.app
        kept = Repositories(app.database, SystemClock(), app.access, app._addresses, window=DAY)
        repository = await upload.repository(self.first)
        await kept.delete(OPERATOR, repository.id, version=None)

    async def end(self):
        """All sessions expire and nothing is used: nothing is left."""
        node, uploads = self.first, self.first.registry.uploads
        swap(uploads, clock=Shifted(9 * DAY))
        try:
            await uploads.sweep()
            await uploads.sweep_strays()
            await uploads.sweep()
        finally:
            swap(uploads, clock=SystemClock())
        for days in (9, 10, 11):
            await self.collect(node, ahead=days * DAY)
        async with node.app.database.read() as tx:
            for table in ("blobs", "segments", "tombstones", "uploads"):
                assert not await tx.fetch_all(f"SELECT * FROM {table}"), table
        assert not self.kept.objects()


class Uploading:
    """A session as its client sees it; `content` is what it was told was there."""

    def __init__(self, name, session):
        self.name = name
        self.session = session
        self.content = b""

    async def patch(self, node, piece):
        """Add a piece, unless another is faster."""
        self.session = await node.registry.uploads.append(self.session, once(piece), None)
        self.content += piece
        return piece

    async def put(self, node, piece=b"", before=None):
        """Finish it with a piece behind all that came, or behind `before`."""
        start = self.content if before is None else before
        content, digest = start + piece, Digest.of(start + piece)
        chunk = ByteRange(len(start), len(content)) if piece else None
        await node.registry.uploads.commit(
            NOBODY, address_of(self.name), self.session, digest, once(piece), chunk
        )
        self.content = content
        return content

    async def cancel(self, node):
        await node.registry.uploads.cancel(self.session)

    async def find(self, node):
        return await node.registry.uploads.find(
            NOBODY, await self.repository(node), self.session.id, opened_before=2**62
        )

    async def repository(self, node):
        async with node.app.database.read() as tx:
            place = await node.app._addresses.place(tx, address_of(self.name))
            return await repositories.find(tx, place)

    async def pull(self, node, content=None):
        """All bytes of the blob that it has become."""
        content = self.content if content is None else content
        repository = await self.repository(node)
        found = await node.registry.pull.blob(repository, Digest.of(content))
        return await read(found)


async def read(found):
    content = b""
    try:
        async with asyncio.timeout(60):
            while piece := await found.piece(len(content), 1 << 20):
                content += piece
    finally:
        found.close()
    return content


@asynccontextmanager
async def cluster(data, database_url, bucket):
    more = bucket.settings(PREFIX) | {"ENTREPOT_BLOBS__CACHE_BYTES": "0"}
    async with two_nodes(data, database_url, more) as nodes:
        yield Cluster(nodes, database_url, bucket)
