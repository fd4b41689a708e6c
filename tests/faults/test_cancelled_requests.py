"""Requests whose clients go away, at any await, take no connection to the database along (T48)."""

import asyncio
import json
import random
import secrets

import httpx
import psycopg
import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.model.clock import SystemClock
from tests.support.invariants import check_invariants
from tests.support.pgbouncer import running_pgbouncer
from tests.support.server import OCI_MANIFEST, digest_of

pytestmark = pytest.mark.slow  # a thousand requests

_REQUESTS = 1_000
_AT_ONCE = 10
_POOL_SIZE = 5
_STEPS = 400  # turns of the loop; more than most requests take
_ADDRESS = "http://localhost:5000"


@pytest.fixture(params=["direct", "pooled"])
def url(request, postgres_url, tmp_path):
    if request.param == "direct":
        yield postgres_url
    else:
        with running_pgbouncer(postgres_url, tmp_path) as url:
            yield url


@pytest.fixture
async def app(url, data, monkeypatch):
    """An application in this process, without its jobs."""
    monkeypatch.setattr(Application, "_jobs", lambda _: [])
    environment = {
        "ENTREPOT_DATA": str(data),
        "ENTREPOT_PORT": "5000",
        "ENTREPOT_DATABASE__URL": url,
        "ENTREPOT_DATABASE__POOL_SIZE": str(_POOL_SIZE),
        "ENTREPOT_ANONYMOUS": "push",
        "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
    }
    settings = load(None, environment)
    await prepare(settings)
    app = Application(settings, SystemClock())
    async with app.run():
        yield app


class Caller:
    """Pushes and pulls one repository."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.manifest = b""
        self.blob = ""

    async def push(self) -> None:
        """What later requests are about."""
        config = secrets.token_bytes(100)
        blob = digest_of(config)
        await self.push_blob(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/json", "digest": blob, "size": len(config)},
            "layers": [],
        }
        content = json.dumps(manifest).encode()
        await self.push_manifest("v1", content)
        self.blob, self.manifest = blob, content

    async def push_blob(self, content: bytes) -> None:
        begun = await self.http.post("/v2/app/blobs/uploads/")
        await self.http.patch(begun.headers["location"], content=content)
        done = await self.http.put(begun.headers["location"], params={"digest": digest_of(content)})
        assert done.status_code == 201, done.text

    async def push_manifest(self, tag: str, content: bytes) -> None:
        done = await self.http.put(
            f"/v2/app/manifests/{tag}",
            content=content,
            headers={"content-type": OCI_MANIFEST},
        )
        assert done.status_code == 201, done.text

    async def do_any(self, choice: random.Random) -> None:
        """One of the things that clients do."""
        match choice.randrange(5):
            case 0:
                await self.push_blob(secrets.token_bytes(1_000))
            case 1:
                await self.push_manifest(f"t{choice.randrange(4)}", self.manifest)
            case 2:
                await self.http.get(f"/v2/app/blobs/{self.blob}")
            case 3:
                await self.http.delete(f"/v2/app/manifests/t{choice.randrange(4)}")
            case _:
                await self.http.get("/v2/app/tags/list")


async def wait_until_idle(url: str) -> None:
    """The server's sessions of ours are no more than the pool has, and in no transaction."""
    sql = """
        SELECT COUNT(*), COUNT(*) FILTER (WHERE state <> 'idle' OR xact_start IS NOT NULL)
          FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND backend_type = 'client backend'
    """
    async with (
        asyncio.timeout(20),
        await psycopg.AsyncConnection.connect(url, autocommit=True) as operator,
    ):
        while True:
            ((count, busy),) = await (await operator.execute(sql)).fetchall()
            if busy == 0 and count <= _POOL_SIZE:
                return
            await operator.execute("SELECT pg_sleep(0.05)")


async def test_a_thousand_requests_cancelled_anywhere_leave_the_pool_as_it_was(
    app, postgres_url, data
):
    choice, cancelled = random.Random(48), 0
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=_ADDRESS) as http:
        caller = Caller(http)
        await caller.push()

        for _ in range(_REQUESTS // _AT_ONCE):
            tasks = [asyncio.create_task(caller.do_any(choice)) for _ in range(_AT_ONCE)]
            moments = sorted(choice.randrange(_STEPS) for _ in tasks)
            for step in range(_STEPS):
                while moments and moments[0] <= step:
                    moments.pop(0)
                    tasks[len(moments)].cancel()
                await asyncio.sleep(0)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(end, asyncio.CancelledError) for end in ended)

        assert cancelled > _REQUESTS / 2
        async with asyncio.timeout(20):
            await asyncio.gather(*(caller.push() for _ in range(_POOL_SIZE * 4)))
        await wait_until_idle(postgres_url)
        assert (await http.get("/v2/app/manifests/v1")).content
    check_invariants(postgres_url, data)
