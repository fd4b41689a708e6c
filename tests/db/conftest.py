"""Databases with the schema in them: new for each test, copied from one that was migrated once."""

import pytest

from entrepot.db.connect import connect


@pytest.fixture
async def database(database_url):
    database = connect(database_url)
    await database.open()
    yield database
    await database.close()
