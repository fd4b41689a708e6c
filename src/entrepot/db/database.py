"""What a database does for the registry: short reads, and writes that are functions."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

Value = int | float | str | bytes | None
Row = tuple[Value, ...]
T = TypeVar("T")


class Transaction(Protocol):
    """Statements in the common subset of SQLite and PostgreSQL, with `:name` values."""

    async def fetch_one(self, sql: str, **values: Value) -> Row | None:
        """The first row, or nothing."""

    async def fetch_all(self, sql: str, **values: Value) -> list[Row]:
        """All rows."""

    async def execute(self, sql: str, **values: Value) -> int:
        """Run a change; the number of rows it touched."""


Work = Callable[[Transaction], Awaitable[T]]


class Database(Protocol):
    """SQLite or PostgreSQL."""

    async def open(self) -> None:
        """Connect. Raises Unavailable."""

    async def close(self) -> None:
        """Let go of every connection."""

    async def maintain(self) -> None:
        """What the database needs now and then, such as a checkpoint. Raises Unavailable."""

    def read(self, *, scan: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Statements that change nothing; each sees what was committed when it began.

        There is no snapshot across statements: one question is one statement. `scan` says that a
        statement may walk many rows, so that it must not hold up the event loop.
        Raises Unavailable, StorageFailed.
        """

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in one transaction and commit it.

        When this returns the change survives `kill -9` and, with `durable`, power loss. `work` may
        run again (deadlock, lost connection, unknown COMMIT), so it is idempotent by natural key;
        it awaits nothing but its transaction. What it raises rolls its changes back.
        Raises Unavailable, StorageFull, StorageFailed.
        """
