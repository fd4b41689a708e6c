"""Connections to an SQLite file, and what its errors mean."""

import sqlite3
from pathlib import Path
from typing import NoReturn

from entrepot.model.errors import (
    Conflict,
    EntrepotError,
    StorageFailed,
    StorageFull,
    Unavailable,
)

_BUSY_MILLISECONDS = 5_000
# A checkpoint that waits for readers makes every writer wait, so it gives up soon and is run again.
_CHECKPOINT_MILLISECONDS = 100
_CACHED_STATEMENTS = 1_024

_ERRORS: dict[int, tuple[type[EntrepotError], str]] = {
    sqlite3.SQLITE_FULL: (StorageFull, "the disk of the database is full"),
    sqlite3.SQLITE_IOERR: (StorageFailed, "the disk of the database failed"),
    sqlite3.SQLITE_CORRUPT: (StorageFailed, "the database file is damaged"),
    sqlite3.SQLITE_NOTADB: (StorageFailed, "the database file is not a database"),
    sqlite3.SQLITE_CANTOPEN: (StorageFailed, "the database file cannot be opened"),
    sqlite3.SQLITE_READONLY: (StorageFailed, "the database file is read-only"),
    sqlite3.SQLITE_BUSY: (Unavailable, "the database is busy"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "the database is busy"),
    sqlite3.SQLITE_PROTOCOL: (Unavailable, "the database is busy"),
    sqlite3.SQLITE_INTERRUPT: (Unavailable, "the statement was interrupted"),
    sqlite3.SQLITE_NOMEM: (Unavailable, "the database is out of memory"),
}
_CONFLICT: tuple[type[EntrepotError], str] = (Conflict, "another change came first")
_CONFLICTS = {
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
}
_BROKEN = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that may write, for whoever holds the write lock whenever it does."""
    connection = _connect(f"{path.absolute().as_uri()}?mode=rwc", in_any_thread=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 1000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # recovers the log
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_reading(path: Path, *, in_any_thread: bool) -> sqlite3.Connection:
    """A connection that can neither write nor checkpoint."""
    connection = _connect(f"{path.absolute().as_uri()}?mode=ro", in_any_thread=in_any_thread)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(uri: str, *, in_any_thread: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=_BUSY_MILLISECONDS / 1_000,
        isolation_level=None,
        check_same_thread=not in_any_thread,
        cached_statements=_CACHED_STATEMENTS,
    )
    connection.execute("PRAGMA cache_size = -16384")
    return connection


def emptied(connection: sqlite3.Connection) -> bool:
    """Whether the whole log went into the database and the log is empty now."""
    connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_MILLISECONDS}")
    try:
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    return not is_busy


def is_broken(error: sqlite3.Error) -> bool:
    """Whether nothing that the connection or its log believes about the disk can be relied on."""
    return _code(error) & 0xFF in _BROKEN


def _code(error: sqlite3.Error) -> int:
    """The extended result code; 0 for what the module itself refuses."""
    return int(getattr(error, "sqlite_errorcode", 0))


def ours(error: sqlite3.Error) -> Exception:
    """The error of the model that says the same; `error` itself when it is a mistake of ours."""
    if _code(error) in _CONFLICTS:
        found = _CONFLICT
    elif _code(error) & 0xFF in _ERRORS:
        found = _ERRORS[_code(error) & 0xFF]
    else:
        return error
    kind, message = found
    told = kind(message, reason=str(error))
    told.__cause__ = error
    return told


def raise_ours(error: sqlite3.Error) -> NoReturn:
    """Raise the error of the model that says the same, or `error` itself: a mistake of ours."""
    told = ours(error)
    if told is error:
        raise error
    raise told from error
