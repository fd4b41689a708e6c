"""What tests of several folders share."""

import asyncio
import secrets

import pytest

from entrepot.db.migrate import migrate
from tests.support.postgres import new_database, running_postgres


@pytest.fixture(scope="session")
def postgres_server():
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server):
    with new_database(postgres_server) as url:
        asyncio.run(migrate(url))
        yield url.rpartition("/")[2]


@pytest.fixture
def name():
    """A repository name of the test's own."""
    return f"test/{secrets.token_hex(6)}"
