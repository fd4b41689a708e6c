"""Bringing a database to the schema of this program."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version

import pytest

from entrepot.db import migrate as migration
from entrepot.db.connect import connect
from entrepot.db.migrate import HEAD, check, migrate
from entrepot.model.errors import SettingsInvalid, StartRefused
from tests.support.postgres import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/entrepot.db"
    else:
        with new_database(request.getfixturevalue("postgres_server")) as url:
            yield url


async def test_an_empty_database_is_refused_until_it_is_migrated(empty_url):
    with pytest.raises(StartRefused):
        await check(empty_url)

    await migrate(empty_url)

    await check(empty_url)


async def test_migrating_at_the_same_time_happens_once(empty_url):
    await asyncio.gather(*(migrate(empty_url) for _ in range(4)))

    await check(empty_url)


async def test_a_revision_that_fails_half_way_leaves_nothing_behind(empty_url, monkeypatch):
    from sqlalchemy import Connection

    real = Connection.exec_driver_sql

    def fail_late(self, statement, *values, **options):
        if "tombstones_by_due" in statement:
            raise KeyError
        return real(self, statement, *values, **options)

    with monkeypatch.context() as broken:
        broken.setattr(Connection, "exec_driver_sql", fail_late)
        with pytest.raises(KeyError):
            await migrate(empty_url)

    assert await migration._look(empty_url) is None
    await migrate(empty_url)
    await check(empty_url)


async def pretend(url, revision, compatible_with, made_by="99.1"):
    """Make the database say that a newer program was there."""

    async def work(tx):
        await tx.execute("UPDATE alembic_version SET version_num = :revision", revision=revision)
        await tx.execute(
            "UPDATE compatibility SET compatible_with = :compatible_with, made_by = :made_by",
            compatible_with=compatible_with,
            made_by=made_by,
        )

    database = connect(url)
    await database.open()
    await database.write(work)
    await database.close()


async def test_a_database_says_which_programs_may_use_it(empty_url):
    await migrate(empty_url)

    database = connect(empty_url)
    await database.open()
    async with database.read() as tx:
        ((compatible_with, made_by),) = await tx.fetch_all("SELECT * FROM compatibility")
    await database.close()
    assert str(compatible_with) <= HEAD
    assert made_by == version("entrepot")


async def test_a_newer_schema_that_this_program_may_use_is_used(database_url):
    await pretend(database_url, "9999", HEAD)

    for start in (check, migrate):
        await start(database_url)


async def test_a_newer_schema_that_needs_a_newer_program_is_refused_with_what_it_needs(
    database_url,
):
    await pretend(database_url, "9999", "9998")

    for start in (check, migrate):
        with pytest.raises(StartRefused, match=f"newer.*99.1.*{HEAD}.*9998"):
            await start(database_url)


async def test_a_newer_program_that_migrates_first_is_no_failure(empty_url, monkeypatch):
    await migrate(empty_url)
    await pretend(empty_url, "9999", HEAD)
    looks = [migration._Schema(migration.REVISIONS[0])]  # what was there just before
    real = migration._look

    async def look(url):
        return looks.pop() if looks else await real(url)

    monkeypatch.setattr(migration, "_look", look)

    await migrate(empty_url)

    assert await real(empty_url) == migration._Schema("9999", HEAD, "99.1")


def test_a_current_database_is_served_without_loading_what_migrates(sqlite_path):
    program = (
        "import asyncio, sys; from entrepot.db.migrate import migrate; "
        f"asyncio.run(migrate('sqlite://{sqlite_path}')); "
        "print([m for m in ('sqlalchemy', 'alembic', 'psycopg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout == b"[]\n"


def test_the_newest_revision_is_the_head(sqlite_path):
    with closing(sqlite3.connect(sqlite_path)) as connection:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()

    assert rows == [(HEAD,)]


@pytest.mark.parametrize(
    "url", ["sqlite://relative/x.db", "sqlite:///", "sqlite:///a?b=c", "mysql://host/x", "x.db"]
)
def test_an_address_of_no_database_is_refused(url):
    with pytest.raises(SettingsInvalid):
        connect(url)
