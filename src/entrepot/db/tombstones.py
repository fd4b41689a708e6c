"""Objects that nothing points at any more, and when each is to be deleted."""

from entrepot.db.database import Transaction


async def bury(tx: Transaction, *, storage_key: str, digest: str, size: int, due_at: int) -> None:
    """Have an object deleted when it is due."""
    await tx.execute(
        """
        INSERT INTO tombstones (storage_key, digest, size, due_at)
        VALUES (:storage_key, :digest, :size, :due_at)
        ON CONFLICT (storage_key) DO UPDATE SET due_at = excluded.due_at
        """,
        storage_key=storage_key,
        digest=digest,
        size=size,
        due_at=due_at,
    )
