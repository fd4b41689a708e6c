"""Databases with the schema in them: new for each test, copied from one that was migrated once."""

import asyncio
import shutil
from pathlib import Path

import pytest

from entrepot.db.connect import connect
from entrepot.db.migrate import migrate
from tests.support.postgres import new_database


@pytest.fixture
def postgres_url(postgres_server, postgres_template):
    with new_database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("template") / "entrepot.db"
    asyncio.run(migrate(f"sqlite://{path}"))
    return path


@pytest.fixture
def sqlite_path(sqlite_template, tmp_path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "entrepot.db"))


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request):
    if request.param == "sqlite":
        return f"sqlite://{request.getfixturevalue('sqlite_path')}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
async def database(database_url):
    database = connect(database_url)
    await database.open()
    yield database
    await database.close()
