"""An Entrepot in this process, on a clock that the test turns, before a played upstream."""

import json
import secrets
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.model.clock import SECOND
from entrepot.model.names import RepositoryName
from entrepot.services.access import OPERATOR
from entrepot.services.addresses import Address
from entrepot.services.namespace_mirrors import NewMirror
from entrepot.services.upstream_forms import NewUpstream
from entrepot.services.upstream_repositories import Wanted
from tests.support.clock import FakeClock
from tests.support.server import basic

PATH = "library/app"


class Turned:
    """One process. `client` is its administrator by Basic authentication."""

    def __init__(self, app, client, clock, settings):
        self.app = app
        self.client = client
        self.clock = clock
        self.settings = settings

    def turn(self, seconds):
        """Let time pass for the registry."""
        self.clock.advance(int(seconds * SECOND))

    async def upstream(self, server, **fields):
        """A saved upstream. By the services: loading the management API takes longer than a test."""
        new = NewUpstream(name=f"up-{secrets.token_hex(4)}", url=server.origin, **fields)
        made = await self.app.caching.upstreams.create(OPERATOR, "main", new)
        return made.upstream

    async def cache(self, server, path=PATH, *, saved=None, policies=None, accepts_push=False):
        """A pull-through repository; the upstream's log begins behind it."""
        saved = saved or await self.upstream(server)
        name = f"cache/{secrets.token_hex(5)}"
        wanted = Wanted(name=saved.name, path=path)
        await self.management.upstream_repositories.create(
            OPERATOR, "main", name, policies or {}, wanted
        )
        if accepts_push:
            await self.change(
                "UPDATE repositories SET accepts_push = 1 WHERE path = :path", path=name
            )
        server.log.clear()
        return Cached(self, name, saved)

    async def mirror(self, server, prefix, **fields):
        """A namespace mirror; the upstream's log begins behind it."""
        saved = await self.upstream(server)
        await self.management.mirrors.create(
            OPERATOR, "main", NewMirror(prefix, saved.name, **fields)
        )
        server.log.clear()

    @property
    def management(self):
        return self.app._api._management

    async def rows(self, sql, **values):
        async with self.app.database.read() as tx:
            return [tuple(row) for row in await tx.fetch_all(sql, **values)]

    async def change(self, sql, **values):
        return await self.app.database.write(lambda tx: tx.execute(sql, **values))


class Cached:
    """A repository as a client of this process sees it."""

    def __init__(self, turned, name, saved=None):
        self.turned = turned
        self.name = name
        self.saved = saved

    @property
    def address(self):
        return Address(None, RepositoryName.parse(self.name))

    def on(self, turned):
        """The same repository, of another process."""
        return Cached(turned, self.name, self.saved)

    async def get(self, path, method="GET", **options):
        return await self.turned.client.request(method, f"/v2/{self.name}/{path}", **options)

    async def manifest(self, reference, method="GET", **options):
        return await self.get(f"manifests/{reference}", method, **options)

    async def tags(self, **params):
        return await self.get("tags/list", params=params)

    async def referrers(self, digest, **params):
        return await self.get(f"referrers/{digest}", params=params)

    async def push_tag(self, tag, digest_of):
        """Push an artifact of nothing but itself under a tag; its digest."""
        empty = b"{}"
        digest = digest_of(empty)
        put = await self.turned.client.post(
            f"/v2/{self.name}/blobs/uploads/", params={"digest": digest}, content=empty
        )
        assert put.status_code == 201, put.text
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/x", "digest": digest, "size": len(empty)},
                "layers": [],
                "annotations": {"id": secrets.token_hex(8)},
            }
        ).encode()
        put = await self.manifest(
            tag,
            "PUT",
            content=manifest,
            headers={"content-type": "application/vnd.oci.image.manifest.v1+json"},
        )
        assert put.status_code == 201, put.text
        return digest_of(manifest)


@asynccontextmanager
async def process(settings, clock, token):
    """One more process of the same registry."""
    app = Application(settings, clock)
    async with (
        app.run(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://localhost:5000",
            headers=basic(token),
            timeout=60,
        ) as client,
    ):
        yield Turned(app, client, clock, settings)


@pytest.fixture
async def processes(database_url, tmp_path):
    """Starts processes that share a database, a folder and a clock."""
    settings = load(
        None,
        {
            "ENTREPOT_DATA": str(tmp_path / "data"),
            "ENTREPOT_PORT": "5000",
            "ENTREPOT_DATABASE__URL": database_url,
            "ENTREPOT_DATABASE__POOL_SIZE": "4",
            "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.1/32",
            "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
        },
    )
    await prepare(settings)
    token = (tmp_path / "data" / "admin.token").read_text().strip()
    clock = FakeClock()
    async with AsyncExitStack() as stack:

        async def start():
            return await stack.enter_async_context(process(settings, clock, token))

        yield start


@pytest.fixture
async def turned(processes):
    """One process."""
    return await processes()


def warning_of(answer):
    """What the Warning header says, or nothing."""
    return answer.headers.get("warning", "")
