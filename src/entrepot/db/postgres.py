"""PostgreSQL: reads outside transactions, writes that are run again when the server says so."""

import asyncio
import random
import re
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from functools import lru_cache
from itertools import count
from typing import NoReturn, Self

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.bool import BoolBinaryLoader
from psycopg.types.numeric import NumericBinaryLoader
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from entrepot.db.database import Row, T, Transaction, Value, Work
from entrepot.model.errors import (
    Conflict,
    EntrepotError,
    SettingsInvalid,
    StorageFailed,
    StorageFull,
    Unavailable,
)

_ATTEMPTS = 8
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 1.0
_CONNECTION_WAIT_SECONDS = 10.0
_WRITE_SECONDS = 60.0
# Compiling what keeps a hundred manifests takes 160 ms, running it 20.
_SESSION = """
SET statement_timeout = '30s';
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '30s';
SET default_transaction_read_only = on;
SET jit = off;
SET synchronous_commit = on
"""
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BEGIN_RELAXED = f"{_BEGIN}; SET LOCAL synchronous_commit = off"
_PARAMETERS: dict[str, str | int] = {
    "application_name": "entrepot",
    "client_encoding": "UTF8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

_Connection = psycopg.AsyncConnection[Row]

# By the first characters of the SQLSTATE, the longest match first.
_ERRORS: dict[str, tuple[type[EntrepotError], str]] = {
    "23503": (Conflict, "another change came first"),  # foreign key
    "23505": (Conflict, "another change came first"),  # unique
    "53100": (StorageFull, "the disk of the database is full"),
    "58030": (StorageFailed, "the disk of the database failed"),
    "XX001": (StorageFailed, "the database is damaged"),
    "XX002": (StorageFailed, "the database is damaged"),
    "25P03": (Unavailable, "the transaction idled for too long"),
    "40": (Unavailable, "other changes were in the way"),  # serialization, deadlock
    "08": (Unavailable, "the connection to the database was lost"),
    "53": (Unavailable, "the database is out of resources"),
    "55P03": (Unavailable, "a lock was not to be had in time"),
    "57": (Unavailable, "the database stopped the statement"),  # time-out, shutdown, failover
}
# What a second try may cure: a row that a foreign key needed went just now, and the second try sees
# that. A statement that ran out of time once would do so again.
_AGAIN = ("40", "08", "53300", "57P", "25P03", "23503")


class PostgresDatabase:
    """One PostgreSQL database, through a pool of connections."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._pool = _Pool(url, pool_size)

    async def open(self) -> None:
        """Connect. Raises Unavailable."""
        await self._pool.open()

    async def close(self) -> None:
        """Let go of every connection."""
        await self._pool.close()

    async def maintain(self) -> None:
        """Nothing: autovacuum does it."""

    def read(self, *, scan: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Statements that change nothing; see Database."""
        del scan  # the server walks the rows
        return _Reading(self._pool)

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in one transaction, again when that may help; see Database."""
        limit = asyncio.timeout(_WRITE_SECONDS)
        try:
            async with limit:
                for attempt in count(1):
                    try:
                        return await self._attempt(work, durable=durable)
                    except psycopg.Error as error:
                        await self._pool.before_another_try(attempt, error)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable("the write took too long") from error
        raise AssertionError  # count() does not end

    async def _attempt(self, work: Work[T], *, durable: bool) -> T:
        """One transaction. Raises psycopg.Error when PostgreSQL was the one to fail."""
        connection = await self._pool.take()
        tx = _Writing(connection)
        try:
            await tx.begin(durable=durable)
            result = await work(tx)
            await tx.commit()
        except Exception as error:
            if tx.failure is not None and _is_worth_another_try(tx.failure):
                raise tx.failure from error
            raise
        else:
            return result
        finally:
            tx.end()
            await asyncio.shield(self._pool.give_back(connection))


class _Pool:
    """Connections that no cancellation can lose.

    What psycopg_pool does when a connection comes back waits for locks and for the server: a
    cancelled caller must not cut that short, so it happens in tasks of its own.
    """

    def __init__(self, url: str, size: int) -> None:
        try:
            parameters = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            # Without its cause, which repeats the address and the password in it.
            raise SettingsInvalid("the address of the database cannot be read") from None
        self._connections: AsyncConnectionPool[_Connection] = AsyncConnectionPool(
            min_size=min(2, size),
            max_size=size,
            open=False,
            timeout=_CONNECTION_WAIT_SECONDS,
            configure=_configure,
            kwargs={**_PARAMETERS, **parameters, "autocommit": True},
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        try:
            await self._connections.open(wait=True, timeout=_CONNECTION_WAIT_SECONDS)
        except BaseException as error:
            await self._connections.close()
            if isinstance(error, psycopg.Error):
                raise_ours(error)
            raise

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connections.close()

    async def take(self) -> _Connection:
        return await self._connections.getconn()

    def give_back(self, connection: _Connection) -> asyncio.Task[None]:
        return self._in_background(self._give_back(connection))

    async def before_another_try(self, attempt: int, error: psycopg.Error) -> None:
        """Pause, with lost connections replaced; raises when another try is of no use."""
        if attempt == _ATTEMPTS or not _is_worth_another_try(error):
            raise_ours(error)
        if _is_lost(error):  # then others probably are too
            await asyncio.shield(self._in_background(self._connections.check()))
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
        await asyncio.sleep(longest * random.random())  # noqa: S311 - jitter

    async def _give_back(self, connection: _Connection) -> None:
        with suppress(psycopg.Error):  # of a broken connection, which the pool replaces
            await connection.rollback()
        await self._connections.putconn(connection)

    def _in_background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _configure(connection: _Connection) -> None:
    connection.prepared_max = 500
    # As on SQLite: truth is 0 or 1, and the sum of integers is an integer.
    connection.adapters.register_loader("bool", _Truth)
    connection.adapters.register_loader("numeric", _Integer)
    await connection.execute(_SESSION)


class _Truth(BoolBinaryLoader):
    def load(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # see above
        return int(super().load(data))


class _Integer(NumericBinaryLoader):
    def load(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # see above
        return int(super().load(data))


class _Reading:
    """Statements outside any transaction; one that loses its connection runs again on another."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._connection: _Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._let_go()

    async def fetch_one(self, sql: str, **values: Value) -> Row | None:
        cursor = await self._run(sql, values)
        return await cursor.fetchone()

    async def fetch_all(self, sql: str, **values: Value) -> list[Row]:
        cursor = await self._run(sql, values)
        return await cursor.fetchall()

    async def execute(self, sql: str, **values: Value) -> int:
        cursor = await self._run(sql, values)  # PostgreSQL refuses changes in these sessions
        return cursor.rowcount

    async def _run(self, sql: str, values: dict[str, Value]) -> psycopg.AsyncCursor[Row]:
        for attempt in count(1):
            try:
                if self._connection is None:
                    self._connection = await self._pool.take()
                return await _execute(self._connection, sql, values)
            except psycopg.Error as error:
                self._let_go()
                await self._pool.before_another_try(attempt, error)
        raise AssertionError  # count() does not end

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _ = self._pool.give_back(connection)  # the caller need not wait for it


class _Writing:
    """The transaction of one attempt. After its first failure every statement fails."""

    __slots__ = ("_connection", "_is_over", "failure")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._is_over = False
        self.failure: psycopg.Error | None = None

    async def begin(self, *, durable: bool) -> None:
        # The statement is ours: when it fails the connection or the server is not fit to write.
        try:
            await self._connection.execute(_BEGIN if durable else _BEGIN_RELAXED)
        except psycopg.Error as error:
            self.failure = errors.ConnectionException(str(error))
            raise self.failure from error

    async def commit(self) -> None:
        """Raises when it failed, is unknown, or a failure was swallowed by the work."""
        if self.failure is not None:
            raise self.failure
        try:
            await self._connection.execute("COMMIT")
        except psycopg.Error as error:
            self.failure = error
            raise

    async def fetch_one(self, sql: str, **values: Value) -> Row | None:
        cursor = await self._run(sql, values)
        return await cursor.fetchone() if cursor.description else None

    async def fetch_all(self, sql: str, **values: Value) -> list[Row]:
        cursor = await self._run(sql, values)
        return await cursor.fetchall() if cursor.description else []

    async def execute(self, sql: str, **values: Value) -> int:
        return (await self._run(sql, values)).rowcount

    def end(self) -> None:
        """Refuse every further statement."""
        self._is_over = True

    async def _run(self, sql: str, values: dict[str, Value]) -> psycopg.AsyncCursor[Row]:
        if self._is_over:
            raise RuntimeError("the transaction is over")
        if self.failure is not None:
            raise_ours(self.failure)
        try:
            return await _execute(self._connection, sql, values)
        except psycopg.Error as error:
            self.failure = error
            raise_ours(error)


async def _execute(
    connection: _Connection, sql: str, values: dict[str, Value]
) -> psycopg.AsyncCursor[Row]:
    cursor = connection.cursor(binary=True)
    return await cursor.execute(_translated(sql), values)


_TOKEN = re.compile(
    r"""
      (?P<kept> '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | ::\w+ )
    | json_each\(\s*:(?P<array>[a-z_]\w*)\s*\)
    | :(?P<name>[a-z_]\w*)
    | (?P<percent>%)
    """,
    re.VERBOSE,
)


@lru_cache(maxsize=4_096)
def _translated(sql: str) -> str:
    """The common subset in psycopg's words: `:name`, and `json_each(:array)` with its `value`."""
    return _TOKEN.sub(_replacement, sql)


def _replacement(token: re.Match[str]) -> str:
    if name := token["name"]:
        return f"%({name})s"
    if array := token["array"]:
        return f"json_array_elements_text(CAST(%({array})s AS json)) AS json_each(value)"
    return token[0].replace("%", "%%")


def _is_worth_another_try(error: psycopg.Error) -> bool:
    if isinstance(error, PoolTimeout | PoolClosed | TooManyRequests):
        return False
    return _is_lost(error) or (error.sqlstate or "").startswith(_AGAIN)


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection went. Without a SQLSTATE nothing came from the server."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P"))


def raise_ours(error: psycopg.Error) -> NoReturn:
    """Raise the error of the model that says the same, or `error` itself: a mistake of ours."""
    state = error.sqlstate or ""
    found = _ERRORS.get(state) or _ERRORS.get(state[:2])
    if found is None and _is_lost(error):
        found = _ERRORS["08"]
    if found is None:
        raise error
    kind, message = found
    raise kind(message, reason=str(error)) from error
