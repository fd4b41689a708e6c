"""A running registry per database for the whole session, with a world in it."""

from contextlib import ExitStack

import pytest

from tests.access.world import make_world
from tests.protocol.registry import Registry
from tests.support.postgres import DATABASES, new_database
from tests.support.server import free_port, running_server

ENVIRONMENT = {
    # What comes round must not change the database between two looks at it.
    "ENTREPOT_COLLECTION__EVERY_SECONDS": "86400",
    "ENTREPOT_LIMITS__OPEN_UPLOADS_PER_TOKEN": "10000",
    "ENTREPOT_LOG__LEVEL": "debug",
    "ENTREPOT_LOG__REQUESTS": "true",
    "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.0/8",
}


def _running(stack, folder, url):
    port = free_port()
    server = stack.enter_context(
        running_server(folder, database_url=url, port=port, environment=ENVIRONMENT)
    )
    world = make_world(Registry(server, f"registry.localhost:{port}"))
    stack.callback(world.close)
    return world


@pytest.fixture(scope="session")
def sqlite_world(tmp_path_factory):
    with ExitStack() as stack:
        yield _running(stack, tmp_path_factory.mktemp("sqlite"), "")


@pytest.fixture(scope="session")
def postgres_world(tmp_path_factory, postgres_server):
    with ExitStack() as stack:
        url = stack.enter_context(new_database(postgres_server))
        yield _running(stack, tmp_path_factory.mktemp("postgres"), url)


@pytest.fixture(params=DATABASES)
def world(request):
    """The world in this database."""
    return request.getfixturevalue(f"{request.param}_world")


_CELLS = pytest.StashKey[list[int]]()


@pytest.fixture
def record_cells(request):
    """Counts cells of the matrix for the line at the end."""
    counts = request.config.stash.setdefault(_CELLS, [])
    return counts.append


def pytest_terminal_summary(terminalreporter, config):
    if counts := config.stash.get(_CELLS, []):
        terminalreporter.write_line(f"access: {sum(counts)} cells of route x principal")
