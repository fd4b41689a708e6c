"""What PostgreSQL's errors mean: which of ours each is, and whether another try may cure it."""

from typing import NoReturn

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from entrepot.model.errors import (
    Conflict,
    EntrepotError,
    StorageFailed,
    StorageFull,
    Unavailable,
)

# By the first characters of the SQLSTATE, the longest match first.
_ERRORS: dict[str, tuple[type[EntrepotError], str]] = {
    "23503": (Conflict, "another change came first"),  # foreign key
    "23505": (Conflict, "another change came first"),  # unique
    "53100": (StorageFull, "the disk of the database is full"),
    "58030": (StorageFailed, "the disk of the database failed"),
    "XX001": (StorageFailed, "the database is damaged"),
    "XX002": (StorageFailed, "the database is damaged"),
    "25P03": (Unavailable, "the transaction idled for too long"),
    "40": (Unavailable, "other changes were in the way"),  # serialization, deadlock
    "08": (Unavailable, "the connection to the database was lost"),
    "53": (Unavailable, "the database is out of resources"),
    "55P03": (Unavailable, "a lock was not to be had in time"),
    "57": (Unavailable, "the database stopped the statement"),  # time-out, shutdown, failover
}
# What a second try may cure: a row that a foreign key needed went just now, and the second try sees
# that. A statement that ran out of time once would do so again.
_AGAIN = ("40", "08", "53300", "57P", "25P03", "23503")


def is_worth_another_try(error: psycopg.Error) -> bool:
    """Whether the same statements may succeed in a moment."""
    return is_lost(error) or (error.sqlstate or "").startswith(_AGAIN)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection went. Without a SQLSTATE nothing came from the server."""
    if isinstance(error, PoolTimeout | PoolClosed | TooManyRequests):
        return False  # there was none
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P"))


def raise_ours(error: psycopg.Error) -> NoReturn:
    """Raise the error of the model that says the same, or `error` itself: a mistake of ours."""
    state = error.sqlstate or ""
    found = _ERRORS.get(state) or _ERRORS.get(state[:2])
    if found is None and isinstance(error, PoolTimeout):
        found = Unavailable, "no connection to the database was to be had in time"
    if found is None and isinstance(error, psycopg.OperationalError) and not state:
        found = _ERRORS["08"]
    if found is None:
        raise error
    kind, message = found
    raise kind(message, reason=str(error)) from error
