"""What collection works from: the review queue, tombstones, and how many bytes came and went."""

from entrepot.db.database import Row, Transaction

# All that a repository holds and pays for, deleted restorably or not.
_HELD = """
        SELECT l.digest AS digest, b.size AS size
          FROM blob_links AS l
          JOIN blobs AS b ON b.digest = l.digest
         WHERE l.repository_id = :repository_id
         UNION ALL
        SELECT digest, size
          FROM manifests
         WHERE repository_id = :repository_id
"""


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


async def gained(
    tx: Transaction,
    *,
    organisation_id: int,
    repository_id: int,
    digest: str,
    bytes_count: int,
    now: int,
    ids: tuple[int, int],
) -> None:
    """Account for content that a repository did not have before.

    The organisation pays once for a digest: its first holder adds to the organisation's line, which
    has no repository.
    """
    await _delta(tx, ids[0], organisation_id, repository_id, bytes_count, now)
    row = await tx.fetch_one(
        """
        INSERT INTO organisation_content (organisation_id, digest, holders)
        VALUES (:organisation_id, :digest, 1)
        ON CONFLICT (organisation_id, digest)
        DO UPDATE SET holders = organisation_content.holders + 1
        RETURNING holders
        """,
        organisation_id=organisation_id,
        digest=digest,
    )
    if row is not None and row[0] == 1:
        await _delta(tx, ids[1], organisation_id, None, bytes_count, now)


async def gained_all(
    tx: Transaction, *, organisation_id: int, repository_id: int, now: int, ids: tuple[int, int]
) -> None:
    """Account for a repository that an organisation did not have before, with all it holds."""
    await tx.execute(
        f"""
        INSERT INTO organisation_content (organisation_id, digest, holders)
        SELECT CAST(:organisation_id AS BIGINT), held.digest, COUNT(*)
          FROM ({_HELD}) AS held
         WHERE true
         GROUP BY held.digest
         ORDER BY held.digest
        ON CONFLICT (organisation_id, digest)
        DO UPDATE SET holders = organisation_content.holders + excluded.holders
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
    )
    # What nobody else there holds; the upsert has locked these rows.
    row = await tx.fetch_one(
        f"""
        SELECT SUM(first.size)
          FROM (SELECT MIN(held.size) AS size
                  FROM ({_HELD}) AS held
                  JOIN organisation_content AS c
                    ON c.organisation_id = :organisation_id AND c.digest = held.digest
                 GROUP BY held.digest, c.holders
                HAVING COUNT(*) = c.holders) AS first
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
    )
    await _delta_all(tx, organisation_id, repository_id, row, 1, now, ids)


async def lost_all(
    tx: Transaction, *, organisation_id: int, repository_id: int, now: int, ids: tuple[int, int]
) -> None:
    """Account for a repository that an organisation has no more, with all it holds."""
    await tx.execute(
        f"""
        UPDATE organisation_content
           SET holders = holders
                 - (SELECT COUNT(*)
                      FROM blob_links
                     WHERE repository_id = :repository_id
                       AND digest = organisation_content.digest)
                 - (SELECT COUNT(*)
                      FROM manifests
                     WHERE repository_id = :repository_id
                       AND digest = organisation_content.digest)
         WHERE organisation_id = :organisation_id
           AND digest IN (SELECT held.digest FROM ({_HELD}) AS held)
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
    )
    row = await tx.fetch_one(
        f"""
        SELECT SUM(last.size)
          FROM (SELECT MIN(held.size) AS size
                  FROM ({_HELD}) AS held
                  JOIN organisation_content AS c
                    ON c.organisation_id = :organisation_id AND c.digest = held.digest
                 WHERE c.holders = 0
                 GROUP BY held.digest) AS last
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
    )
    await _delta_all(tx, organisation_id, repository_id, row, -1, now, ids)
    await tx.execute(
        f"""
        DELETE FROM organisation_content
         WHERE organisation_id = :organisation_id
           AND holders = 0
           AND digest IN (SELECT held.digest FROM ({_HELD}) AS held)
        """,
        organisation_id=organisation_id,
        repository_id=repository_id,
    )


async def _delta_all(
    tx: Transaction,
    organisation_id: int,
    repository_id: int,
    unshared: Row | None,
    sign: int,
    now: int,
    ids: tuple[int, int],
) -> None:
    """Lines for all that a repository holds, and for what it shares with no other there."""
    row = await tx.fetch_one(
        f"SELECT SUM(held.size) FROM ({_HELD}) AS held", repository_id=repository_id
    )
    for id_, owner, found in ((ids[0], repository_id, row), (ids[1], None, unshared)):
        if found is not None and found[0]:
            await _delta(tx, id_, organisation_id, owner, sign * int(found[0]), now)


async def _delta(
    tx: Transaction,
    id: int,  # noqa: A002  # the column's name
    organisation_id: int,
    repository_id: int | None,
    bytes_count: int,
    now: int,
) -> None:
    await tx.execute(
        """
        INSERT INTO byte_deltas (id, organisation_id, repository_id, at, bytes)
        VALUES (:id, :organisation_id, :repository_id, :now, :bytes_count)
        """,
        id=id,
        organisation_id=organisation_id,
        repository_id=repository_id,
        now=now,
        bytes_count=bytes_count,
    )
