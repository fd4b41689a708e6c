"""Answers that are kept, sealed, so that a repeated creation gets the first one again."""

from dataclasses import dataclass

from entrepot.db.database import Transaction


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer under a key, behind the hash of its request, in `sealed`.

    The hash is sealed as well: a request may hold a password, and a plain hash of it could be
    guessed at. Status 0 while the first request is still at work.
    """

    status: int
    sealed: str
    created_at: int


async def find(tx: Transaction, token_id: int, key: str) -> KeptAnswer | None:
    """What is kept under a credential's key."""
    row = await tx.fetch_one(
        """
        SELECT status, sealed, created_at
          FROM idempotency_keys
         WHERE token_id = :token_id
           AND key = :key
        """,
        token_id=token_id,
        key=key,
    )
    return KeptAnswer(int(row[0] or 0), str(row[1]), int(row[2] or 0)) if row else None


async def reserve(
    tx: Transaction,
    token_id: int,
    key: str,
    *,
    sealed: str,
    now: int,
    stale: int,
) -> bool:
    """Take a key for a request; False where another has it, unless that began before `stale`.

    The same moment is the same request, whose COMMIT was not heard of.
    """
    rows = await tx.execute(
        """
        INSERT INTO idempotency_keys (token_id, key, status, sealed, created_at)
        VALUES (:token_id, :key, 0, :sealed, :now)
        ON CONFLICT (token_id, key) DO UPDATE
           SET sealed = excluded.sealed,
               created_at = excluded.created_at
         WHERE idempotency_keys.status = 0
           AND (idempotency_keys.created_at < :stale
                OR idempotency_keys.created_at = excluded.created_at)
        """,
        token_id=token_id,
        key=key,
        sealed=sealed,
        now=now,
        stale=stale,
    )
    return rows > 0


async def keep(tx: Transaction, token_id: int, key: str, *, status: int, sealed: str) -> None:
    """Keep the answer under a key that was reserved."""
    await tx.execute(
        """
        UPDATE idempotency_keys
           SET status = :status, sealed = :sealed
         WHERE token_id = :token_id
           AND key = :key
        """,
        token_id=token_id,
        key=key,
        status=status,
        sealed=sealed,
    )


async def release(tx: Transaction, token_id: int, key: str) -> None:
    """Give a reserved key back: the request was refused, and may be repeated."""
    await tx.execute(
        """
        DELETE FROM idempotency_keys
         WHERE token_id = :token_id
           AND key = :key
           AND status = 0
        """,
        token_id=token_id,
        key=key,
    )


async def forget_before(tx: Transaction, moment: int) -> int:
    """Remove what was kept before then; how many."""
    return await tx.execute(
        "DELETE FROM idempotency_keys WHERE created_at < :moment", moment=moment
    )
