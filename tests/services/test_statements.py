"""How many statements a pull takes: who may is known, what it is takes one."""

import json
import sqlite3

import httpx
import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from tests.support.clock import FakeClock
from tests.support.server import OCI_MANIFEST, basic, digest_of


@pytest.fixture
def statements(monkeypatch):
    """Each statement of every connection of this process."""
    seen: list[str] = []
    real_connect = sqlite3.connect

    def connect(*arguments, **options):
        connection = real_connect(*arguments, **options)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    return seen


@pytest.fixture
async def registry(statements, tmp_path):
    """An application in this process, and a client of it with the first token."""
    settings = load(None, {"ENTREPOT_DATA": str(tmp_path), "ENTREPOT_PORT": "5000"})
    await prepare(settings)
    app = Application(settings, FakeClock())
    token = (tmp_path / "admin.token").read_text().strip()
    transport = httpx.ASGITransport(app)
    async with (
        app.run(),
        httpx.AsyncClient(
            transport=transport, base_url="http://localhost:5000", headers=basic(token)
        ) as client,
    ):
        yield client


async def test_a_pull_by_somebody_known_is_one_statement(registry, statements):
    config = b"{}"
    digest = digest_of(config)
    pushed = await registry.post(
        "/v2/app/blobs/uploads/", params={"digest": digest}, content=config
    )
    assert pushed.status_code == 201, pushed.text
    descriptor = {"mediaType": "application/json", "digest": digest, "size": len(config)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor,
        "layers": [],
    }
    headers = {"content-type": OCI_MANIFEST}
    put = await registry.put("/v2/app/manifests/v1", content=json.dumps(manifest), headers=headers)
    assert put.status_code == 201, put.text
    scope = {"service": "localhost:5000", "scope": "repository:app:pull"}
    bearer = (await registry.get("/v2/token", params=scope)).json()["token"]
    credentials = [dict(registry.headers), {"authorization": f"Bearer {bearer}"}]

    for path in ("/v2/app/manifests/v1", f"/v2/app/blobs/{digest}"):
        for credential in credentials:
            await registry.get(path, headers=credential)  # who asks is learnt here
            statements.clear()

            answers = [await registry.get(path, headers=credential) for _ in range(3)]

            assert [answer.status_code for answer in answers] == [200, 200, 200]
            assert len(statements) == 3, statements
