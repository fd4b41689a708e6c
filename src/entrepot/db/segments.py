"""Segments: the objects that an upload to an object store consists of."""

from collections.abc import Sequence

from entrepot.db.database import Transaction
from entrepot.model.stored import Segment


async def add(tx: Transaction, upload_key: str, segments: Sequence[Segment]) -> None:
    """Record what an upload has received; again after an unknown COMMIT."""
    for segment in segments:
        await tx.execute(
            """
            INSERT INTO segments (upload_key, start, size, object_key)
            VALUES (:upload_key, :start, :size, :object_key)
            ON CONFLICT (upload_key, start) DO NOTHING
            """,
            upload_key=upload_key,
            start=segment.start,
            size=segment.size,
            object_key=segment.key,
        )


async def find(tx: Transaction, upload_key: str) -> tuple[Segment, ...]:
    """An upload's segments in their order."""
    rows = await tx.fetch_all(
        """
        SELECT start, size, object_key
          FROM segments
         WHERE upload_key = :upload_key
         ORDER BY start
        """,
        upload_key=upload_key,
    )
    return tuple(Segment(int(row[0] or 0), int(row[1] or 0), str(row[2])) for row in rows)


async def delete(tx: Transaction, upload_key: str) -> None:
    """Forget an upload's segments."""
    await tx.execute("DELETE FROM segments WHERE upload_key = :upload_key", upload_key=upload_key)
