"""Bringing a database to this program's schema, or refusing to start on another."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from entrepot.db.connect import connect, is_sqlite, sqlite_path
from entrepot.db.sqlite_connection import connect_for_writing, raise_ours
from entrepot.db.write_lock import WriteLock
from entrepot.model.errors import StartRefused

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "revisions"
REVISIONS = sorted(file.name.split("_")[0] for file in _FOLDER.glob("versions/[0-9]*.py"))
"""The revisions this program knows, oldest first."""
HEAD = REVISIONS[-1]
"""The revision this program works on."""

# Any number that nothing else locks in this database.
_ADVISORY_LOCK = 4_850_163_227_441_790
# Waiting for a table lock makes every later user of the table wait behind us.
_SESSION = "SET lock_timeout = '15s'; SET statement_timeout = 0"


async def migrate(url: str) -> None:
    """Bring the database to HEAD; does next to nothing when it is there.

    Raises StartRefused, Unavailable, StorageFailed, StorageFull.
    """
    if await _revision(url) != HEAD:
        await asyncio.to_thread(_upgrade, url)


async def check(url: str) -> None:
    """Raises StartRefused unless the database is at HEAD."""
    if (found := await _revision(url)) != HEAD:
        raise StartRefused("the database must be migrated first", found=found, wanted=HEAD)


async def _revision(url: str) -> str | None:
    """The revision of the database, None when it is empty. Raises StartRefused if unknown."""
    catalogue = (
        "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'alembic_version'"
        if is_sqlite(url)
        else "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('alembic_version')"
    )
    database = connect(url)
    await database.open()
    try:
        async with database.read() as tx:
            if await tx.fetch_one(catalogue) == (0,):
                return None
            row = await tx.fetch_one("SELECT version_num FROM alembic_version")
    finally:
        await database.close()
    if row is None:
        return None
    if row[0] not in REVISIONS:
        raise StartRefused(
            "the database belongs to a newer program: update this one", found=row[0], known=HEAD
        )
    return str(row[0])


def _upgrade(url: str) -> None:
    """Run what is missing; whoever waited for the lock may find nothing to do."""
    # Slow to import and needed once: a server whose schema is current never loads them.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    migrating = _sqlite(sqlite_path(url)) if is_sqlite(url) else _postgres(url)
    with migrating as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        command.upgrade(config, "head")
        connection.commit()


@contextmanager
def _sqlite(path: Path) -> Iterator["Connection"]:
    """A transaction that keeps out every other writer."""
    from sqlalchemy import StaticPool, create_engine  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    try:
        with WriteLock(path).held(), closing(connect_for_writing(path)) as own:
            engine = create_engine("sqlite://", creator=lambda: own, poolclass=StaticPool)
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise_ours(error.orig)
        raise
    except sqlite3.Error as error:
        raise_ours(error)


@contextmanager
def _postgres(url: str) -> Iterator["Connection"]:
    """A transaction that keeps out every other migration."""
    import psycopg  # noqa: PLC0415
    from sqlalchemy import NullPool, create_engine  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from entrepot.db import postgres  # noqa: PLC0415

    def connect_to_server() -> "psycopg.Connection":
        return psycopg.connect(url, application_name="entrepot migrate")

    engine = create_engine("postgresql+psycopg://", creator=connect_to_server, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(_SESSION)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            postgres.raise_ours(error.orig)
        raise
