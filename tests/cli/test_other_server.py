"""Nothing but the supervisor knows granian: the application runs on uvicorn too."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from entrepot.app import prepare
from entrepot.config import load
from tests.support.server import Client, Server, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("uvicorn")
    port = free_port()
    ours = {"ENTREPOT_DATA": str(data), "ENTREPOT_PORT": str(port)}
    asyncio.run(prepare(load(None, ours)))
    log = data / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            f"{sys.executable} -m uvicorn --factory entrepot.app:serve_worker --port {port}".split(),
            env={**os.environ, **ours},
            stdout=output,
            stderr=output,
        )
    running = Server(process, port, data, "", Path(log), ours)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"{running.url}/readyz").status_code == 200:
                    break
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = Client(server, token=server.token)
    yield client
    client.close()


def test_an_image_is_pushed_and_pulled_on_uvicorn(client: Client, name: str):
    digest = client.push_image(name, "v1", layers=2)

    pulled = client.request("GET", f"/v2/{name}/manifests/v1")

    assert pulled.headers["docker-content-digest"] == digest
    for layer in pulled.json()["layers"]:
        blob = client.request("GET", f"/v2/{name}/blobs/{layer['digest']}")
        assert len(blob.content) == layer["size"]


def test_a_large_blob_and_its_ranges_come_whole_on_uvicorn(client: Client, name: str):
    content = secrets.token_bytes(5_000_000)
    digest = client.push_blob(name, content)

    whole = client.request("GET", f"/v2/{name}/blobs/{digest}")
    part = client.request(
        "GET", f"/v2/{name}/blobs/{digest}", headers={"range": "bytes=1000000-3999999"}
    )

    assert whole.content == content
    assert part.status_code == 206
    assert part.content == content[1_000_000:4_000_000]
