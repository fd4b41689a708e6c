"""Connections to PostgreSQL: bounded in number, replaced when lost, lost by no cancellation.

A pooler in front, such as PgBouncer, may give each transaction another server process. Behind one
nothing is left in a session: no setting, no prepared statement.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.bool import BoolBinaryLoader
from psycopg.types.numeric import NumericBinaryLoader
from psycopg_pool import AsyncConnectionPool

from entrepot.db.database import Row
from entrepot.db.postgres_errors import raise_ours
from entrepot.model.errors import SettingsInvalid

CONNECTION_WAIT_SECONDS = 10.0
# Attempts that have failed for so long end, and what waits begins another. A longer time would
# have the pool pause, twice as long after each failure, while the server is back.
_RECONNECT_SECONDS = 2.0
_ROLLBACK_SECONDS = 5.0
# Compiling what keeps a hundred manifests takes 160 ms, running it 20.
SETTINGS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
    "synchronous_commit": "on",
}
"""The limits that each statement runs under, of a session or, behind a pooler, a transaction."""
_SESSION = "; ".join(
    f"SET {name} = '{value}'"
    for name, value in {**SETTINGS, "default_transaction_read_only": "on"}.items()
)
_PARAMETERS: dict[str, str | int | None] = {
    "application_name": "entrepot",
    "client_encoding": "UTF8",
    # Of several hosts, the one that takes writes: a standby would answer what was true a while ago.
    "target_session_attrs": "primary",
    # A machine that is gone says nothing. The next host has to be tried while callers still wait.
    "connect_timeout": 4,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


def parameters_of(url: str) -> dict[str, str | int | None]:
    """How to connect: what the address says, and else what suits us. Raises SettingsInvalid."""
    try:
        return {**_PARAMETERS, **conninfo_to_dict(url)}
    except psycopg.ProgrammingError:
        # Without its cause, which repeats the address and the password in it.
        raise SettingsInvalid("the address of the database cannot be read") from None


class Connection(psycopg.AsyncConnection[Row]):
    """One connection of a pool."""

    is_pooled = False
    """Whether a pooler stands between us and the server."""
    generation = 0
    """How often all connections had been given up when this one was made."""


class Pool:
    """Connections that no cancellation can lose.

    What psycopg_pool does when a connection comes back waits for locks and for the server: a
    cancelled caller must not cut that short, so it happens in tasks of its own.
    """

    def __init__(self, url: str, size: int) -> None:
        self._connections: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            connection_class=Connection,
            min_size=min(2, size),
            max_size=size,
            open=False,
            reconnect_timeout=_RECONNECT_SECONDS,
            reconnect_failed=AsyncConnectionPool.check,  # for those who wait: it grows again
            configure=self._configure,
            kwargs={**parameters_of(url), "autocommit": True},
        )
        self._generation = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Raises Unavailable."""
        try:
            await self._connections.open(wait=True, timeout=CONNECTION_WAIT_SECONDS)
        except BaseException as error:
            await self._connections.close()
            if isinstance(error, psycopg.Error):
                raise_ours(error)
            raise

    async def close(self) -> None:
        """Let go of every connection."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connections.close()

    async def take(self) -> Connection:
        """A connection, to be given back. Raises PoolTimeout when none is free in time."""
        return await self._connections.getconn(CONNECTION_WAIT_SECONDS)

    def give_back(self, connection: Connection) -> asyncio.Task[None]:
        """Begin to; whatever transaction it is in is rolled back."""
        return self._in_background(self._give_back(connection))

    async def condemn(self, connection: Connection) -> None:
        """Give up all that were made when this one was: what ended it probably ended them too.

        They are not asked first: a server whose machine is gone never answers.
        """
        if connection.generation == self._generation:
            self._generation += 1
            await asyncio.shield(self._in_background(self._connections.drain()))

    async def _configure(self, connection: Connection) -> None:
        connection.generation = self._generation
        # As on SQLite: truth is 0 or 1, and the sum of integers is an integer.
        connection.adapters.register_loader("bool", _Truth)
        connection.adapters.register_loader("numeric", _Integer)
        connection.prepare_threshold = None
        async with asyncio.timeout(CONNECTION_WAIT_SECONDS):
            cursor = await connection.execute("SELECT pg_backend_pid()")
            # A pooler makes up the process that it names, because it has one only now and then.
            connection.is_pooled = await cursor.fetchone() != (connection.info.backend_pid,)
            if not connection.is_pooled:
                await connection.execute(_SESSION)
                connection.prepare_threshold, connection.prepared_max = 5, 500

    async def _give_back(self, connection: Connection) -> None:
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            # A connection that is broken, or will not answer, is closed then, and replaced.
            with suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(_ROLLBACK_SECONDS):
                    await connection.rollback()
        await self._connections.putconn(connection)

    def _in_background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Truth(BoolBinaryLoader):
    def load(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # see above
        return int(super().load(data))


class _Integer(NumericBinaryLoader):
    def load(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # see above
        return int(super().load(data))
