"""Attempts to log in with a password: those under way, and those of late that were wrong."""

import json
import zlib
from collections.abc import Iterable

from entrepot.db.database import Transaction

_SLOTS = 256
_AT_ONCE = 1_000


async def lock(tx: Transaction, address: str) -> None:
    """Let nobody else past this line for `address` until this transaction ends.

    The locks are 256 rows of this table with negative ids, of no account and of the year 1970;
    addresses share them.
    """
    await tx.execute(
        """
        INSERT INTO login_attempts (id, account, address, at)
        VALUES (:id, '', '', 0)
        ON CONFLICT (id) DO UPDATE SET at = 0
        """,
        id=-1 - zlib.crc32(address.encode()) % _SLOTS,
    )


async def add(
    tx: Transaction,
    *,
    id: int,  # noqa: A002  # the column's name
    account: str,
    address: str,
    now: int,
) -> None:
    """Count an attempt, before anybody knows how it ends. Raises Conflict."""
    await tx.execute(
        """
        INSERT INTO login_attempts (id, account, address, at)
        VALUES (:id, :account, :address, :now)
        """,
        id=id,
        account=account,
        address=address,
        now=now,
    )


async def of_address(
    tx: Transaction, address: str, *, since: int, limit: int
) -> list[tuple[str, int]]:
    """Account and µs of the last `limit` attempts from an address after `since`, newest first."""
    rows = await tx.fetch_all(
        """
        SELECT account, at
          FROM login_attempts
         WHERE address = :address
           AND at > :since
         ORDER BY at DESC
         LIMIT :limit
        """,
        address=address,
        since=since,
        limit=limit,
    )
    return [(str(account), int(at or 0)) for account, at in rows]


async def count_of_account(tx: Transaction, account: str, *, since: int, limit: int) -> int:
    """How many attempts there were on an account after `since`; at most `limit` are counted."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (
            SELECT id
              FROM login_attempts
             WHERE account = :account
               AND at > :since
             LIMIT :limit
          ) AS counted
        """,
        account=account,
        since=since,
        limit=limit,
    )
    return int(row[0] or 0) if row else 0


async def count(tx: Transaction, *, since: int, limit: int) -> int:
    """How many attempts there were at all after `since`; at most `limit` are counted."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM (
            SELECT id
              FROM login_attempts
             WHERE at > :since
             LIMIT :limit
          ) AS counted
        """,
        since=since,
        limit=limit,
    )
    return int(row[0] or 0) if row else 0


async def remove(tx: Transaction, ids: Iterable[int]) -> None:
    """Count these attempts no longer; those that are gone already stay so."""
    await tx.execute(
        """
        DELETE FROM login_attempts
         WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
        """,
        ids=json.dumps(list(ids)),
    )


async def remove_old(tx: Transaction, *, until: int) -> bool:
    """Forget up to 1,000 attempts that were no later than `until`; whether there may be more."""
    removed = await tx.execute(
        """
        DELETE FROM login_attempts
         WHERE id IN (
            SELECT id
              FROM login_attempts
             WHERE at > 0
               AND at <= :until
             ORDER BY at
             LIMIT :limit
         )
        """,
        until=until,
        limit=_AT_ONCE,
    )
    return removed == _AT_ONCE
