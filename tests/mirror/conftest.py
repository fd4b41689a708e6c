"""What stands before an upstream: a server for all of these tests, or parts of a test's own."""

import pytest

from tests.mirror.fetching import MIB, fleet_before
from tests.mirror.stand import stood
from tests.mirror.turned import processes, turned
from tests.support.postgres import DATABASES
from tests.support.upstreams import Gate, faults
from tests.support.upstreams.fixtures import blob_host, token_upstream, upstream

__all__ = ["blob_host", "processes", "token_upstream", "turned", "upstream"]


@pytest.fixture(params=DATABASES)
def database_url(request):
    """A database of either kind, for tests that go through HTTP to it."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def stand(tmp_path_factory):
    """A server whose whole store is hashed in the end, and in whose log no mistake of ours is."""
    folder = tmp_path_factory.mktemp("stand")
    with stood(folder, ENTREPOT_FETCH__SPOOL_BYTES=str(32 << 20)) as running:
        yield running
        log = running.registry.server.log.read_text(errors="replace")
        assert "Traceback" not in log, log[-8000:]


@pytest.fixture
async def fleet(sqlite_path, tmp_path, upstream):
    """A registry of one node; its workers share its disk."""
    async with fleet_before(upstream, f"sqlite:///{sqlite_path}", tmp_path) as fleet:
        yield fleet


@pytest.fixture
def held(upstream):
    """The upstream's first answer stops in the middle until the test lets it go on."""
    gate = Gate()
    upstream.script(faults.held(gate, at=2 * MIB), kind="blob", method="GET", times=1)
    yield gate
    gate.open()


@pytest.fixture
async def worker(fleet):
    return await fleet.worker()
