"""What is particular to SQLite: one writer thread, the write lock, the log, errors of the disk."""

import asyncio
import fcntl
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from entrepot.db import sqlite, sqlite_connection
from entrepot.db.database import Transaction
from entrepot.db.migrate import migrate
from entrepot.db.sqlite import SQLiteDatabase
from entrepot.model.errors import StorageFailed, StorageFull, Unavailable
from tests.db.settings import names, put

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def database(sqlite_path):
    database = SQLiteDatabase(sqlite_path)
    await database.open()
    yield database
    await database.close()


@contextmanager
def lock_held(path: Path):
    """As by another process: a lock belongs to an open file, not to a process."""
    with (path.parent / "write.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    with (path.parent / "write.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def log_size(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


@pytest.fixture
def statements(monkeypatch) -> list[tuple[str, bool]]:
    """Each statement, commit and close of a connection that may write; was the lock held?"""
    seen: list[tuple[str, bool]] = []

    class Watched(sqlite3.Connection):
        def watch(self, path: Path) -> None:
            self.set_trace_callback(lambda sql: seen.append((sql, is_locked(path))))
            self.path = path

        def close(self) -> None:
            if hasattr(self, "path"):
                seen.append(("close", is_locked(self.path)))
            super().close()

    def connect(address: str, **options: Any) -> sqlite3.Connection:
        connection = real_connect(address, factory=Watched, **options)
        if "mode=ro" not in address:
            connection.watch(Path(address.removeprefix("file://").partition("?")[0]))
        return connection

    real_connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    return seen


@asynccontextmanager
async def writer_busy(database: SQLiteDatabase):
    """Inside, whatever is written waits in the queue."""
    has_begun, may_end = threading.Event(), threading.Event()

    async def wait(tx: Transaction) -> None:
        has_begun.set()
        may_end.wait(30)

    task = asyncio.create_task(database.write(wait))
    await asyncio.to_thread(has_begun.wait, 30)
    yield
    may_end.set()
    await task


async def in_one_batch(database: SQLiteDatabase, works: list) -> list:
    async with writer_busy(database):
        tasks = [asyncio.create_task(database.write(work)) for work in works]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


# The write lock.


async def test_every_statement_that_may_write_runs_under_the_lock(statements, tmp_path):
    path = tmp_path / "entrepot.db"
    await migrate(f"sqlite://{path}")
    database = SQLiteDatabase(path)
    await database.open()
    await asyncio.gather(*(database.write(lambda tx: put(tx, "a")) for _ in range(10)))
    await database.checkpoint()
    await database.write(lambda tx: put(tx, "b" * 5_000_000))  # makes SQLite checkpoint by itself
    await database.close()

    assert {"COMMIT", "close", "PRAGMA wal_checkpoint(TRUNCATE)"} <= {sql for sql, _ in statements}
    assert [sql for sql, was_locked in statements if not was_locked] == []


async def test_a_process_that_holds_the_lock_stops_writes_and_checkpoints(sqlite_path):
    database = SQLiteDatabase(sqlite_path, lock_seconds=0.05)
    await database.open()
    await database.write(lambda tx: put(tx, "a"))
    before = log_size(sqlite_path)

    with lock_held(sqlite_path):
        with pytest.raises(Unavailable):
            await database.write(lambda tx: put(tx, "b"))
        with pytest.raises(Unavailable):
            await database.checkpoint()
        with pytest.raises(Unavailable):
            await SQLiteDatabase(sqlite_path, lock_seconds=0.05).open()
        assert await names(database) == ["a"]
        assert log_size(sqlite_path) == before > 0

    await database.write(lambda tx: put(tx, "c"))
    assert await names(database) == ["a", "c"]
    await database.close()


async def test_a_process_that_holds_the_lock_stops_the_checkpoint_at_close(sqlite_path):
    database = SQLiteDatabase(sqlite_path, lock_seconds=0.05)
    await database.open()
    await database.write(lambda tx: put(tx, "a"))
    before = log_size(sqlite_path)

    with lock_held(sqlite_path):
        with pytest.raises(Unavailable):
            await database.close()
        assert log_size(sqlite_path) == before > 0


async def test_a_write_waits_for_the_lock_and_then_happens(database, sqlite_path):
    with lock_held(sqlite_path):
        task = asyncio.create_task(database.write(lambda tx: put(tx, "a")))
        async with database.read(scan=True) as tx:  # the loop and the other threads go on
            assert await tx.fetch_one("SELECT COUNT(*) FROM installation") == (0,)
        assert not task.done()

    await task
    assert await names(database) == ["a"]


async def test_closing_readers_never_checkpoints(database, sqlite_path):
    await database.write(lambda tx: put(tx, "a"))
    with closing(sqlite3.connect(sqlite_path)) as keeps_the_log:
        keeps_the_log.execute("SELECT COUNT(*) FROM installation").fetchone()
        await database.close()
        reader = sqlite_connection.connect_for_reading(sqlite_path, in_any_thread=False)
        reader.execute("SELECT COUNT(*) FROM installation").fetchone()
        keeps_the_log.execute("INSERT INTO installation VALUES ('b', '')")
        keeps_the_log.commit()
        before = log_size(sqlite_path)
        reader.close()

        assert log_size(sqlite_path) == before > 0


def test_processes_that_write_and_checkpoint_at_once_lose_nothing(sqlite_path):
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM installation").fetchone()
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.db.writing_process", sqlite_path, name, "25", "4"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for name in "abcd"
        ]
        results = [process.communicate(timeout=120) for process in processes]

    assert [
        (process.returncode, err) for process, (_, err) in zip(processes, results, strict=True)
    ] == [(0, b"")] * 4
    acknowledged = {line.decode() for out, _ in results for line in out.splitlines()}
    assert len(acknowledged) == 4 * 25 * 4
    with closing(sqlite3.connect(sqlite_path)) as connection:
        assert acknowledged == {
            name for (name,) in connection.execute("SELECT name FROM installation")
        }
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_writers_and_a_long_reader_in_one_process_never_meet_a_locked_database(
    database, sqlite_path
):
    others = [SQLiteDatabase(sqlite_path) for _ in range(7)]
    for other in others:
        await other.open()
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM installation").fetchone()

        await asyncio.gather(
            *(
                writer.write(lambda tx, name=f"{number}-{place}": put(tx, name), durable=False)
                for number in range(20)
                for place, writer in enumerate([database, *others])
            )
        )

        assert reader.execute("SELECT COUNT(*) FROM installation").fetchone() == (0,)
    assert len(await names(database)) == 160
    for other in others:
        await other.close()


# Group commit.


async def test_waiting_writes_share_one_commit(statements, sqlite_path):
    database = SQLiteDatabase(sqlite_path)
    await database.open()

    await in_one_batch(
        database, [lambda tx, name=f"{number}": put(tx, name) for number in range(50)]
    )

    assert [sql for sql, _ in statements].count("COMMIT") == 2
    assert len(await names(database)) == 50
    await database.close()


async def test_a_batch_is_synced_when_any_of_it_is_durable(database):
    async def level(tx: Transaction) -> object:
        return await tx.fetch_one("PRAGMA synchronous")

    assert await database.write(level, durable=True) == (2,)
    assert await database.write(level, durable=False) == (1,)
    relaxed, durable = await asyncio.gather(
        database.write(level, durable=False), database.write(level, durable=True)
    )
    assert durable == (2,)
    assert relaxed in {(1,), (2,)}
    assert await in_one_batch(database, [level, level]) == [(2,), (2,)]


async def test_a_write_that_awaits_something_else_is_refused(database):
    async def sleep(tx: Transaction) -> None:
        await put(tx, "a")
        await asyncio.sleep(0)

    async def scan(tx: Transaction) -> None:
        await put(tx, "b")
        async with database.read(scan=True) as other:
            await other.fetch_one("SELECT 1")

    async def write(tx: Transaction) -> None:
        await put(tx, "c")
        await database.write(lambda other: put(other, "d"))

    for work in (sleep, scan, write):
        with pytest.raises(RuntimeError):
            await database.write(work)

    assert await names(database) == []


async def test_a_read_inside_a_write_is_refused(database):
    async def work(tx: Transaction) -> None:
        async with database.read() as other:
            await other.fetch_one("SELECT 1")

    with pytest.raises(sqlite3.ProgrammingError, match="thread"):
        await database.write(work)


async def test_a_cancelled_write_that_has_not_begun_does_not_happen(database):
    async with writer_busy(database):
        task = asyncio.create_task(database.write(lambda tx: put(tx, "a")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await database.write(lambda tx: put(tx, "b"))
    assert await names(database) == ["b"]


async def test_close_commits_what_waits(database, sqlite_path):
    tasks = [
        asyncio.create_task(database.write(lambda tx, name=f"{number}": put(tx, name)))
        for number in range(10)
    ]
    await asyncio.sleep(0)

    await database.close()

    await asyncio.gather(*tasks)
    with closing(sqlite3.connect(sqlite_path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM installation").fetchone() == (10,)


# The log.


async def test_a_checkpoint_empties_the_log_once_no_reader_needs_it(database, sqlite_path):
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM installation").fetchone()
        await database.write(lambda tx: put(tx, "a", "x" * 100_000))

        assert not await database.checkpoint()
    assert await database.checkpoint()

    assert log_size(sqlite_path) == 0


@pytest.mark.parametrize("scan", [True, False])
async def test_a_read_that_left_rows_behind_holds_no_snapshot(database, sqlite_path, scan):
    for name in "abc":
        await database.write(lambda tx, name=name: put(tx, name))

    async with database.read(scan=scan) as tx:
        await tx.fetch_one("SELECT name FROM installation")

        assert await database.checkpoint()
    assert log_size(sqlite_path) == 0


async def test_the_log_stays_small_under_writes_and_reads(database, sqlite_path):
    for number in range(100):
        await database.write(lambda tx, n=number: put(tx, f"{n}", "x" * 100_000), durable=False)
        await names(database)

    assert log_size(sqlite_path) < 5_000_000


# Errors.


async def test_a_full_disk_is_told_and_writing_goes_on_when_there_is_space(database):
    async def pages(tx: Transaction, count: int) -> None:
        await tx.fetch_one(f"PRAGMA max_page_count = {count}")

    await database.write(lambda tx: put(tx, "before"))
    await database.write(lambda tx: pages(tx, 1))
    with pytest.raises(StorageFull):
        await database.write(lambda tx: put(tx, "a", "x" * 1_000_000))

    await database.write(lambda tx: pages(tx, 1_000_000))
    await database.write(lambda tx: put(tx, "a", "x" * 1_000_000))
    assert await names(database) == ["a", "before"]


async def test_a_commit_that_fails_fails_every_caller_and_starts_a_new_log(database, sqlite_path):
    await database.write(lambda tx: put(tx, "before"))
    connection = database._connection
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_size(sqlite_path) + 50_000, limits[1]))
    try:
        results = await in_one_batch(
            database,
            [lambda tx, name=f"{number}": put(tx, name, "x" * 10_000) for number in range(20)],
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [type(result) for result in results] == [StorageFailed] * 20
    assert len({id(result) for result in results}) == 20
    assert await names(database) == ["before"]
    assert database._connection is not connection
    assert log_size(sqlite_path) == 0
    await database.write(lambda tx: put(tx, "after"))
    assert await names(database) == ["after", "before"]


async def test_after_an_io_error_nothing_is_added_to_a_log_that_cannot_be_emptied(
    database, sqlite_path
):
    async def break_the_disk(tx: Any) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        tx._failure = error

    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM installation").fetchone()
        await database.write(lambda tx: put(tx, "before"))

        with pytest.raises(StorageFailed):
            await database.write(break_the_disk)
        with pytest.raises(Unavailable):
            await database.write(lambda tx: put(tx, "a"))

    await database.write(lambda tx: put(tx, "b"))
    assert await names(database) == ["b", "before"]


async def test_a_file_that_is_no_database_is_told(tmp_path):
    path = tmp_path / "entrepot.db"
    path.write_bytes(os.urandom(8_192))

    with pytest.raises(StorageFailed):
        await SQLiteDatabase(path).open()


async def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageFailed):
        await SQLiteDatabase(tmp_path / "none" / "entrepot.db").open()


async def test_a_stranger_that_keeps_the_database_locked_makes_it_unavailable(
    database, sqlite_path, monkeypatch
):
    async def wait_less(tx: Transaction) -> None:
        await tx.fetch_one("PRAGMA busy_timeout = 10")

    await database.write(wait_less)
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")

        with pytest.raises(Unavailable):
            await database.write(lambda tx: put(tx, "a"))

    await database.write(lambda tx: put(tx, "b"))
    assert await names(database) == ["b"]


async def test_more_writes_than_one_batch_takes_are_all_committed(database, monkeypatch):
    monkeypatch.setattr(sqlite, "_BATCH", 7)

    await asyncio.gather(
        *(database.write(lambda tx, name=f"{number}": put(tx, name)) for number in range(100))
    )

    assert len(await names(database)) == 100
