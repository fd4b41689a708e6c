"""One Entrepot server for all of these tests, and upstreams of each test's own."""

import pytest

from tests.mirror.stand import stood
from tests.support.upstreams.fixtures import blob_host, token_upstream, upstream

__all__ = ["blob_host", "token_upstream", "upstream"]


@pytest.fixture(scope="session")
def stand(tmp_path_factory):
    """A server whose whole store is hashed in the end, and in whose log no mistake of ours is."""
    folder = tmp_path_factory.mktemp("stand")
    with stood(folder, ENTREPOT_FETCH__SPOOL_BYTES=str(32 << 20)) as running:
        yield running
        log = running.registry.server.log.read_text(errors="replace")
        assert "Traceback" not in log, log[-8000:]
