"""SQLite: reads in the event loop, writes in one thread that commits them in groups."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrepot.db.database import Row, T, Transaction, Value, Work
from entrepot.db.sqlite_connection import (
    connect_for_writing,
    emptied,
    is_broken,
    ours,
    raise_ours,
)
from entrepot.db.sqlite_reads import Reader, Scans
from entrepot.db.write_lock import WriteLock
from entrepot.model.errors import EntrepotError, Unavailable
from entrepot.telemetry.observe import Observe, ignore

_BATCH = 256
_WRITE_SECONDS = 60.0


class SQLiteDatabase:
    """One SQLite file, shared with other processes through the write lock beside it."""

    def __init__(
        self, path: Path, *, lock_seconds: float = 30.0, on_commit: Observe = ignore
    ) -> None:
        self._path = path
        self._lock = WriteLock(path, seconds=lock_seconds)
        self._thread = ThreadPoolExecutor(1, "sqlite-writer")
        self._waiting: deque[_Job] = deque()
        self._connection: sqlite3.Connection | None = None
        self._is_suspect = False
        self._on_commit = on_commit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        self._reader = Reader()
        self._scans = Scans(path)

    async def open(self) -> None:
        """Connect, creating the file if need be. Raises Unavailable, StorageFailed."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._in_thread(self._open)
            self._reader.open(self._path)
        except BaseException:
            await self.close()
            raise
        self._is_open = True

    async def close(self) -> None:
        """Commit what waits, then let go of every connection, the last one under the write lock."""
        self._is_open = False
        if self._loop is None:
            return
        # Readers first: the last connection to go checkpoints, and must be the one with the lock.
        self._reader.close()
        try:
            await self._in_thread(self._close)
        finally:
            self._thread.shutdown(wait=False)
            self._loop = None

    def read(self, *, scan: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Statements that change nothing; see Database."""
        return self._scans if scan else self._reader

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in the writer thread and commit it with whatever else waits; see Database.

        When the caller is cancelled its work may still be committed.
        """
        loop = asyncio.get_running_loop()  # refuses a write inside a work: there is none there
        if not self._is_open:
            raise Unavailable("the database is closed")
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Job(work, durable, future, copy_context()))
        if len(self._waiting) == 1:
            self._thread.submit(self._commit_waiting)
        limit = asyncio.timeout(_WRITE_SECONDS)
        try:
            async with limit:
                return await future
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Unavailable("the write took too long") from error

    async def maintain(self) -> None:
        """Keep the log from growing behind readers that never pause."""
        await self.checkpoint()

    async def checkpoint(self) -> bool:
        """Empty the write-ahead log; false when a reader still needs it.

        Raises Unavailable, StorageFailed, StorageFull.
        """
        return await self._in_thread(self._checkpoint)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        if self._loop is None:
            raise Unavailable("the database is closed")
        try:
            return await self._loop.run_in_executor(self._thread, function)
        except sqlite3.Error as error:
            raise_ours(error)

    # What follows runs in the writer thread.

    def _open(self) -> None:
        with self._lock.held():
            self._ready()

    def _close(self) -> None:
        while self._waiting:
            self._commit_waiting()
        self._scans.close()
        if self._connection is not None:
            with self._lock.held():
                self._connection.close()
                self._connection = None

    def _checkpoint(self) -> bool:
        with self._lock.held():
            return emptied(self._ready())

    def _commit_waiting(self) -> None:
        jobs: list[_Job] = []
        while self._waiting and len(jobs) < _BATCH:
            job = self._waiting.popleft()
            if not job.future.cancelled():
                jobs.append(job)
        if jobs:
            try:
                with self._lock.held():
                    outcomes = self._commit(jobs)
            except BaseException as error:  # noqa: BLE001 - every caller is told, none waits forever
                outcomes = [_Outcome(None, _copy(error)) for _ in jobs]
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                jobs[0].future.get_loop().call_soon_threadsafe(_settle, jobs, outcomes)
        if self._waiting and self._is_open:
            self._thread.submit(self._commit_waiting)

    def _commit(self, jobs: list["_Job"]) -> list["_Outcome"]:
        """Run every job in one transaction. Raises when none of them was committed."""
        connection = self._ready()
        is_durable = any(job.is_durable for job in jobs)
        try:
            # Per connection, and only between transactions. A FULL commit syncs the log and with it
            # every NORMAL commit before it.
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [_attempt(connection, job) for job in jobs]
            connection.execute("COMMIT")
            self._on_commit("durable" if is_durable else "relaxed", len(jobs))
        except BaseException as error:
            self._undo(connection, error)
            raise
        return outcomes

    def _undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            must_reopen = True
        else:
            must_reopen = isinstance(error, sqlite3.Error) and is_broken(error)
        if must_reopen:
            self._connection = None
            self._is_suspect = True
            with suppress(sqlite3.Error):
                connection.close()
            with suppress(sqlite3.Error, Unavailable):
                self._ready()

    def _ready(self) -> sqlite3.Connection:
        """Our connection; after an I/O error a new one, once nothing depends on the old log.

        A sync that failed may have dropped earlier frames of the log from memory and not from what
        we read back; a later commit that syncs well would be unreadable behind the gap. So the log
        is copied into the database and emptied before anything is added to it.
        """
        if self._connection is None:
            self._connection = connect_for_writing(self._path)
        if self._is_suspect:
            if not emptied(self._connection):
                raise Unavailable("the write-ahead log is in use after an I/O error")
            self._is_suspect = False
        return self._connection


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Transaction], Awaitable[object]]
    is_durable: bool
    future: "asyncio.Future[Any]"  # of whatever the work returns
    context: Context


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: object
    error: BaseException | None


def _attempt(connection: sqlite3.Connection, job: _Job) -> _Outcome:
    """Run one job in a savepoint. Raises what undid the whole transaction."""
    connection.execute("SAVEPOINT work")
    tx = _Writing(connection)
    try:
        outcome = _Outcome(job.context.run(_drive, job.work, tx), None)
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        outcome = _Outcome(None, error)
    failure = tx.end()
    if failure is not None:
        # Some errors roll everything back: what the other jobs did is gone too.
        if not connection.in_transaction or is_broken(failure):
            raise failure
        if outcome.error is None:
            outcome = _Outcome(None, ours(failure))
    if outcome.error is not None:
        connection.execute("ROLLBACK TO work")
    connection.execute("RELEASE work")
    return outcome


def _drive(work: Callable[[Transaction], Awaitable[object]], tx: Transaction) -> object:
    """Run a coroutine that never suspends, as nothing its transaction does ever suspends."""
    steps = work(tx).__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    steps.close()
    raise RuntimeError("a write may await nothing but its transaction")


def _settle(jobs: list[_Job], outcomes: list[_Outcome]) -> None:
    """Tell the callers, in the event loop."""
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.future.done():
            continue
        if outcome.error is None:
            job.future.set_result(outcome.result)
        else:
            job.future.set_exception(outcome.error)


class _Writing:
    """The transaction of one job; after a failure every statement fails, as on PostgreSQL."""

    __slots__ = ("_connection", "_failure", "_is_over")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._failure: sqlite3.Error | None = None
        self._is_over = False

    async def fetch_one(self, sql: str, **values: Value) -> Row | None:
        rows = self._run(sql, values)
        return rows[0] if rows else None

    async def fetch_all(self, sql: str, **values: Value) -> list[Row]:
        return self._run(sql, values)

    async def execute(self, sql: str, **values: Value) -> int:
        # Not the cursor's row count, which is -1 for a statement that begins with WITH.
        before = self._connection.total_changes
        self._run(sql, values)
        return self._connection.total_changes - before

    def end(self) -> sqlite3.Error | None:
        """Refuse every further statement; what failed, if anything."""
        self._is_over = True
        return self._failure

    def _run(self, sql: str, values: dict[str, Value]) -> list[Row]:
        if self._is_over:
            raise RuntimeError("the transaction is over")
        if self._failure is not None:
            raise_ours(self._failure)
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            self._failure = error
            raise_ours(error)


def _copy(error: BaseException) -> BaseException:
    """An error of the batch for one of its callers: each raises its own object."""
    if isinstance(error, sqlite3.Error):
        return ours(error)
    if isinstance(error, EntrepotError):
        copy = type(error)(error.message, **error.values)
        copy.__cause__ = error
        return copy
    return error
