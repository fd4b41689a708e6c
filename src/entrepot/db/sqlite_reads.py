"""Reads on SQLite: in the event loop, and in threads where a statement may take long."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from entrepot.db.database import Row, Value
from entrepot.db.sqlite_connection import connect_for_reading, raise_ours
from entrepot.model.errors import Unavailable

_SCANNERS = 4


class Reader:
    """Statements in the event loop: a point read costs less than a hop to a thread.

    Nothing suspends inside a statement, so one connection serves every reader of the loop. The
    cursor is never named: it must be gone, and its snapshot with it, when the statement returns.
    """

    __slots__ = ("_connection", "_execute")

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._execute: Callable[[str, dict[str, Value]], sqlite3.Cursor] = _closed

    def open(self, path: Path) -> None:
        self._connection = connect_for_reading(path, in_any_thread=False)
        self._execute = self._connection.execute

    def close(self) -> None:
        self._execute = _closed
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch_one(self, sql: str, **values: Value) -> Row | None:
        try:
            row: Row | None = self._execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise_ours(error)
        return row

    async def fetch_all(self, sql: str, **values: Value) -> list[Row]:
        try:
            return self._execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise_ours(error)

    async def execute(self, sql: str, **values: Value) -> int:
        await self.fetch_all(sql, **values)  # SQLite refuses changes on this connection
        return 0


def _closed(_sql: str, _values: dict[str, Value]) -> sqlite3.Cursor:
    raise Unavailable("the database is closed")


class Scans:
    """Statements that may walk many rows, in threads of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_SCANNERS, "sqlite-scan")
        self._connections: list[sqlite3.Connection] = []
        self._idle: list[sqlite3.Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch_one(self, sql: str, **values: Value) -> Row | None:
        rows = await self._run(sql, values, 1)
        return rows[0] if rows else None

    async def fetch_all(self, sql: str, **values: Value) -> list[Row]:
        return await self._run(sql, values, None)

    async def execute(self, sql: str, **values: Value) -> int:
        await self._run(sql, values, None)  # SQLite refuses changes on these connections
        return 0

    def close(self) -> None:
        """End what still runs, and every connection."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in tuple(self._connections):
            connection.interrupt()
        self._threads.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def _run(self, sql: str, values: dict[str, Value], limit: int | None) -> list[Row]:
        # A cancelled caller leaves its thread to finish: the connection goes back only then.
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._threads, self._fetch, sql, values, limit)
        except RuntimeError as error:
            raise Unavailable("the database is closed") from error
        try:
            return await future
        except sqlite3.Error as error:
            raise_ours(error)

    def _fetch(self, sql: str, values: dict[str, Value], limit: int | None) -> list[Row]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect_for_reading(self._path, in_any_thread=True)
            self._connections.append(connection)
        try:
            if limit is None:
                return connection.execute(sql, values).fetchall()
            return connection.execute(sql, values).fetchmany(limit)
        finally:
            self._idle.append(connection)
