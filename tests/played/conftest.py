"""The played registries themselves, asked by a client that knows nothing of them."""

import httpx
import pytest

from tests.support.upstreams.fixtures import blob_host, token_upstream, upstream

__all__ = ["blob_host", "token_upstream", "upstream"]


@pytest.fixture
def http():
    with httpx.Client(timeout=5) as client:
        yield client
