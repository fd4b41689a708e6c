"""A server whose PostgreSQL goes away says 503, and serves again soon after it is back (T31)."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.invariants import check_invariants
from tests.support.postgres import new_cluster
from tests.support.server import Client, running_server

pytestmark = pytest.mark.slow  # servers of its own

_OPEN = {"ENTREPOT_ANONYMOUS": "push", "ENTREPOT_BLOBS__LOW_WATER_BYTES": "0"}


def test_clients_hear_503_until_the_database_is_back(data, name, stopped_postgres):
    with new_cluster() as cluster:
        cluster.copy(stopped_postgres)
        cluster.start()
        with running_server(data, database_url=cluster.url, workers=2, environment=_OPEN) as server:
            client = Client(server, mode="open")
            digest = client.push_image(name, "v1")
            cluster.stop("immediate")

            requests = (
                ("GET", f"/v2/{name}/manifests/v1"),
                ("POST", f"/v2/{name}/blobs/uploads/"),
                ("DELETE", f"/v2/{name}/manifests/v1"),
            )
            with ThreadPoolExecutor() as threads:  # each waits for the database for a while
                for answer in threads.map(lambda words: client.request(*words), requests):
                    assert answer.status_code == 503, answer.text
                    assert int(answer.headers["retry-after"]) > 0
            cluster.start()

            def is_served() -> bool:
                answer: httpx.Response = client.request("GET", f"/v2/{name}/manifests/v1")
                return answer.headers.get("docker-content-digest") == digest

            eventually(is_served)
            client.push_image(name, "v2", layers=2)
            tags = client.request("GET", f"/v2/{name}/tags/list").json()["tags"]
            assert tags == ["v1", "v2"]
            client.close()
            check_invariants(cluster.url, data)
