"""What tests of PostgreSQL ask of a pool, and of the server behind it."""

import asyncio

import psycopg

from entrepot.db.postgres import PostgresDatabase

POOL_SIZE = 4


async def fill_the_pool(database: PostgresDatabase, size: int = POOL_SIZE) -> None:
    """One reader on each connection at the same time; fails when a connection was lost."""
    everyone = asyncio.Barrier(size)

    async def read() -> None:
        async with database.read() as tx:
            await tx.fetch_one("SELECT 1")
            await everyone.wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as readers:
        for _ in range(size):
            readers.create_task(read())


async def terminate_all(operator: psycopg.AsyncConnection) -> int:
    """End every connection of ours; how many."""
    cursor = await operator.execute(
        """
        SELECT COUNT(pg_terminate_backend(pid, 10000))
          FROM pg_stat_activity
         WHERE application_name = 'entrepot' AND datname = current_database()
        """
    )
    (count,) = await cursor.fetchone() or (0,)
    return int(count)


async def wait_until(operator: psycopg.AsyncConnection, condition: str) -> list[int]:
    """The server processes that meet a condition, once there is one."""
    sql = f"SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {condition}"
    async with asyncio.timeout(20):
        while not (rows := await (await operator.execute(sql)).fetchall()):
            await operator.execute("SELECT pg_sleep(0.01)")
    return [pid for (pid,) in rows]
