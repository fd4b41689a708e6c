"""Behind PgBouncer in transaction mode: nothing of ours is left in a session."""

import asyncio
from urllib.parse import urlsplit

import psycopg
import pytest

from entrepot.db import postgres_pool
from entrepot.db.database import Transaction
from entrepot.db.migrate import migrate
from entrepot.db.postgres import PostgresDatabase
from entrepot.model.errors import Unavailable
from tests.db.postgres_pool import POOL_SIZE, fill_the_pool, terminate_all
from tests.db.settings import names, put
from tests.support.fault_proxy import Cut, FaultProxy
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import new_database

pytestmark = pytest.mark.slow  # needs a Debian package
AT_SERVER = 2  # connections, fewer than ours


@pytest.fixture
def pooled_url(postgres_url, tmp_path):
    with running_pgbouncer(postgres_url, tmp_path, size=AT_SERVER) as url:
        yield url


@pytest.fixture
async def database(pooled_url):
    database = PostgresDatabase(pooled_url, pool_size=POOL_SIZE)
    await database.open()
    yield database
    await database.close()


async def settings_of_sessions(url: str) -> set[tuple[object, ...]]:
    """What each of the pooler's sessions has, as somebody else sees it who shares them."""
    sessions: dict[object, tuple[object, ...]] = {}
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, prepare_threshold=None
    ) as stranger:
        async with asyncio.timeout(20):
            while len(sessions) < AT_SERVER:
                cursor = await stranger.execute(
                    """
                    SELECT pg_backend_pid(), current_setting('statement_timeout'),
                           current_setting('lock_timeout'), current_setting('jit'),
                           current_setting('idle_in_transaction_session_timeout'),
                           current_setting('default_transaction_read_only'),
                           current_setting('synchronous_commit'),
                           (SELECT COUNT(*) FROM pg_prepared_statements),
                           (SELECT COUNT(*) FROM pg_locks
                             WHERE locktype = 'advisory' AND pid = pg_backend_pid())
                    """
                )
                row = await cursor.fetchone()
                assert row is not None
                sessions[row[0]] = row[1:]
    return set(sessions.values())


NOTHING = {("0", "0", "on", "0", "off", "on", 0, 0)}


async def test_requests_leave_nothing_in_the_sessions_that_they_share(database, pooled_url):
    async def fail(tx: Transaction) -> None:
        await put(tx, "b")
        raise ValueError

    async def use(number: int) -> None:
        await database.write(lambda tx: put(tx, "a"), durable=number % 2 == 0)
        await asyncio.gather(database.write(fail), return_exceptions=True)
        await names(database)
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with database.read() as tx:
                await tx.fetch_one("SELECT 1 FROM no_such_table")

    for _ in range(10):  # more often than a statement has to run to be prepared
        await asyncio.gather(*(use(number) for number in range(8)))

    assert await settings_of_sessions(pooled_url) == NOTHING
    assert await names(database) == ["a"]


async def test_a_migration_leaves_nothing_in_the_sessions_that_it_shares(postgres_server, tmp_path):
    with (
        new_database(postgres_server) as url,
        running_pgbouncer(url, tmp_path, size=AT_SERVER) as pooled_url,
    ):
        await asyncio.gather(*(migrate(pooled_url) for _ in range(4)))

        assert await settings_of_sessions(pooled_url) == NOTHING


async def test_limits_and_levels_are_those_without_a_pooler(database):
    async def settings(tx: Transaction) -> object:
        return await tx.fetch_one(
            """
            SELECT current_setting('transaction_isolation'),
                   current_setting('transaction_read_only'), current_setting('synchronous_commit'),
                   current_setting('statement_timeout'), current_setting('lock_timeout'),
                   current_setting('idle_in_transaction_session_timeout'), current_setting('jit')
            """
        )

    limits = ("30s", "10s", "30s", "off")
    assert await database.write(settings) == ("read committed", "off", "on", *limits)
    assert await database.write(settings, durable=False) == (
        "read committed",
        "off",
        "off",
        *limits,
    )
    async with database.read() as tx:
        assert await settings(tx) == ("read committed", "on", "on", *limits)


async def test_connections_that_the_pooler_lost_are_replaced(database, postgres_url):
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as operator:
        attempts = []

        async def work(tx: Transaction) -> None:
            attempts.append(tx)
            await put(tx, f"{len(attempts)}")
            if len(attempts) < 3:
                await terminate_all(operator)
            await put(tx, "last")

        await database.write(work)
        await terminate_all(operator)

        assert await names(database) == ["3", "last"]


async def test_cancelled_callers_take_no_connection_with_them(database):
    async def change() -> None:
        async def work(tx: Transaction) -> None:
            await put(tx, "a")
            raise ValueError

        await database.write(work)

    for steps in range(200):
        tasks = [asyncio.create_task(change()), asyncio.create_task(names(database))]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert await names(database) == []
    await asyncio.gather(*(names(database) for _ in range(POOL_SIZE * 4)))


async def test_a_pooler_without_its_server_is_unavailable(postgres_server, tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_pool, "CONNECTION_WAIT_SECONDS", 0.5)
    with (
        new_database(postgres_server) as url,
        running_pgbouncer(url, tmp_path) as pooled_url,
    ):
        nowhere = f"{pooled_url.rpartition('/')[0]}/no_such_database"

        with pytest.raises(Unavailable):
            await PostgresDatabase(nowhere, pool_size=1).open()


async def test_a_read_sends_no_flush(pooled_url):
    """One that reaches the pooler after its transaction is given a session, and keeps it."""
    port = urlsplit(pooled_url).port
    assert port is not None
    with FaultProxy("127.0.0.1", port).running() as proxy:
        proxy.plan(Cut("up", at=b"H\x00\x00\x00\x04"), times=None)
        database = PostgresDatabase(pooled_url.replace(f":{port}", f":{proxy.port}"), pool_size=1)
        await database.open()

        for _ in range(10):
            await names(database)

        await database.close()
        assert [connection.ending for connection in proxy.connections] == [None]


async def test_every_connection_can_be_used_at_once_by_reads(database):
    """A read holds a session for its statement alone, so more may read than there are sessions."""
    await fill_the_pool(database)
