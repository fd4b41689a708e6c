"""A COMMIT whose answer is lost: the caller hears what is true, or that nobody knows (T31)."""

import asyncio
import os
import signal
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
import pytest

from entrepot.db import postgres
from entrepot.db.database import Transaction
from entrepot.db.postgres import PostgresDatabase
from entrepot.model.errors import Conflict, NotFound, Unavailable
from entrepot.model.repeats import drawing
from entrepot.model.tenancy import Change
from entrepot.services.access import OPERATOR
from entrepot.services.audit import record
from tests.db.postgres_pool import POOL_SIZE, fill_the_pool, wait_until
from tests.db.settings import names, put
from tests.support.fault_proxy import Cut, FaultProxy
from tests.support.postgres import Cluster, new_cluster

COMMIT = b"COMMIT\0"  # the statement; BEGIN has the word too
UNHEARD = Cut("up", at=COMMIT)  # the server never gets it
UNANSWERED = Cut("up", at=COMMIT, answered=True)
AT_START = 2  # connections that a pool opens with


@pytest.fixture
async def proxy(postgres_url):
    parts = urlsplit(postgres_url)
    async with FaultProxy(parts.hostname, parts.port).serving() as proxy:
        yield proxy


@pytest.fixture
async def cut(proxy, postgres_url):
    """A database whose first connections end so."""
    opened = []

    async def cut(*cuts: Cut) -> PostgresDatabase:
        for planned in cuts:
            proxy.plan(planned)
        address = urlsplit(postgres_url)._replace(netloc=f"entrepot@{proxy.address}")
        database = PostgresDatabase(address.geturl(), pool_size=POOL_SIZE)
        await database.open()
        opened.append(database)
        return database

    yield cut
    for database in opened:
        await database.close()


async def count_up(tx: Transaction) -> object:
    """Work that would show if it were done twice."""
    return await tx.fetch_one(
        """
        INSERT INTO installation (name, value)
        VALUES ('count', '1')
        ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(installation.value AS BIGINT) + 1 AS TEXT)
        RETURNING value
        """
    )


async def value_of(database, name: str) -> object:
    async with database.read() as tx:
        return await tx.fetch_one("SELECT value FROM installation WHERE name = :name", name=name)


async def test_a_commit_that_never_arrived_is_made_once(cut):
    database = await cut(*[UNHEARD] * AT_START)

    assert await database.write(count_up) == ("1",)

    assert await value_of(database, "count") == ("1",)
    await fill_the_pool(database)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_commit_whose_answer_was_lost_tells_the_same_when_run_again(cut, ending):
    unanswered = Cut("up", at=COMMIT, answered=True, ending=ending)
    database = await cut(*[unanswered] * AT_START)
    attempts = []

    async def work(tx: Transaction) -> str:
        attempts.append(tx)
        await put(tx, "a")
        return "done"

    assert await database.write(work) == "done"

    assert len(attempts) == 2
    assert await names(database) == ["a"]
    await fill_the_pool(database)


async def test_work_that_says_something_else_after_a_lost_answer_is_not_believed(cut):
    database = await cut(*[UNANSWERED] * AT_START)

    with pytest.raises(Unavailable, match="not known"):
        await database.write(count_up)

    await fill_the_pool(database)


async def test_work_that_is_refused_by_what_it_did_itself_is_no_refusal(cut):
    database = await cut(*[UNANSWERED] * AT_START)
    await database.write(lambda tx: put(tx, "a"))  # uses one of the cuts up

    async def delete(tx: Transaction) -> None:
        if not await tx.execute("DELETE FROM installation WHERE name = 'a'"):
            raise NotFound("it is not there")

    database = await cut(*[UNANSWERED] * AT_START)
    with pytest.raises(Unavailable, match="not known"):
        await database.write(delete)

    assert await names(database) == []


async def test_a_row_that_is_in_its_own_way_is_no_conflict(cut):
    database = await cut(*[UNANSWERED] * AT_START)

    with pytest.raises(Unavailable, match="not known"):
        await database.write(
            lambda tx: tx.execute("INSERT INTO installation (name, value) VALUES ('a', '')")
        )

    assert await names(database) == ["a"]


async def test_a_refusal_after_a_commit_that_surely_failed_is_one(cut):
    database = await cut(*[Cut("up", at=b"INSERT")] * AT_START)
    attempts = []

    async def work(tx: Transaction) -> None:
        attempts.append(tx)
        if len(attempts) == 2:
            raise NotFound("it is not there")
        await put(tx, "a")

    with pytest.raises(NotFound):
        await database.write(work)


@pytest.mark.slow  # the driver has its own patience
async def test_a_commit_that_nobody_answers_ends_as_unavailable(cut, monkeypatch):
    monkeypatch.setattr(postgres, "_WRITE_SECONDS", 3.0)
    database = await cut(*[Cut("up", at=COMMIT, answered=True, ending="hang")] * AT_START)

    with pytest.raises(Unavailable):
        await database.write(lambda tx: put(tx, "a"))

    assert await names(database) == ["a"]
    await fill_the_pool(database)


@pytest.fixture
async def committing(stopped_postgres):
    """A server that may be crashed, while somebody counts up and is in the middle of COMMIT."""
    with new_cluster() as cluster:
        cluster.copy(stopped_postgres)
        # Before it starts: a running server takes it on some time after it was told.
        cluster.set("synchronous_standby_names", "nobody")
        cluster.start()
        database = PostgresDatabase(cluster.url, pool_size=POOL_SIZE)
        await database.open()
        async with await psycopg.AsyncConnection.connect(cluster.url, autocommit=True) as operator:
            writing = asyncio.create_task(database.write(count_up))
            (pid,) = await wait_until(operator, "wait_event = 'SyncRep'")
            await operator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            yield Committing(cluster, database, operator, writing, pid)
        await database.close()


@dataclass(frozen=True, slots=True)
class Committing:
    cluster: Cluster
    database: PostgresDatabase
    operator: psycopg.AsyncConnection
    writing: asyncio.Task[object]
    process: int

    def go_on(self) -> None:
        """COMMIT waits no longer for a standby."""
        os.kill(self.cluster.process, signal.SIGHUP)


@pytest.mark.slow  # a server of its own
async def test_what_a_killed_server_process_was_committing_is_not_known(committing):
    os.kill(committing.process, signal.SIGKILL)  # which ends every other one too
    committing.go_on()

    with pytest.raises(Unavailable, match="not known"):
        await committing.writing

    assert await value_of(committing.database, "count") == ("1",)
    await fill_the_pool(committing.database)


@pytest.mark.slow  # a server of its own
async def test_what_an_operator_ended_in_the_middle_of_a_commit_is_not_known(committing):
    process = committing.process
    await committing.operator.execute("SELECT pg_terminate_backend(%s, 10000)", (process,))
    committing.go_on()

    with pytest.raises(Unavailable, match="not known"):
        await committing.writing

    await fill_the_pool(committing.database)


async def test_an_event_is_recorded_once_however_often_its_work_runs(cut):
    database = await cut(*[UNANSWERED] * AT_START)
    change = Change("test.done", "test", "1", "one", organisation_id=None)

    await database.write(lambda tx: record(tx, OPERATOR, change, now=1))
    await database.write(lambda tx: record(tx, OPERATOR, change, now=2))

    async with database.read() as tx:
        assert await tx.fetch_all("SELECT at FROM audit_events ORDER BY at") == [(1,), (2,)]


async def test_an_event_never_takes_the_place_of_another(cut):
    database = await cut()
    change = Change("test.done", "test", "1", "one", organisation_id=None)
    other = Change("test.undone", "test", "1", "one", organisation_id=None)

    async def work(tx: Transaction) -> None:
        with drawing([7]):
            await record(tx, OPERATOR, change, now=1)
        with drawing([7]):
            await record(tx, OPERATOR, other, now=1)

    with pytest.raises(Conflict):
        await database.write(work)
