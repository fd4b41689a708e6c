"""One Entrepot server for each module, and upstreams of each test's own."""

import pytest

from tests.mirror.stand import stood
from tests.support.upstreams.fixtures import blob_host, token_upstream, upstream

__all__ = ["blob_host", "token_upstream", "upstream"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A server whose whole store is hashed when the module ends."""
    with stood(tmp_path_factory.mktemp("stand")) as running:
        yield running
