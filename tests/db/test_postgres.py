"""What is particular to PostgreSQL: transactions that run again, connections that are lost."""

import asyncio

import psycopg
import pytest

from entrepot.db import organisations, postgres, postgres_pool
from entrepot.db.database import Transaction
from entrepot.db.postgres import PostgresDatabase
from entrepot.model.errors import Conflict, SettingsInvalid, Unavailable
from tests.db.postgres_pool import POOL_SIZE, fill_the_pool, terminate_all
from tests.db.settings import names, put


@pytest.fixture
async def database(postgres_url):
    database = PostgresDatabase(postgres_url, pool_size=POOL_SIZE)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def operator(postgres_url):
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        yield connection


async def test_a_deadlock_is_run_again_and_both_changes_arrive(database):
    for name in "ab":
        await database.write(lambda tx, name=name: put(tx, name))
    everyone = asyncio.Barrier(2)
    attempts = []

    async def work(tx: Transaction, first: str, second: str) -> None:
        attempts.append(first)
        await put(tx, first, first)
        if len(attempts) <= 2:
            await everyone.wait()
        await put(tx, second, first)

    await asyncio.gather(
        database.write(lambda tx: work(tx, "a", "b")),
        database.write(lambda tx: work(tx, "b", "a")),
    )

    assert len(attempts) == 3
    async with database.read() as tx:
        rows = await tx.fetch_all("SELECT DISTINCT value FROM installation")
    assert rows == [(attempts[2],)]


async def test_work_whose_parent_row_goes_meanwhile_is_run_again_and_sees_that(database):
    await database.write(lambda tx: organisations.add(tx, id=7, public_id="p", slug="s", now=1))
    is_deleting, may_end = asyncio.Event(), asyncio.Event()
    seen = []

    async def delete(tx: Transaction) -> None:
        await tx.execute("DELETE FROM organisations WHERE id = 7")
        is_deleting.set()
        await may_end.wait()

    async def insert(tx: Transaction) -> None:
        seen.append(await organisations.get(tx, 7) is not None)
        if not seen[-1]:
            return
        asyncio.get_running_loop().call_later(0.1, may_end.set)  # behind the lock that it waits for
        await tx.execute(
            "INSERT INTO repositories (id, organisation_id, path, created_at) VALUES (8, 7, 'r', 1)"
        )

    deleting = asyncio.create_task(database.write(delete))
    await is_deleting.wait()
    await database.write(insert)
    await deleting

    assert seen == [True, False]


async def test_a_failure_that_work_replaced_is_still_run_again(database, operator):
    attempts = []

    async def work(tx: Transaction) -> None:
        attempts.append(tx)
        try:
            if len(attempts) == 1:
                await terminate_all(operator)
            await put(tx, "a")
        except Unavailable as error:
            raise ValueError from error

    await database.write(work)

    assert len(attempts) == 2


async def test_a_connection_lost_in_a_write_is_replaced_and_the_work_run_again(database, operator):
    attempts = []

    async def work(tx: Transaction) -> str:
        attempts.append(tx)
        await put(tx, f"{len(attempts)}")
        if len(attempts) < 3:
            assert await terminate_all(operator) >= 1
        await put(tx, "last")
        return "done"

    assert await database.write(work) == "done"

    assert await names(database) == ["3", "last"]


async def test_a_commit_whose_answer_was_lost_is_run_again(database, monkeypatch):
    commits = []
    commit = postgres._Writing.commit

    async def lose_the_first_answer(self) -> None:
        await commit(self)
        commits.append(self)
        if len(commits) == 1:
            self.failure = psycopg.OperationalError("server closed the connection unexpectedly")
            raise self.failure

    monkeypatch.setattr(postgres._Writing, "commit", lose_the_first_answer)

    await database.write(lambda tx: put(tx, "a"))

    assert len(commits) == 2
    assert await names(database) == ["a"]


async def test_work_that_fails_each_time_ends_as_unavailable(database, operator):
    attempts = []

    async def work(tx: Transaction) -> None:
        attempts.append(tx)
        await terminate_all(operator)
        await put(tx, "a")

    with pytest.raises(Unavailable):
        await database.write(work)

    assert len(attempts) == postgres._ATTEMPTS
    await fill_the_pool(database)


async def test_reads_and_writes_go_on_after_every_connection_was_lost(database, operator):
    await fill_the_pool(database)
    assert await terminate_all(operator) == POOL_SIZE

    assert await names(database) == []
    await asyncio.gather(
        *(database.write(lambda tx, name=f"{number}": put(tx, name)) for number in range(9))
    )

    assert len(await names(database)) == 9
    await fill_the_pool(database)


async def test_cancelled_callers_take_no_connection_with_them(database, operator):
    # Every write waits for this lock, somewhere between its first and its last message.
    await operator.execute("BEGIN")
    await operator.execute("LOCK TABLE installation IN ACCESS EXCLUSIVE MODE")
    tasks = [asyncio.create_task(database.write(lambda tx: put(tx, "a"))) for _ in range(9)]
    tasks += [asyncio.create_task(names(database)) for _ in range(9)]
    waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while (await (await operator.execute(waiting)).fetchone())[0] < POOL_SIZE:
        await operator.execute("SELECT pg_stat_clear_snapshot()")
    while not all(task.done() for task in tasks):  # again and again, into every clean-up
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await operator.execute("ROLLBACK")

    assert {type(result) for result in results} == {asyncio.CancelledError}
    await fill_the_pool(database)
    assert await names(database) == []


async def test_a_write_cancelled_at_any_step_takes_no_connection_with_it(database):
    async def work(tx: Transaction) -> None:
        await put(tx, "a")
        raise ValueError

    for steps in range(300):
        task = asyncio.create_task(database.write(work))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await fill_the_pool(database)
    assert await names(database) == []


async def test_a_conflict_is_not_run_again(database):
    attempts = []

    async def work(tx: Transaction) -> None:
        attempts.append(tx)
        await tx.execute("INSERT INTO installation VALUES ('a', ''), ('a', '')")

    with pytest.raises(Conflict):
        await database.write(work)

    assert len(attempts) == 1


async def test_limits_and_levels_are_set(database):
    async def settings(tx: Transaction) -> object:
        return await tx.fetch_one(
            """
            SELECT current_setting('transaction_isolation'), current_setting('synchronous_commit'),
                   current_setting('statement_timeout'), current_setting('lock_timeout'),
                   current_setting('idle_in_transaction_session_timeout')
            """
        )

    limits = ("30s", "10s", "30s")
    assert await database.write(settings) == ("read committed", "on", *limits)
    assert await database.write(settings, durable=False) == ("read committed", "off", *limits)
    assert await database.write(settings) == ("read committed", "on", *limits)


async def test_a_server_that_is_not_there_is_unavailable(monkeypatch):
    monkeypatch.setattr(postgres_pool, "CONNECTION_WAIT_SECONDS", 0.2)

    with pytest.raises(Unavailable):
        await PostgresDatabase("postgresql://127.0.0.1:1/none", pool_size=1).open()


def test_an_address_that_cannot_be_read_does_not_show_its_password():
    with pytest.raises(SettingsInvalid) as found:
        PostgresDatabase("postgresql://user:secret@host:port/x?y=z", pool_size=1)

    assert "secret" not in str(found.value)
    assert found.value.__cause__ is None
