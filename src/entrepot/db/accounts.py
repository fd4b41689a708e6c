"""How many bytes came and went: an append-only line for each change, and who holds what."""

import json
from collections.abc import Mapping

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


async def gained(
    tx: Transaction,
    *,
    organisation_id: int,
    repository_id: int,
    digest: str,
    bytes_count: int,
    now: int,
    ids: tuple[int, int],
    tags: int = 0,
) -> bool:
    """Account for content that a repository did not have before; whether its organisation had not.

    The organisation pays once for a digest: its first holder adds to the organisation's line, which
    has no repository. `tags` that were pushed with it are counted there too.
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
    is_first = row is not None and row[0] == 1
    if is_first or tags:
        grown = bytes_count if is_first else 0
        await _delta(tx, ids[1], organisation_id, None, grown, now, tags=tags)
    return is_first


async def count_tags(
    tx: Transaction,
    organisation_id: int,
    tags: int,
    *,
    now: int,
    id: int,  # noqa: A002  # the column's name
) -> None:
    """Account for `tags` pushed tags more, or fewer, of an organisation: once a transaction.

    For changes that bring no content; what does says it to `gained`.
    """
    if tags:
        await _delta(tx, id, organisation_id, None, 0, now, tags=tags)


async def lost(
    tx: Transaction,
    *,
    organisation_id: int,
    repository_id: int,
    sizes: Mapping[str, int],
    now: int,
    ids: tuple[int, int],
    tags: int = 0,
) -> None:
    """Account for content that a repository has no more, the size of each digest.

    What it shared with another repository stays on the organisation's line. `tags` is how many
    pushed ones went with it.
    """
    await _delta(tx, ids[0], organisation_id, repository_id, -sum(sizes.values()), now)
    rows = await tx.fetch_all(
        """
        UPDATE organisation_content
           SET holders = holders - 1
         WHERE organisation_id = :organisation_id
           AND digest IN (SELECT value FROM json_each(:digests))
        RETURNING digest, holders
        """,
        organisation_id=organisation_id,
        digests=json.dumps(sorted(sizes)),
    )
    last = sorted(str(row[0]) for row in rows if row[1] == 0)
    if last or tags:
        size = -sum(sizes[digest] for digest in last)
        await _delta(tx, ids[1], organisation_id, None, size, now, tags=-tags)
    await tx.execute(
        """
        DELETE FROM organisation_content
         WHERE organisation_id = :organisation_id
           AND digest IN (SELECT value FROM json_each(:digests))
           AND holders = 0
        """,
        organisation_id=organisation_id,
        digests=json.dumps(last),
    )


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
    tags = await tx.fetch_one(
        "SELECT COUNT(*) FROM tags WHERE repository_id = :repository_id AND is_pushed = 1",
        repository_id=repository_id,
    )
    for id_, owner, found, counted in (
        (ids[0], repository_id, row, None),
        (ids[1], None, unshared, tags),
    ):
        grown = sign * int(found[0] or 0) if found else 0
        pushed = sign * int(counted[0] or 0) if counted else 0
        if grown or pushed:
            await _delta(tx, id_, organisation_id, owner, grown, now, tags=pushed)


async def _delta(
    tx: Transaction,
    id: int,  # noqa: A002  # the column's name
    organisation_id: int,
    repository_id: int | None,
    bytes_count: int,
    now: int,
    *,
    tags: int = 0,
) -> None:
    await tx.execute(
        """
        INSERT INTO byte_deltas (id, organisation_id, repository_id, at, bytes, tags)
        VALUES (:id, :organisation_id, :repository_id, :now, :bytes_count, :tags)
        """,
        id=id,
        organisation_id=organisation_id,
        repository_id=repository_id,
        now=now,
        bytes_count=bytes_count,
        tags=tags,
    )
