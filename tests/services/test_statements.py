"""How many statements a pull takes: who may is known, what it is takes one.

One that is refused takes as many for what is hidden as for what is not there.
"""

import json
import sqlite3

import httpx
import pytest

from entrepot.app import Application, prepare
from entrepot.config import load
from entrepot.db import organisations, repositories
from entrepot.model.ids import new_id
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


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def place(request):
    """The settings of where the bytes are."""
    return request.getfixturevalue("bucket").settings() if request.param == "bucket" else {}


@pytest.fixture
async def app(statements, place, tmp_path, monkeypatch):
    """An application in this process, without the jobs, which have statements of their own."""
    monkeypatch.setattr(Application, "_jobs", lambda _: [])
    settings = load(None, {"ENTREPOT_DATA": str(tmp_path), "ENTREPOT_PORT": "5000", **place})
    await prepare(settings)
    app = Application(settings, FakeClock())
    async with app.run():
        yield app


@pytest.fixture
async def registry(app, tmp_path):
    """A client of it with the first token."""
    token = (tmp_path / "admin.token").read_text().strip()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:5000", headers=basic(token)
    ) as client:
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


async def test_what_is_hidden_takes_as_many_statements_as_what_is_not_there(
    app, registry, statements
):
    await app.tenancy.add_organisation("acme")
    project = await app.tenancy.add_project("acme", "builds")

    async def fill(tx):
        place = await organisations.find_place(tx, "acme", "team/web")
        assert place is not None
        await repositories.ensure(tx, place, new_id=new_id(), now=1)

    await app.database.write(fill)
    await registry.get("/v2/")  # who asks is learnt here

    taken = {}
    paths = ("acme/team/web", "acme/team/none", "nobody/team/web")
    ids = (project, "bcdfghjklm", f"acme/{project}", "acme/bcdfghjklm")
    for name in paths + ids:
        statements.clear()
        answer = await registry.get(f"/v2/{name}/tags/list")
        assert answer.status_code == 404, answer.text
        taken[name] = len(statements)

    assert len({taken[name] for name in paths}) == 1, taken
    assert len({taken[name] for name in ids}) == 1, taken
