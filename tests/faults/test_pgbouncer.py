"""Servers behind PgBouncer in transaction mode: pushes, pulls, and jobs that one of them does."""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.test_interleavings import two_nodes
from tests.support.invariants import check_invariants
from tests.support.pgbouncer import running_pgbouncer
from tests.support.server import Client, digest_of, running_server

pytestmark = pytest.mark.slow  # servers, and a Debian package

_ENVIRONMENT = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}


@pytest.fixture
def pooled_url(postgres_url, tmp_path):
    with running_pgbouncer(postgres_url, tmp_path) as url:
        yield url


def test_images_are_pushed_pulled_and_deleted(pooled_url, postgres_url, data):
    with running_server(
        data, database_url=pooled_url, workers=2, environment=_ENVIRONMENT
    ) as server:

        def push_and_pull(number: int) -> None:
            client = Client(server, mode="open")
            name = f"app{number}"
            for tag in ("v1", "v2"):
                digest = client.push_image(name, tag, layers=2)
                assert client.request("GET", f"/v2/{name}/manifests/{tag}").status_code == 200
                pulled = client.request("GET", f"/v2/{name}/manifests/{digest}")
                for layer in pulled.json()["layers"]:
                    blob = client.request("GET", f"/v2/{name}/blobs/{layer['digest']}")
                    assert digest_of(blob.content) == layer["digest"]
            begun = client.request("POST", f"/v2/{name}/blobs/uploads/")
            content = secrets.token_bytes(3_000)
            for at in (0, 1_000, 2_000):
                sent = client.request(
                    "PATCH", begun.headers["location"], content=content[at : at + 1_000]
                )
                assert sent.status_code == 202, sent.text
            place = f"{begun.headers['location']}?digest={digest_of(content)}"
            assert client.request("PUT", place).status_code == 201
            assert client.request("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v1", "v2"]
            assert client.request("DELETE", f"/v2/{name}/manifests/v1").status_code == 202
            assert client.request("GET", f"/v2/{name}/manifests/v1").status_code == 404
            client.close()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(push_and_pull, range(16)))

    check_invariants(postgres_url, data)


async def test_of_two_nodes_one_has_the_lease(pooled_url, data):
    claimed = []

    async with two_nodes(data, pooled_url) as nodes:
        for _ in range(10):
            apps = [node.app for node in nodes]
            tries = (app.database.write(app.lifecycle._scrub._claim_manifests) for app in apps)
            claimed += await asyncio.gather(*tries)

    assert sorted(claimed) == [False] * 19 + [True]
