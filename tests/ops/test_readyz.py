"""/readyz of a real server whose database or store goes away."""

import shutil
import time

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.fault_proxy import Cut, FaultProxy
from tests.support.postgres import new_database
from tests.support.server import running_server

pytestmark = pytest.mark.slow  # servers of its own


def ready(server):
    answer = httpx.get(f"{server.url}/readyz", timeout=30)
    return answer.status_code, answer.json().get("reason", "")


@pytest.fixture
def proxied(postgres_server):
    """A database, and the proxy in front of it."""
    with new_database(postgres_server) as url:
        address = httpx.URL(url)
        proxy = FaultProxy(address.host, address.port or 5432)
        with proxy.running():
            yield str(address.copy_with(port=proxy.port)), proxy


def test_a_database_that_went_is_named_until_it_is_back(proxied, tmp_path):
    url, proxy = proxied
    with running_server(tmp_path / "data", database_url=url) as server:
        assert ready(server) == (200, "")

        proxy.stop()
        eventually(lambda: ready(server)[0] == 503)
        reason = ready(server)[1]
        assert reason.startswith("the database ")
        assert "entrepot admin doctor" in reason
        assert "store" not in reason

        proxy.start()
        eventually(lambda: ready(server) == (200, ""), within=60)


def test_a_database_that_hangs_holds_nobody_up(proxied, tmp_path):
    url, proxy = proxied
    with running_server(tmp_path / "data", database_url=url) as server:
        assert ready(server) == (200, "")
        proxy.plan(Cut("down", after=0, ending="hang"), times=None)
        proxy.cut("hang")

        eventually(lambda: ready(server)[0] == 503)
        started = time.monotonic()
        status, reason = ready(server)
        took = time.monotonic() - started
        proxy.stop()  # lets the server end at once

    assert (status, "the database has not answered within 3 seconds" in reason) == (503, True)
    assert took < 20  # 3 on a machine that has time


def test_a_store_that_went_is_named_to_operators_until_it_is_back(tmp_path):
    with running_server(tmp_path / "data") as server:
        blobs = server.data / "blobs"
        away = shutil.move(blobs, server.data / "away")
        eventually(lambda: ready(server)[0] == 503)
        assert ready(server)[1].startswith("the store does not answer")
        stranger = {"x-forwarded-for": "10.1.1.1"}
        assert httpx.get(f"{server.url}/readyz", headers=stranger).status_code == 404

        shutil.move(away, blobs)
        eventually(lambda: ready(server) == (200, ""))
