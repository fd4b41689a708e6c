"""Every COMMIT's answer is lost once: clients hear the truth or 503, and nothing is done twice (T31).

The same requests run on a database that answers and on one that does not; then both hold the same.
"""

import contextlib
import contextvars
import json

import httpx
import psycopg
import pytest
from psycopg import sql

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.db import postgres
from entrepot.model.clock import DAY, HOUR, SystemClock
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.fsck import Finding, Fsck, FsckLimits
from tests.support.invariants import check_invariants
from tests.support.postgres import new_database
from tests.support.server import OCI_INDEX, OCI_MANIFEST, basic, digest_of

pytestmark = pytest.mark.slow

_ADDRESS = "http://localhost:5000"
_API = "/api/v1/organisations/main"
_IMAGE = "application/vnd.oci.image.layer.v1.tar"
# Rows that tell when something was done, and are folded or forgotten by jobs.
_MOMENTARY = {"login_attempts", "idempotency_keys"}


@pytest.fixture
def losing(monkeypatch):
    """Lose, while it is switched on, the answer to the first COMMIT of each write."""
    is_first = contextvars.ContextVar("is_first", default=False)
    switch = {"is_on": False, "lost": 0}
    attempt, commit = postgres.PostgresDatabase._attempt, postgres._Writing.commit

    async def watched(self, work, unsure, *, durable):
        is_first.set(not unsure)
        return await attempt(self, work, unsure, durable=durable)

    async def lose(self):
        await commit(self)
        if switch["is_on"] and is_first.get():
            switch["lost"] += 1
            self.failure = psycopg.OperationalError("the connection is lost")
            raise self.failure

    monkeypatch.setattr(postgres.PostgresDatabase, "_attempt", watched)
    monkeypatch.setattr(postgres._Writing, "commit", lose)
    monkeypatch.setattr(Application, "_jobs", lambda _: [])
    return switch


class Clients:
    """Somebody who may do everything."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.answers: list[tuple[str, int]] = []

    async def ask(self, method: str, path: str, **options) -> httpx.Response:
        """The answer, which is kept. Nothing is asked twice: all has happened the first time."""
        answer = await self.http.request(method, path, **options)
        self.answers.append((f"{method} {path.partition('?')[0]}", answer.status_code))
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        return answer

    async def put_blob(self, content: bytes, *chunks: bytes) -> dict[str, object]:
        """By POST and PUT, with a PATCH for each chunk; its descriptor."""
        place = (await self.ask("POST", "/v2/app/blobs/uploads/")).headers["location"]
        for chunk in chunks:
            await self.ask("PATCH", place, content=chunk)
        whole = b"".join(chunks) + content
        digest = digest_of(whole)
        await self.ask("PUT", f"{place}?digest={digest}", content=content)
        return {"mediaType": _IMAGE, "digest": digest, "size": len(whole)}

    async def put_manifest(self, name: str, reference: str, body: dict[str, object]) -> str:
        content = json.dumps(body).encode()
        headers = {"content-type": str(body["mediaType"])}
        await self.ask("PUT", f"/v2/{name}/manifests/{reference}", content=content, headers=headers)
        return digest_of(content)

    async def items(self, path: str) -> list[dict[str, object]]:
        answer = await self.http.get(path)
        found: list[dict[str, object]] = answer.json()["items"]
        return found

    async def push_and_delete(self) -> None:
        """What clients of the protocol change."""
        config, layer = await self.put_blob(b"{}"), await self.put_blob(b"", b"1" * 99, b"2" * 99)
        image = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [layer],
        }
        digest = await self.put_manifest("app", "v1", image)
        await self.put_manifest("app", "v1", image)
        await self.put_manifest("app", "v2", image)
        child = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}
        child["size"] = len(json.dumps(image).encode())
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}
        whole = await self.put_manifest("app", "all", index)
        referrer = {**image, "subject": child}
        await self.put_manifest("app", digest_of(json.dumps(referrer).encode()), referrer)
        mount = f"/v2/other/blobs/uploads/?mount={layer['digest']}&from=app"
        await self.ask("POST", mount)
        await self.ask("POST", f"/v2/app/blobs/uploads/?digest={digest_of(b'x')}", content=b"x")
        place = (await self.ask("POST", "/v2/app/blobs/uploads/")).headers["location"]
        await self.ask("PATCH", place, content=b"never finished")
        await self.ask("DELETE", place)
        await self.ask("DELETE", "/v2/app/manifests/v2")
        await self.ask("DELETE", f"/v2/app/manifests/{whole}")
        await self.ask("DELETE", f"/v2/app/blobs/{digest_of(b'x')}")

    async def manage(self) -> None:
        """What callers of the management API change."""
        await self.ask("POST", "/api/v1/users", json={"name": "ada"})
        await self.ask("PATCH", "/api/v1/users/ada", json={"is_disabled": True})
        await self.ask("POST", "/api/v1/organisations", json={"slug": "acme"})
        await self.ask("PATCH", "/api/v1/organisations/acme", json={"is_read_only": False})
        await self.ask("POST", f"{_API}/projects", json={"name": "site"})
        (project,) = await self.items(f"{_API}/projects")
        await self.ask("PATCH", f"/api/v1/projects/{project['id']}", json={"name": "shop"})
        await self.ask("POST", f"{_API}/repositories", json={"path": "made"})
        found = {each["path"]: each["id"] for each in await self.items(f"{_API}/repositories")}
        made = f"/api/v1/repositories/{found['made']}"
        link = f"/api/v1/projects/{project['id']}/repositories/{found['made']}"
        for method in ("PUT", "DELETE"):
            await self.ask(method, link)
        await self.ask("PATCH", made, json={"is_read_only": True})
        await self.ask("PATCH", made, json={"is_read_only": False})
        await self.ask("PUT", f"{made}/retention", json={"days": 3})
        await self.ask("DELETE", f"{made}/retention")
        await self.ask("POST", f"{_API}/tokens", json={"kind": "org", "name": "ci"})
        (token,) = [each for each in await self.items(f"{_API}/tokens") if each["name"] == "ci"]
        await self.ask("DELETE", f"/api/v1/tokens/{token['id']}")
        await self.ask("POST", f"{_API}/invitations", json={"role": "reader"})
        invitation, *_ = await self.items(f"{_API}/invitations")
        await self.ask("DELETE", f"{_API}/invitations/{invitation['id']}")
        await self.ask("DELETE", made)
        await self.ask("POST", f"{made}/restore")
        await self.ask("DELETE", f"/api/v1/projects/{project['id']}")
        tags = f"/api/v1/repositories/{found['app']}/tags"
        await self.ask("DELETE", f"{tags}/v1")
        await self.ask("POST", f"{tags}/v1/restore", json={})
        await self.ask("PATCH", "/api/v1/settings", json={"is_read_only": True})
        await self.ask("PATCH", "/api/v1/settings", json={"is_read_only": False})
        await self.ask("DELETE", "/api/v1/organisations/acme")


async def rows_of(url: str) -> dict[str, int]:
    """How many rows each table has."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as operator:
        cursor = await operator.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
        )
        counts = {}
        for (name,) in await cursor.fetchall():
            count = sql.SQL("SELECT COUNT(*) FROM {}").format(sql.Identifier(name))
            ((counts[name],),) = await (await operator.execute(count)).fetchall()
    return {name: count for name, count in counts.items() if name not in _MOMENTARY}


@contextlib.asynccontextmanager
async def registry(url: str, data):
    """A new registry, and somebody who asks it."""
    data.mkdir()
    environment = {
        "ENTREPOT_DATA": str(data),
        "ENTREPOT_PORT": "5000",
        "ENTREPOT_DATABASE__URL": url,
        "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0",
    }
    settings = load(None, environment)
    await prepare(settings)
    app = Application(settings, SystemClock())
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.run())
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url=_ADDRESS,
                headers=basic((data / "admin.token").read_text().strip()),
            )
        )
        yield app, Clients(http)
    check_invariants(url, data)


async def run(url: str, data, switch, *, is_losing: bool) -> list[tuple[str, int]]:
    """All requests on a new registry; what each was answered first."""
    async with registry(url, data) as (_, clients):
        switch["is_on"] = is_losing
        await clients.push_and_delete()
        await clients.manage()
        switch["is_on"] = False
    return clients.answers


async def fsck(app: Application, *, repair: bool) -> list[Finding]:
    """What does not fit together."""
    check = Fsck(
        app.database,
        app.store,
        SystemClock(),
        CollectionGuard(app.database, app.store),
        FsckLimits(DAY, HOUR),
        repair=repair,
        progress=lambda *_: None,
    )
    return [finding async for finding in check.run()]


async def test_lost_answers_to_commits_change_no_outcome(
    postgres_server, postgres_template, tmp_path, losing
):
    with (
        new_database(postgres_server, template=postgres_template) as whole,
        new_database(postgres_server, template=postgres_template) as lossy,
    ):
        expected = await run(whole, tmp_path / "whole", losing, is_losing=False)
        answers = await run(lossy, tmp_path / "lossy", losing, is_losing=True)

        assert [step for step in expected if step[1] not in {200, 201, 202, 204}] == []
        assert losing["lost"] >= len(expected)
        assert await rows_of(lossy) == await rows_of(whole)
    assert len(answers) == len(expected)
    for (step, status), (_, heard) in zip(expected, answers, strict=True):
        is_push = not step.startswith("DELETE") and " /v2/" in step
        assert heard == status or (heard == 503 and not is_push), (step, status, heard)


async def test_what_fsck_mends_is_mended_once(postgres_url, tmp_path, losing):
    async with registry(postgres_url, tmp_path / "data") as (app, clients):
        await clients.push_and_delete()
        for sql in (
            "UPDATE organisation_content SET holders = holders + 2",
            "UPDATE byte_deltas SET bytes = bytes + 11, tags = tags + 3",
            """
            INSERT INTO tombstones (storage_key, digest, size, due_at)
            SELECT storage_key, digest, 0, 1
              FROM blobs
            """,
        ):
            await app.database.write(lambda tx, sql=sql: tx.execute(sql))

        losing["is_on"] = True
        found = await fsck(app, repair=True)
        losing["is_on"] = False

        assert losing["lost"] >= len(found) > 3
        assert all(finding.is_mended for finding in found)
        assert await fsck(app, repair=False) == []
