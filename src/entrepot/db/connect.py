"""From the address of a database to the database."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from entrepot.db.database import Database
from entrepot.db.sqlite import SQLiteDatabase
from entrepot.model.errors import SettingsInvalid
from entrepot.telemetry.observe import Observe, ignore

POOL_SIZE = 10
"""Connections to PostgreSQL that one process keeps at most."""


def connect(url: str, *, pool_size: int = POOL_SIZE, on_commit: Observe = ignore) -> Database:
    """The database at `sqlite:///absolute/path` or `postgresql://…`, not yet open.

    Raises SettingsInvalid.
    """
    if is_sqlite(url):
        return SQLiteDatabase(sqlite_path(url), on_commit=on_commit)
    from entrepot.db.postgres import PostgresDatabase  # noqa: PLC0415 - loads a driver

    return PostgresDatabase(url, pool_size=pool_size)


def is_sqlite(url: str) -> bool:
    """Whether `url` names SQLite rather than PostgreSQL. Raises SettingsInvalid for any other."""
    scheme = urlsplit(url).scheme
    if scheme not in {"sqlite", "postgresql", "postgres"}:
        raise SettingsInvalid("a database is sqlite:///path or postgresql://…", scheme=scheme)
    return scheme == "sqlite"


def sqlite_path(url: str) -> Path:
    """The file that `sqlite:///absolute/path` names. Raises SettingsInvalid."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.netloc or parts.query or not path.is_absolute() or path == Path("/"):
        raise SettingsInvalid("an SQLite database is sqlite:///absolute/path")
    return path
