"""Bringing a database to this program's schema, or refusing to start on another.

Programs of two releases work side by side while nodes are replaced. So the database says which
schema a program must know to work on it, and one that is older than the schema, but knows that one,
goes on. Every program reads the tables `alembic_version` and `compatibility` for this: they never
change.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
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
_SESSION = "SET LOCAL lock_timeout = '15s'; SET LOCAL statement_timeout = 0"


async def migrate(url: str) -> None:
    """Bring the database to HEAD; does next to nothing when it is there, or goes well beyond.

    Raises StartRefused, Unavailable, StorageFailed, StorageFull.
    """
    found = await _look(url)
    if found is None or found.revision in REVISIONS[:-1]:
        await asyncio.to_thread(_upgrade, url)
        found = await _look(url)
    _require_usable(found)


async def check(url: str) -> None:
    """Raises StartRefused unless this program can work on the database as it is."""
    _require_usable(await _look(url))


@dataclass(frozen=True, slots=True)
class _Schema:
    """A database's revision; of one that is newer than us, the oldest whose programs may use it."""

    revision: str
    compatible_with: str = ""
    made_by: str = ""


def _require_usable(found: _Schema | None) -> None:
    if found is None or found.revision in REVISIONS[:-1]:
        revision = found.revision if found else None
        raise StartRefused("the database must be migrated first", found=revision, wanted=HEAD)
    needed = found.compatible_with or found.revision
    if found.revision != HEAD and needed > HEAD:
        raise StartRefused(
            f"the database belongs to a newer program, Entrepot {found.made_by}: update this one,"
            f" which knows schema {HEAD}, to one that knows schema {needed} or a later one"
        )


async def _look(url: str) -> _Schema | None:
    """What the database says; None when it is empty."""
    catalogue = (
        "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'alembic_version'"
        if is_sqlite(url)
        else "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('alembic_version')"
    )
    database = connect(url, pool_size=1)
    await database.open()
    try:
        async with database.read() as tx:
            if await tx.fetch_one(catalogue) == (0,):
                return None
            row = await tx.fetch_one("SELECT version_num FROM alembic_version")
            if row is None:
                return None
            if row[0] in REVISIONS:
                return _Schema(str(row[0]))
            said = await tx.fetch_one("SELECT compatible_with, made_by FROM compatibility")
            return _Schema(str(row[0]), *map(str, said or ()))
    finally:
        await database.close()


def _upgrade(url: str) -> None:
    """Run what is missing; whoever waited for the lock may find nothing to do."""
    # Slow to import and needed once: a server whose schema is current never loads them.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    migrating = _sqlite(sqlite_path(url)) if is_sqlite(url) else _postgres(url)
    with migrating as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in REVISIONS:
            return  # a newer program was first
        command.upgrade(config, "head")
        _say_who_may_use_it(
            connection, ScriptDirectory.from_config(config).get_revision(HEAD).module
        )
        connection.commit()


def _say_who_may_use_it(connection: "Connection", head: ModuleType) -> None:
    from sqlalchemy import text  # noqa: PLC0415

    connection.exec_driver_sql("DELETE FROM compatibility")
    connection.execute(
        text("INSERT INTO compatibility VALUES (:compatible_with, :made_by)"),
        {"compatible_with": head.compatible_with, "made_by": version("entrepot")},
    )


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

    from entrepot.db.postgres_errors import raise_ours as raise_ours_of_postgres  # noqa: PLC0415
    from entrepot.db.postgres_pool import parameters_of  # noqa: PLC0415

    def connect_to_server() -> "psycopg.Connection":
        # Nothing is prepared: a pooler might run the statement where it was not.
        parameters = {**parameters_of(url), "application_name": "entrepot migrate"}
        return psycopg.connect(**parameters, prepare_threshold=None)  # type: ignore[arg-type]  # parameters are no keywords of Python's

    engine = create_engine("postgresql+psycopg://", creator=connect_to_server, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(_SESSION)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise_ours_of_postgres(error.orig)
        raise
