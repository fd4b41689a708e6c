"""A registry whose collection a test runs by hand."""

import json

from entrepot.db import repositories
from entrepot.model.access import Place
from entrepot.model.clock import DAY, HOUR
from entrepot.model.digests import Digest
from entrepot.model.names import Tag
from entrepot.services.access import OPERATOR
from entrepot.services.collection import Collection
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.collection_status import CollectionStatus
from entrepot.services.orphans import CollectionLimits
from entrepot.services.tombstones import Tombstones
from tests.services.conftest import address
from tests.services.test_content import document, organisation_id, push
from tests.support.invariants import check_invariants

WINDOW, DELAY, IDLE, GRACE = DAY, HOUR, 6 * HOUR, DAY
INDEX = "application/vnd.oci.image.index.v1+json"


class Yard:
    """Short words for what tests of collection do."""

    def __init__(self, world, **limits):
        self.world = world
        self.database = world.database
        self.store = world.store
        limits = {"restore": WINDOW, "delay": DELAY, "idle": IDLE} | limits
        self.limits = CollectionLimits(**limits)
        self.guard = CollectionGuard(self.database, self.store)
        self.status = CollectionStatus(self.database, world.clock, self.guard)

    def collection(self, database=None, store=None):
        database, store = database or self.database, store or self.store
        guard = CollectionGuard(database, store)
        objects = Tombstones(database, store, self.world.clock, guard)
        return Collection(database, self.world.clock, self.limits, guard, objects)

    async def collect(self):
        done = await self.collection().run()
        assert not done.failed
        self.check()
        return done

    async def collect_all(self):
        """All that goes within some days, step by step."""
        for _ in range(8):
            self.world.clock.advance(HOUR)
            await self.collect()
            self.world.clock.advance(DAY)
        return await self.collect()

    def check(self):
        check_invariants(
            self.world.url,
            self.world.kept,
            now=self.world.clock.now() / 1_000_000,
            late_seconds=1e9,  # nobody sweeps uploads here
        )

    async def upload(self, path, content):
        return str(await self.world.upload(OPERATOR, address(path), content))

    async def image(self, path, *tags, layers=(), note="", subject=None):
        """Push an image with these layers; its digest."""
        config = f"config {path} {note}".encode()
        for content in (config, *layers):
            await self.upload(path, content)
        body = json.loads(document(*layers, config=config, note=note))
        if subject is not None:
            body["subject"] = {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": subject,
                "size": 1,
            }
        return await self.push(path, body, *tags)

    async def index(self, path, children, *tags):
        body = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": child,
                    "size": 1,
                }
                for child in children
            ],
        }
        return await self.push(path, body, *tags)

    async def push(self, path, body, *tags):
        pushed = await push(self.world, OPERATOR, address(path), json.dumps(body).encode(), *tags)
        return str(pushed.digest)

    async def delete_tag(self, path, tag):
        await self.world.delete.tag(OPERATOR, address(path), Tag.parse(tag))

    async def delete_manifest(self, path, digest):
        await self.world.delete.manifest(OPERATOR, address(path), Digest.parse(digest))

    async def repository(self, path):
        organisation, name = path.split("/", 1)
        place = Place(await organisation_id(self.world, organisation), name)
        async with self.database.read() as tx:
            found = await repositories.find(tx, place)
        assert found is not None
        return found

    async def manifests(self):
        """Digests of all manifests that have a row."""
        rows = await self.world.rows("SELECT digest FROM manifests")
        return {str(row[0]) for row in rows}

    async def blobs(self):
        return {str(row[0]) for row in await self.world.rows("SELECT digest FROM blobs")}

    def objects(self):
        return list(self.world.kept.objects())

    async def execute(self, sql, **values):
        return await self.database.write(lambda tx: tx.execute(sql, **values))

    async def queue(self):
        return await self.world.rows(
            "SELECT kind, digest, reason, due_at FROM review_queue ORDER BY 1, 2"
        )


def digest_of(content):
    return str(Digest.of(content))
