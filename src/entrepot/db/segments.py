"""Segments: the objects that an upload to an object store consists of."""

import json
from collections.abc import Iterable, Sequence

from entrepot.db.database import Transaction
from entrepot.model.stored import IN_SEGMENTS, LinkedBlob, Segment


async def add(tx: Transaction, upload_key: str, segments: Sequence[Segment]) -> bool:
    """Record what an upload has received; whether it is these that are recorded there now."""
    for segment in segments:
        row = await tx.fetch_one(
            """
            INSERT INTO segments (upload_key, start, size, object_key)
            VALUES (:upload_key, :start, :size, :object_key)
            ON CONFLICT (upload_key, start) DO UPDATE SET size = segments.size
            RETURNING object_key
            """,
            upload_key=upload_key,
            start=segment.start,
            size=segment.size,
            object_key=segment.key,
        )
        if row is None or row[0] != segment.key:
            return False
    return True


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


async def find_last(tx: Transaction, upload_key: str, *, size: int) -> tuple[Segment, ...]:
    """The last of the segments that begin before so many bytes, if there is any."""
    row = await tx.fetch_one(
        """
        SELECT start, size, object_key
          FROM segments
         WHERE upload_key = :upload_key
           AND start < :size
         ORDER BY start DESC
         LIMIT 1
        """,
        upload_key=upload_key,
        size=size,
    )
    return (Segment(int(row[0] or 0), int(row[1] or 0), str(row[2])),) if row else ()


async def delete(tx: Transaction, upload_key: str) -> None:
    """Forget an upload's segments."""
    await tx.execute("DELETE FROM segments WHERE upload_key = :upload_key", upload_key=upload_key)


async def find_left(tx: Transaction, upload_key: str, object_keys: Iterable[str]) -> list[str]:
    """Those of an upload's objects that nothing needs: none while it has segments."""
    rows = await tx.fetch_all(
        """
        SELECT json_each.value
          FROM json_each(:object_keys)
         WHERE NOT EXISTS (SELECT 1 FROM segments AS s WHERE s.upload_key = :upload_key)
           AND NOT EXISTS (SELECT 1 FROM blobs AS b WHERE b.storage_key = json_each.value)
           AND NOT EXISTS (SELECT 1 FROM tombstones AS t WHERE t.storage_key = json_each.value)
        """,
        upload_key=upload_key,
        object_keys=json.dumps(sorted(set(object_keys))),
    )
    return [str(row[0]) for row in rows]


async def find_unjoined(tx: Transaction, *, after: str, most: int, limit: int) -> list[LinkedBlob]:
    """Undamaged blobs of at most so many bytes that are in segments, by digest.

    Walks the segments.
    """
    rows = await tx.fetch_all(
        """
        SELECT b.digest, b.size, b.storage_key, b.stamp
          FROM segments AS s
          JOIN blobs AS b ON b.storage_key = s.upload_key || :in_segments
         WHERE s.start = 0
           AND b.damaged_at IS NULL
           AND b.size <= :most
           AND b.digest > :after
         ORDER BY b.digest
         LIMIT :limit
        """,
        after=after,
        most=most,
        in_segments=IN_SEGMENTS,
        limit=limit,
    )
    return [
        LinkedBlob(
            str(row[0]),
            int(row[1] or 0),
            str(row[2]),
            stamp=int(row[3]) if row[3] is not None else None,
        )
        for row in rows
    ]


async def count_unjoined(tx: Transaction, *, most: int) -> int:
    """How many blobs `find_unjoined` would find in all, for the metric. Walks the segments."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM segments AS s
          JOIN blobs AS b ON b.storage_key = s.upload_key || :in_segments
         WHERE s.start = 0
           AND b.damaged_at IS NULL
           AND b.size <= :most
        """,
        most=most,
        in_segments=IN_SEGMENTS,
    )
    return int(row[0] or 0) if row else 0
