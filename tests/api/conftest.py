"""A running registry for the whole session, one per database; every test on each."""

from contextlib import ExitStack

import pytest

from tests.api.caller import People
from tests.protocol.registry import Registry
from tests.support.postgres import DATABASES, new_database
from tests.support.server import free_port, running_server


def _running(stack, folder, url):
    port = free_port()
    public_host = f"registry.localhost:{port}"
    server = stack.enter_context(
        running_server(
            folder,
            database_url=url,
            port=port,
            environment={
                "ENTREPOT_PUBLIC_URL": f"http://{public_host}",
                "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.1/32",  # where upstreams are played
            },
        )
    )
    return Registry(server, public_host)


@pytest.fixture(scope="session")
def sqlite_registry(tmp_path_factory):
    with ExitStack() as stack:
        yield _running(stack, tmp_path_factory.mktemp("sqlite"), "")


@pytest.fixture(scope="session")
def postgres_registry(tmp_path_factory, postgres_server):
    with ExitStack() as stack:
        url = stack.enter_context(new_database(postgres_server))
        yield _running(stack, tmp_path_factory.mktemp("postgres"), url)


@pytest.fixture(params=DATABASES)
def registry(request):
    """The registry of this database."""
    return request.getfixturevalue(f"{request.param}_registry")


@pytest.fixture
def people(registry):
    """Makes whoever a test needs."""
    found = People(registry, [])
    yield found
    for caller in found.callers:
        caller.close()


@pytest.fixture
def slug(people):
    """An organisation of the test's own."""
    return people.organisation()


@pytest.fixture
def owner(people, slug):
    """Its administrator."""
    return people.member(slug, "admin")


@pytest.fixture
def project(owner, slug):
    """A project of it."""
    return owner.made(f"/organisations/{slug}/projects", {"name": "site"})


@pytest.fixture
def protocol(registry):
    """Makes clients that speak /v2/ with a caller's token, or any other."""
    with ExitStack() as stack:

        def client_of(caller):
            client = registry.client(caller if isinstance(caller, str) else caller.token)
            stack.callback(client.close)
            return client

        yield client_of
