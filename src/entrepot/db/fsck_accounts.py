"""What a check asks of the counts that are kept: whether they are what is there.

As in `fsck`, a statement sees one moment. A correction counts the difference in, as whatever comes
and goes meanwhile is counted too.
"""

from dataclasses import dataclass

from entrepot.db.database import Row, Transaction


@dataclass(frozen=True, slots=True)
class Account:
    """A count that is not what is there; `digest` for holders, else the bytes of a repository.

    `repository_id` 0 is the organisation's own line.
    """

    organisation_id: int
    repository_id: int
    digest: str
    kept: int
    actual: int


async def find_wrong_holders(tx: Transaction, *, limit: int) -> list[Account]:
    """Digests that an organisation holds more or less often than is kept. Walks everything."""
    rows = await tx.fetch_all(
        """
        SELECT w.organisation_id, 0, w.digest, COALESCE(c.holders, 0), w.holders
          FROM (SELECT r.organisation_id, h.digest, COUNT(*) AS holders
                  FROM (SELECT repository_id, digest FROM blob_links
                         UNION ALL
                        SELECT repository_id, digest FROM manifests) AS h
                  JOIN repositories AS r ON r.id = h.repository_id
                 GROUP BY r.organisation_id, h.digest) AS w
          LEFT JOIN organisation_content AS c
            ON c.organisation_id = w.organisation_id AND c.digest = w.digest
         WHERE c.holders IS NULL OR c.holders <> w.holders
         UNION ALL
        SELECT c.organisation_id, 0, c.digest, c.holders, 0
          FROM organisation_content AS c
         WHERE NOT EXISTS (SELECT 1
                             FROM blob_links AS l
                             JOIN repositories AS r ON r.id = l.repository_id
                            WHERE l.digest = c.digest
                              AND r.organisation_id = c.organisation_id)
           AND NOT EXISTS (SELECT 1
                             FROM repositories AS r
                             JOIN manifests AS m ON m.repository_id = r.id
                            WHERE r.organisation_id = c.organisation_id
                              AND m.digest = c.digest)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_account(row) for row in rows]


async def find_wrong_bytes(tx: Transaction, *, limit: int) -> list[Account]:
    """Repositories and organisations whose bytes do not add up. Walks everything."""
    rows = await tx.fetch_all(
        """
        WITH held AS (
            SELECT r.organisation_id, h.repository_id, h.digest, h.size
              FROM (SELECT l.repository_id, l.digest, b.size
                      FROM blob_links AS l
                      JOIN blobs AS b ON b.digest = l.digest
                     UNION ALL
                    SELECT repository_id, digest, size FROM manifests) AS h
              JOIN repositories AS r ON r.id = h.repository_id
        )
        SELECT organisation_id, repository_id, '', CAST(SUM(kept) AS BIGINT),
               CAST(SUM(actual) AS BIGINT)
          FROM (SELECT organisation_id, repository_id, 0 AS kept, size AS actual
                  FROM held
                 UNION ALL
                SELECT once.organisation_id, 0, 0, once.size
                  FROM (SELECT organisation_id, digest, MIN(size) AS size
                          FROM held
                         GROUP BY organisation_id, digest) AS once
                 UNION ALL
                SELECT organisation_id, COALESCE(repository_id, 0), bytes, 0
                  FROM byte_deltas
                 UNION ALL
                SELECT p.organisation_id, p.repository_id, p.bytes, 0
                  FROM usage_points AS p
                 WHERE p.repository_id >= 0
                   AND p.at = (SELECT MAX(q.at)
                                 FROM usage_points AS q
                                WHERE q.organisation_id = p.organisation_id
                                  AND q.repository_id = p.repository_id)) AS line
         GROUP BY organisation_id, repository_id
        HAVING SUM(kept) <> SUM(actual)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_account(row) for row in rows]


async def find_wrong_tags(tx: Transaction, *, limit: int) -> list[Account]:
    """Organisations whose pushed tags do not add up. Walks all tags."""
    rows = await tx.fetch_all(
        """
        SELECT organisation_id, 0, '', CAST(SUM(kept) AS BIGINT), CAST(SUM(actual) AS BIGINT)
          FROM (SELECT r.organisation_id, 0 AS kept, 1 AS actual
                  FROM tags AS t
                  JOIN repositories AS r ON r.id = t.repository_id
                 WHERE t.is_pushed = 1
                 UNION ALL
                SELECT organisation_id, tags, 0
                  FROM byte_deltas
                 UNION ALL
                SELECT p.organisation_id, p.tags, 0
                  FROM usage_points AS p
                 WHERE p.repository_id = 0
                   AND p.at = (SELECT MAX(q.at)
                                 FROM usage_points AS q
                                WHERE q.organisation_id = p.organisation_id
                                  AND q.repository_id = 0)) AS line
         GROUP BY organisation_id
        HAVING SUM(kept) <> SUM(actual)
         LIMIT :limit
        """,
        limit=limit,
    )
    return [_account(row) for row in rows]


async def correct_holders(tx: Transaction, account: Account) -> bool:
    """Count the difference in; whether the count is now what it was to be.

    Once: after an unknown COMMIT the second attempt finds the first one's count. And not where
    something came or went since it was seen.
    """
    difference = account.actual - account.kept
    await tx.execute(
        """
        INSERT INTO organisation_content (organisation_id, digest, holders)
        VALUES (:organisation_id, :digest, :difference)
        ON CONFLICT (organisation_id, digest)
        DO UPDATE SET holders = organisation_content.holders + :difference
         WHERE organisation_content.holders = :kept
        """,
        organisation_id=account.organisation_id,
        digest=account.digest,
        difference=difference,
        kept=account.kept,
    )
    await tx.execute(
        """
        DELETE FROM organisation_content
         WHERE organisation_id = :organisation_id
           AND digest = :digest
           AND holders <= 0
        """,
        organisation_id=account.organisation_id,
        digest=account.digest,
    )
    row = await tx.fetch_one(
        """
        SELECT holders
          FROM organisation_content
         WHERE organisation_id = :organisation_id
           AND digest = :digest
        """,
        organisation_id=account.organisation_id,
        digest=account.digest,
    )
    return (row[0] if row else 0) == account.actual


async def correct_sum(
    tx: Transaction,
    account: Account,
    *,
    of_tags: bool,
    id: int,  # noqa: A002  # the column's name
    now: int,
) -> None:
    """Count the difference in bytes, or in tags, from now on: once for each `id`."""
    difference = account.actual - account.kept
    await tx.execute(
        """
        INSERT INTO byte_deltas (id, organisation_id, repository_id, at, bytes, tags)
        VALUES (:id, :organisation_id, :repository_id, :now, :bytes, :tags)
        ON CONFLICT (id) DO NOTHING
        """,
        id=id,
        organisation_id=account.organisation_id,
        repository_id=account.repository_id or None,
        now=now,
        bytes=0 if of_tags else difference,
        tags=difference if of_tags else 0,
    )


def _account(row: Row) -> Account:
    return Account(
        int(row[0] or 0), int(row[1] or 0), str(row[2]), int(row[3] or 0), int(row[4] or 0)
    )
