"""A registry whose blobs lie in a real object store, and a proxy that sees who asks the store."""

import pytest

from tests.support.s3_proxy import S3Proxy
from tests.support.server import Client, running_server


def pytest_collection_modifyitems(items):
    for item in items:
        if "/delivery/" in str(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def clients_way(object_server):
    """The endpoint for clients: all that goes through it comes from a client."""
    with S3Proxy(object_server.endpoint).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def servers_way(object_server):
    """The endpoint for the registry: all that goes through it comes from the registry."""
    with S3Proxy(object_server.endpoint).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def new_place(object_server, servers_way):
    """Makes the settings of an empty bucket: one for each database."""
    return lambda: object_server.new_bucket().behind(servers_way.origin).settings("registry")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts registries; each is named `localhost`, and the store `127.0.0.1`."""

    def running(settings, **options):
        return running_server(
            tmp_path_factory.mktemp("node") / "data", environment=settings, **options
        )

    return running


@pytest.fixture(scope="module")
def client_of():
    """A client of a server by the name `localhost`, that follows no redirect by itself."""
    made = []

    def make(server):
        client = Client(server, token=server.token)
        client.http.base_url = f"http://localhost:{server.port}"
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
