"""Servers that may be killed, on each database."""

import shutil

import pytest

from tests.support.postgres import DATABASES


@pytest.fixture(params=DATABASES)
def database_kind(request):
    return request.param


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def database_url(database_kind, data, request):
    """A database of each kind in turn, without a row in it."""
    if database_kind == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        return f"sqlite:///{shutil.copy(template, data / 'entrepot.db')}"
    return request.getfixturevalue("postgres_url")
