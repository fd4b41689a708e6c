"""Registries for the whole session, one per database and openness; every test in each mode.

Tests of uploads and of blobs run on an object store as well, in one mode and with PostgreSQL: what
differs there is behind both.
"""

import secrets
from contextlib import ExitStack

import pytest

from tests.protocol.registry import Registry
from tests.support.postgres import new_database
from tests.support.server import Client, free_port, running_server

MODES = ("open", "basic", "bearer")
# What the operator allows those without a credential.
OPENNESS = {"open": "push", "basic": "", "bearer": "", "readable": "pull"}
ON_OBJECTS = (
    *("test_uploads", "test_sessions", "test_chunks", "test_whole_blobs"),
    *("test_pull", "test_ranges", "test_mounts", "test_clients"),
)


def pytest_generate_tests(metafunc):
    if "registries" not in metafunc.fixturenames:
        return
    names = ["registries", "mode"] if "mode" in metafunc.fixturenames else ["registries"]
    modes = MODES if "mode" in names else ("basic",)
    cases = [(database, mode) for database in ("sqlite", "postgres") for mode in modes]
    if metafunc.module.__name__.rpartition(".")[2] in ON_OBJECTS:
        cases.append(("objects", "basic"))
    values = [
        pytest.param(*case[: len(names)], marks=() if case[0] == "sqlite" else pytest.mark.slow)
        for case in cases
    ]
    metafunc.parametrize(names, values, indirect=True)


class Registries:
    """Starts what is asked for, once."""

    def __init__(self, folder, postgres_url, stack, object_server=None):
        self._folder = folder
        self._postgres_url = postgres_url
        self._stack = stack
        self._object_server = object_server
        self._running = {}
        self._clients = {}

    def get(self, mode):
        anonymous = OPENNESS[mode]
        if anonymous not in self._running:
            self._running[anonymous] = self._start(anonymous)
        return self._running[anonymous]

    def client(self, mode):
        if mode not in self._clients:
            registry = self.get(mode)
            token = None if mode == "open" else registry.server.token
            client = Client(registry.server, token=token, mode=mode)
            self._stack.callback(client.close)
            self._clients[mode] = client
        return self._clients[mode]

    def _start(self, anonymous):
        url = ""
        if self._postgres_url:
            url = self._stack.enter_context(new_database(self._postgres_url))
        more = self._object_server.new_bucket().settings("objects") if self._object_server else {}
        port = free_port()
        public_host = f"registry.localhost:{port}"
        server = self._stack.enter_context(
            running_server(
                self._folder / (anonymous or "closed"),
                database_url=url,
                port=port,
                environment={
                    "ENTREPOT_ANONYMOUS": anonymous,
                    "ENTREPOT_PUBLIC_URL": f"http://{public_host}",
                    **more,
                },
            )
        )
        return Registry(server, public_host)


@pytest.fixture(scope="session")
def sqlite_registries(tmp_path_factory):
    with ExitStack() as stack:
        yield Registries(tmp_path_factory.mktemp("sqlite"), "", stack)


@pytest.fixture(scope="session")
def postgres_registries(tmp_path_factory, postgres_server):
    with ExitStack() as stack:
        yield Registries(tmp_path_factory.mktemp("postgres"), postgres_server, stack)


@pytest.fixture(scope="session")
def objects_registries(tmp_path_factory, postgres_server, object_server):
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("objects")
        yield Registries(folder, postgres_server, stack, object_server)


@pytest.fixture
def registries(request):
    return request.getfixturevalue(f"{request.param}_registries")


@pytest.fixture
def mode(request):
    return request.param


@pytest.fixture
def registry(registries, mode):
    """The registry of this database that is open, or asks for credentials, as the mode needs."""
    return registries.get(mode)


@pytest.fixture
def client(registries, mode):
    """Someone who may do everything here, the way of this mode."""
    return registries.client(mode)


@pytest.fixture
def closed(registries):
    """A registry that asks everybody for a credential; for tests that choose their own caller."""
    return registries.get("basic")


@pytest.fixture
def owner(registries):
    """The administrator of the closed registry, by Basic authentication."""
    return registries.client("basic")


@pytest.fixture
def readable(registries):
    """A registry that everybody may pull from."""
    return registries.get("readable")


@pytest.fixture
def slug():
    """The name of an organisation of the test's own."""
    return f"org-{secrets.token_hex(5)}"
