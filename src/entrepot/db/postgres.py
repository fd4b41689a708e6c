"""PostgreSQL: reads outside transactions, writes that are run again when the server says so.

A COMMIT whose answer is lost may have happened. Its work runs again, which shows the same when it
did: work is idempotent. When it shows something else nobody knows what is true, and the caller
hears that.
"""

import asyncio
import random
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from itertools import count
from typing import Self

import psycopg
from psycopg import errors

from entrepot.db.database import Row, T, Transaction, Value, Work
from entrepot.db.postgres_errors import is_lost, is_worth_another_try, raise_ours
from entrepot.db.postgres_pool import SETTINGS, Connection, Pool
from entrepot.model.errors import Unavailable
from entrepot.model.repeats import drawing

_ATTEMPTS = 8
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 1.0
# Longer than any statement may take on the server, which then says so itself.
_READ_SECONDS = 40.0
_WRITE_SECONDS = 60.0

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_LOCAL = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in SETTINGS.items())
_RELAXED = "; SET LOCAL synchronous_commit = off"
_BEGIN_READING = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY{_LOCAL}"


class PostgresDatabase:
    """One PostgreSQL database, through a pool of connections."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._pool = Pool(url, pool_size)

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
                return await self._write(work, durable=durable)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable("the write took too long") from error

    async def _write(self, work: Work[T], *, durable: bool) -> T:
        unsure: list[T] = []
        drawn: list[int] = []
        try:
            for attempt in count(1):
                try:
                    with drawing(drawn):
                        return await self._attempt(work, unsure, durable=durable)
                except psycopg.Error as error:
                    await _pause(attempt, error)
        except Exception as error:
            if unsure:
                raise Unavailable(_NOT_KNOWN) from error
            raise
        raise AssertionError  # count() does not end

    async def _attempt(self, work: Work[T], unsure: list[T], *, durable: bool) -> T:
        """One transaction. Raises psycopg.Error when PostgreSQL was the one to fail.

        What the work returned becomes `unsure` when nobody knows whether it was committed. Work
        that then returns something else might do its change twice: that is not committed.
        """
        connection = await self._pool.take()
        tx = _Writing(connection)
        try:
            await tx.begin(durable=durable)
            result = await work(tx)
            _require_same(result, unsure)
            try:
                await tx.commit()
            except psycopg.Error as error:
                if tx.is_committing and is_lost(error):
                    unsure.append(result)
                raise
        except Exception as error:
            if tx.failure is not None and is_worth_another_try(tx.failure):
                if is_lost(tx.failure):
                    await self._pool.condemn(connection)
                raise tx.failure from error
            raise
        else:
            return result
        finally:
            tx.end()
            await asyncio.shield(self._pool.give_back(connection))


_NOT_KNOWN = "the database was lost while it committed; whether the change was made is not known"


def _require_same(result: object, unsure: Sequence[object]) -> None:
    if any(result != before for before in unsure):
        raise Unavailable(_NOT_KNOWN)


async def _pause(attempt: int, error: psycopg.Error) -> None:
    """Wait before another try; raises when that is of no use."""
    if attempt == _ATTEMPTS or not is_worth_another_try(error):
        raise_ours(error)
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
    await asyncio.sleep(longest * random.random())  # noqa: S311 - jitter


class _Reading:
    """Statements outside any transaction; one that loses its connection runs again on another."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

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
        limit = asyncio.timeout(_READ_SECONDS)
        try:
            async with limit:
                for attempt in count(1):
                    try:
                        if self._connection is None:
                            self._connection = await self._pool.take()
                        return await _read(self._connection, sql, values)
                    except psycopg.Error as error:
                        if is_lost(error):
                            await self._give_up()
                        self._let_go()
                        await _pause(attempt, error)
        except TimeoutError as error:
            if not limit.expired():
                raise
            await self._give_up()
            raise Unavailable("the database did not answer in time") from error
        raise AssertionError  # count() does not end

    async def _give_up(self) -> None:
        if self._connection is not None:
            await self._pool.condemn(self._connection)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _ = self._pool.give_back(connection)  # the caller need not wait for it


class _Writing:
    """The transaction of one attempt. After its first failure every statement fails."""

    __slots__ = ("_connection", "_is_over", "failure", "is_committing")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_over = False
        self.failure: psycopg.Error | None = None
        self.is_committing = False

    async def begin(self, *, durable: bool) -> None:
        # The statement is ours: when it fails the connection or the server is not fit to write.
        local = _LOCAL if self._connection.is_pooled else ""
        try:
            await self._connection.execute(
                f"{_BEGIN}{local}{'' if durable else _RELAXED}", prepare=False
            )
        except psycopg.Error as error:
            self.failure = errors.ConnectionException(str(error))
            raise self.failure from error

    async def commit(self) -> None:
        """Raises when it failed, is unknown, or a failure was swallowed by the work."""
        if self.failure is not None:
            raise self.failure
        self.is_committing = True
        try:
            cursor = await self._connection.execute("COMMIT", prepare=False)
        except psycopg.Error as error:
            self.failure = error
            raise
        if cursor.statusmessage != "COMMIT":
            raise RuntimeError("the transaction had failed, and nobody was told")

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


async def _read(
    connection: Connection, sql: str, values: dict[str, Value]
) -> psycopg.AsyncCursor[Row]:
    """One statement; behind a pooler in a transaction that brings its limits.

    That is not a pipeline: psycopg ends one with a Flush, for which the pooler takes another
    session, and waits in vain for that one's transaction to end.
    """
    if not connection.is_pooled:
        return await _execute(connection, sql, values)
    await connection.execute(_BEGIN_READING, prepare=False)
    cursor = await _execute(connection, sql, values)
    await connection.execute("COMMIT", prepare=False)
    return cursor


async def _execute(
    connection: Connection, sql: str, values: dict[str, Value]
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
