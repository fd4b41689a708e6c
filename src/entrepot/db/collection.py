"""The review queue: what may have lost what kept it, and when collection looks."""

from entrepot.db.database import Transaction


async def review(
    tx: Transaction, kind: str, repository_id: int, digest: str, *, due_at: int
) -> None:
    """Ask for another look at a `link` or `manifest` that may have lost its last root.

    The version tells a worker that took the row earlier that it must not remove it.
    """
    await tx.execute(
        """
        INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
        VALUES (:kind, :repository_id, :digest, :due_at, 1)
        ON CONFLICT (kind, repository_id, digest)
        DO UPDATE SET due_at = excluded.due_at, version = review_queue.version + 1
        """,
        kind=kind,
        repository_id=repository_id,
        digest=digest,
        due_at=due_at,
    )
