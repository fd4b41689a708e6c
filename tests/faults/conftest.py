"""Servers that may be killed, on each database."""

import pytest

from tests.support.postgres import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def database_kind(request):
    return request.param


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def postgres_url(postgres_server, postgres_template):
    with new_database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture
def database_url(database_kind, data, request):
    """A database of each kind in turn, without a row in it."""
    if database_kind == "sqlite":
        return f"sqlite:///{data / 'entrepot.db'}"
    return request.getfixturevalue("postgres_url")
