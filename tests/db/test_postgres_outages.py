"""PostgreSQL goes away, comes back, and fails over; the pool is normal again afterwards (T31)."""

import asyncio
import time
from contextlib import ExitStack

import psycopg
import pytest

from entrepot.db import postgres, postgres_pool
from entrepot.db.database import Transaction
from entrepot.db.postgres import PostgresDatabase
from entrepot.model.errors import Unavailable
from tests.db.postgres_pool import POOL_SIZE, fill_the_pool, wait_until
from tests.db.settings import names, put
from tests.support.fault_proxy import Cut, FaultProxy, Line
from tests.support.postgres import new_cluster

pytestmark = pytest.mark.slow  # servers of their own

AGAIN_WITHIN = 20.0  # seconds, once the server is back


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def cluster(stack, stopped_postgres):
    """A server with the schema in its database."""
    cluster = stack.enter_context(new_cluster())
    cluster.copy(stopped_postgres)
    cluster.start()
    return cluster


@pytest.fixture
async def opened():
    """Opens databases, and closes them in the end."""
    databases = []

    async def make(url: str) -> PostgresDatabase:
        database = PostgresDatabase(url, pool_size=POOL_SIZE)
        await database.open()
        databases.append(database)
        return database

    yield make
    for database in databases:
        await database.close()


@pytest.fixture
def standby(stack, cluster):
    """Another server that follows it."""
    standby = stack.enter_context(new_cluster())
    standby.follow(cluster)
    standby.start()
    return standby


def both(first, second) -> str:
    return (
        f"postgresql://entrepot@127.0.0.1:{first.port},127.0.0.1:{second.port}/postgres"
        "?target_session_attrs=read-write"
    )


async def is_caught_up(cluster) -> None:
    async with await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as operator:
        sql = "SELECT pg_current_wal_lsn() <= replay_lsn FROM pg_stat_replication"
        async with asyncio.timeout(20):
            while await (await operator.execute(sql)).fetchone() != (True,):
                await operator.execute("SELECT pg_sleep(0.01)")


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_writes_and_reads_wait_while_the_server_starts_anew(cluster, opened, how):
    database = await opened(cluster.url)
    await fill_the_pool(database)

    await asyncio.to_thread(cluster.stop, how)
    writes = [
        asyncio.create_task(database.write(lambda tx, name=f"{number}": put(tx, name)))
        for number in range(9)
    ]
    reads = [asyncio.create_task(names(database)) for _ in range(9)]
    await asyncio.to_thread(cluster.start)
    await asyncio.gather(*writes, *reads)

    assert len(await names(database)) == 9
    await fill_the_pool(database)


async def test_a_server_that_is_away_is_unavailable_within_a_bound(cluster, opened, monkeypatch):
    database = await opened(cluster.url)
    cluster.stop("immediate")
    monkeypatch.setattr(postgres_pool, "CONNECTION_WAIT_SECONDS", 0.3)

    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await database.write(lambda tx: put(tx, "a"))
        with pytest.raises(Unavailable):
            await names(database)
        assert time.monotonic() - started < 10


async def test_the_pool_is_normal_soon_after_a_long_absence(cluster, opened, monkeypatch):
    database = await opened(cluster.url)
    await fill_the_pool(database)
    cluster.stop("immediate")
    monkeypatch.setattr(postgres_pool, "CONNECTION_WAIT_SECONDS", 0.3)
    until = time.monotonic() + 5  # the pool has given up twice by then
    while time.monotonic() < until:  # everybody asks all the time, as they do
        await asyncio.gather(*(names(database) for _ in range(9)), return_exceptions=True)

    monkeypatch.undo()
    await asyncio.to_thread(cluster.start)

    async with asyncio.timeout(AGAIN_WITHIN):
        while True:
            try:
                await database.write(lambda tx: put(tx, "a"))
                break
            except Unavailable:
                continue
    await fill_the_pool(database)


async def test_writes_go_on_at_the_standby_that_was_promoted(cluster, standby, opened):
    database = await opened(both(cluster, standby))
    await fill_the_pool(database)
    await database.write(lambda tx: put(tx, "before"))
    await is_caught_up(cluster)

    await asyncio.to_thread(cluster.stop, "immediate")
    writing = asyncio.create_task(database.write(lambda tx: put(tx, "after")))
    await asyncio.to_thread(standby.promote)
    await writing

    assert await names(database) == ["after", "before"]
    await fill_the_pool(database)


async def test_a_commit_that_the_standby_never_got_is_made_there(stopped_postgres, opened, stack):
    cluster, standby = stack.enter_context(new_cluster()), stack.enter_context(new_cluster())
    cluster.copy(stopped_postgres)
    # Before it starts: a running server takes it on some time after it was told.
    cluster.set("synchronous_standby_names", "*")
    cluster.start()
    standby.follow(cluster)
    standby.set("synchronous_standby_names", "")
    database = await opened(both(cluster, standby))
    async with await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as operator:
        writing = asyncio.create_task(database.write(lambda tx: put(tx, "a")))
        await wait_until(operator, "wait_event = 'SyncRep'")

    await asyncio.to_thread(cluster.stop, "immediate")
    await asyncio.to_thread(standby.start)
    await asyncio.to_thread(standby.promote)
    await writing

    assert await names(database) == ["a"]
    await fill_the_pool(database)


async def test_of_several_hosts_the_one_that_takes_writes_is_used(cluster, standby, opened):
    without = both(standby, cluster).partition("?")[0]
    for url in (both(standby, cluster), without):
        database = await opened(url)

        await database.write(lambda tx: put(tx, "a"))

        assert await names(database) == ["a"]


async def test_a_server_that_takes_no_more_writes_is_left(cluster, standby, opened):
    """An address that moves to another server while connections stay where they were."""
    async with FaultProxy("127.0.0.1", standby.port).serving() as proxy:
        address = f"postgresql://entrepot@{proxy.address}/postgres?target_session_attrs=any"
        database = await opened(address)
        await fill_the_pool(database)
        with pytest.raises(Unavailable):
            await database.write(lambda tx: put(tx, "a"))
        await fill_the_pool(database)

        proxy._target = ("127.0.0.1", cluster.port)
        await database.write(lambda tx: put(tx, "a"))

        assert await names(database) == ["a"]
        await fill_the_pool(database)


async def test_connections_that_nobody_answers_are_given_up_together(cluster, opened, monkeypatch):
    async with FaultProxy("127.0.0.1", cluster.port).serving() as proxy:
        database = await opened(f"postgresql://entrepot@{proxy.address}/postgres")
        await fill_the_pool(database)

        monkeypatch.setattr(postgres, "_READ_SECONDS", 0.5)
        proxy.cut("hang")
        with pytest.raises(Unavailable):
            await names(database)

        monkeypatch.undo()
        async with asyncio.timeout(AGAIN_WITHIN):
            await fill_the_pool(database)


async def test_a_slow_line_takes_time_and_nothing_else(cluster, opened):
    async with FaultProxy("127.0.0.1", cluster.port).serving() as proxy:
        proxy.line = Line(latency=0.02, jitter=0.02, rate=100_000)
        database = await opened(f"postgresql://entrepot@{proxy.address}/postgres")

        writes = [database.write(lambda tx, name=f"{n:02}": put(tx, name)) for n in range(12)]
        await asyncio.gather(*writes)

        assert len(await names(database)) == 12
        await fill_the_pool(database)


async def test_connections_that_end_one_after_the_other_are_all_replaced(cluster, opened):
    async with FaultProxy("127.0.0.1", cluster.port).serving() as proxy:
        for after in range(900, 2_100, 100):
            proxy.plan(Cut("up", after=after, ending="reset"))
        database = await opened(f"postgresql://entrepot@{proxy.address}/postgres")

        for number in range(60):
            await database.write(lambda tx, name=f"{number:02}": put(tx, name))

        assert len(await names(database)) == 60
        await fill_the_pool(database)


async def test_work_that_idles_for_too_long_runs_again(cluster, opened, monkeypatch):
    monkeypatch.setattr(postgres_pool, "_SESSION", "SET idle_in_transaction_session_timeout = '1s'")
    database = await opened(cluster.url)
    attempts = []

    async def work(tx: Transaction) -> None:
        attempts.append(tx)
        await put(tx, "a")
        if len(attempts) == 1:
            (pid,) = await tx.fetch_one("SELECT pg_backend_pid()") or (0,)
            alive = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid!r}"
            await wait_until(operator, f"NOT EXISTS ({alive})")
        await put(tx, "b")

    async with await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as operator:
        await database.write(work)

    assert len(attempts) == 2
    assert await names(database) == ["a", "b"]
    await fill_the_pool(database)


async def test_a_pool_that_is_all_in_use_is_waited_for_within_a_bound(cluster, opened, monkeypatch):
    database = await opened(cluster.url)
    is_taken, may_end = asyncio.Barrier(POOL_SIZE + 1), asyncio.Event()

    async def take() -> None:
        async with database.read() as tx:
            await tx.fetch_one("SELECT 1")
            await is_taken.wait()
            await may_end.wait()

    taking = [asyncio.create_task(take()) for _ in range(POOL_SIZE)]
    await is_taken.wait()
    monkeypatch.setattr(postgres_pool, "CONNECTION_WAIT_SECONDS", 0.3)
    for request in (database.write(lambda tx: put(tx, "a")), names(database)):
        with pytest.raises(Unavailable, match="in time"):
            await request
    monkeypatch.undo()
    may_end.set()
    await asyncio.gather(*taking)

    await database.write(lambda tx: put(tx, "a"))
    await fill_the_pool(database)
