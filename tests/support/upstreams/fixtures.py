"""Fixtures: import the ones you need into a `conftest.py`."""

import pytest

from tests.support.upstreams.scripted import BlobHost, ScriptedUpstream, bearer_upstream


@pytest.fixture
def upstream():
    """A registry that anybody may read, in a thread."""
    server = ScriptedUpstream()
    with server.running():
        yield server


@pytest.fixture
def token_upstream():
    """A registry that gives bearer tokens to anybody from its own realm, in a thread."""
    server = bearer_upstream()
    with server.running():
        yield server


@pytest.fixture
def blob_host():
    """An object store that registries send their clients to, in a thread."""
    server = BlobHost()
    with server.running():
        yield server
