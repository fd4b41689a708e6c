"""How much was held for how long: points, made of the deltas that every change leaves behind.

A point is of one line and one UTC day. `at` is the midnight that ends the day; `bytes` and `tags`
are what there is then, and `byte_seconds` all until then, if nothing more happens. So a delta is
added to the point of its day and to those behind it, whenever it comes, and the byte-seconds
between two moments are a difference of two points. The sum of a line is its last point and the
deltas that are not folded yet; a statement sees them before a fold or after it, never between.
"""

import json
from collections.abc import Iterable

from entrepot.db.database import Row, Transaction
from entrepot.db.organisations import QUOTA, as_quota
from entrepot.model.usage import Held, Measured, Period, Quota, UsageLine, day_end

# In the place of a repository: its organisation, where a shared digest counts once; and all
# repositories that its organisation has or had, where it counts as often as it is held.
ORGANISATION = 0
REPOSITORIES = -1

# The deltas that are being folded, once for each line that they belong to.
_DELTAS = f"""
        SELECT organisation_id, COALESCE(repository_id, {ORGANISATION}) AS repository_id,
               at, bytes, tags
          FROM byte_deltas
         WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
         UNION ALL
        SELECT organisation_id, {REPOSITORIES} AS repository_id, at, bytes, 0 AS tags
          FROM byte_deltas
         WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))
           AND repository_id IS NOT NULL
"""


def _before(value: str) -> str:
    """The value in the point before :day of the line of d."""
    return f"""
               COALESCE((SELECT {value}
                           FROM usage_points
                          WHERE organisation_id = d.organisation_id
                            AND repository_id = d.repository_id
                            AND at < :day
                          ORDER BY at DESC
                          LIMIT 1), 0)"""


async def page_of_deltas(tx: Transaction, *, limit: int) -> list[tuple[int, int]]:
    """Deltas that are not folded yet, the oldest first: each id, and when it was."""
    rows = await tx.fetch_all(
        "SELECT id, at FROM byte_deltas ORDER BY at, id LIMIT :limit", limit=limit
    )
    return [(int(row[0] or 0), int(row[1] or 0)) for row in rows]


async def fold(tx: Transaction, ids: Iterable[int], *, day: int) -> None:
    """Add these deltas of one day to the points, and remove them. `day` is the day's end."""
    given = json.dumps([str(id) for id in ids])  # noqa: A001
    await tx.execute(
        f"""
        INSERT INTO usage_points (organisation_id, repository_id, at, bytes, tags, byte_seconds)
        SELECT d.organisation_id, d.repository_id, CAST(:day AS BIGINT),
               {_before("bytes")}, {_before("tags")},
               {_before("byte_seconds + CAST(bytes AS DOUBLE PRECISION) * ((:day - at) / 1000000)")}
          FROM (SELECT DISTINCT organisation_id, repository_id FROM ({_DELTAS}) AS each_delta) AS d
         WHERE true
        ON CONFLICT (organisation_id, repository_id, at) DO NOTHING
        """,
        ids=given,
        day=day,
    )
    await tx.execute(
        f"""
        UPDATE usage_points
           SET bytes = usage_points.bytes + d.bytes,
               tags = usage_points.tags + d.tags,
               byte_seconds = usage_points.byte_seconds + d.byte_seconds
                   + CAST(d.bytes AS DOUBLE PRECISION) * ((usage_points.at - :day) / 1000000)
          FROM (SELECT organisation_id, repository_id,
                       CAST(SUM(bytes) AS BIGINT) AS bytes, CAST(SUM(tags) AS BIGINT) AS tags,
                       SUM(CAST(bytes AS DOUBLE PRECISION) * (:day - at)) / 1000000 AS byte_seconds
                  FROM ({_DELTAS}) AS each_delta
                 GROUP BY organisation_id, repository_id) AS d
         WHERE usage_points.organisation_id = d.organisation_id
           AND usage_points.repository_id = d.repository_id
           AND usage_points.at >= :day
        """,
        ids=given,
        day=day,
    )
    await tx.execute(
        "DELETE FROM byte_deltas WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))",
        ids=given,
    )


def _held(value: str, organisation: str) -> str:
    """The sum of the line of an organisation now."""
    return f"""
               COALESCE((SELECT {value}
                           FROM usage_points
                          WHERE organisation_id = {organisation}
                            AND repository_id = {ORGANISATION}
                          ORDER BY at DESC
                          LIMIT 1), 0)
             + COALESCE((SELECT CAST(SUM({value}) AS BIGINT)
                           FROM byte_deltas
                          WHERE organisation_id = {organisation}
                            AND repository_id IS NULL), 0)"""


async def current(tx: Transaction, organisation_id: int) -> Held:
    """What an organisation holds now, this transaction's own changes included."""
    row = await tx.fetch_one(
        f"SELECT {_held('bytes', ':organisation_id')}, {_held('tags', ':organisation_id')}",
        organisation_id=organisation_id,
    )
    return Held(int(row[0] or 0), int(row[1] or 0)) if row else Held(0, 0)


async def count_repositories(tx: Transaction, organisation_id: int) -> int:
    """How many repositories an organisation has."""
    row = await tx.fetch_one(
        """
        SELECT COUNT(*)
          FROM repositories
         WHERE organisation_id = :organisation_id
           AND deleted_at IS NULL
        """,
        organisation_id=organisation_id,
    )
    return int(row[0] or 0) if row else 0


async def find_limited(tx: Transaction) -> list[tuple[int, str, Quota, Held]]:
    """Every organisation with a quota: its row, its slug, the quota, and what it holds now."""
    rows = await tx.fetch_all(
        f"""
        SELECT o.id, o.slug, {QUOTA},
               {_held("bytes", "o.id")}, {_held("tags", "o.id")},
               CASE WHEN o.quota_repositories IS NULL THEN 0
                    ELSE (SELECT COUNT(*)
                            FROM repositories
                           WHERE organisation_id = o.id
                             AND deleted_at IS NULL) END
          FROM organisations AS o
         WHERE o.deleted_at IS NULL
           AND (o.quota_bytes IS NOT NULL
             OR o.quota_repositories IS NOT NULL
             OR o.quota_tags IS NOT NULL)
         ORDER BY o.slug
        """
    )
    return [
        (
            int(row[0] or 0),
            str(row[1]),
            as_quota(row[2:5]),
            Held(int(row[5] or 0), int(row[6] or 0), int(row[7] or 0)),
        )
        for row in rows
    ]


def _point(value: str, moment: str) -> str:
    """The value in the last point until `moment` of the line of k.

    A subquery for each value, because it leaves PostgreSQL no choice: as joins it read all points
    of the organisation.
    """
    return f"""
               COALESCE((SELECT {value}
                           FROM usage_points
                          WHERE organisation_id = :organisation_id
                            AND repository_id = k.line
                            AND at <= {moment}
                          ORDER BY at DESC
                          LIMIT 1), 0)"""


def _total(moment: str) -> str:
    """Byte-seconds of a point until `moment`, which may be before the end of its day."""
    return f"byte_seconds + CAST(bytes AS DOUBLE PRECISION) * ({moment} - at) / 1000000"


# Of each line `k`, in the columns after those of its own: bytes at :until, byte-seconds in between.
_MEASURED = f"""
               {_point("bytes", ":last_day")} + COALESCE(d.bytes, 0),
               {_point(_total(":until"), ":last_day")} - {_point(_total(":since"), ":since")}
             + COALESCE(d.byte_seconds, 0)
"""
_UNFOLDED = f"""
          LEFT JOIN (SELECT line, CAST(SUM(bytes) AS BIGINT) AS bytes,
                            SUM(CAST(bytes AS DOUBLE PRECISION)
                                * (:until - CASE WHEN at > :since THEN at ELSE :since END))
                                / 1000000 AS byte_seconds
                       FROM (SELECT COALESCE(repository_id, {ORGANISATION}) AS line, bytes, at
                               FROM byte_deltas
                              WHERE organisation_id = :organisation_id
                                AND at < :until
                              UNION ALL
                             SELECT {REPOSITORIES} AS line, bytes, at
                               FROM byte_deltas
                              WHERE organisation_id = :organisation_id
                                AND at < :until
                                AND repository_id IS NOT NULL) AS each_delta
                      GROUP BY line) AS d
            ON d.line = k.line
"""


async def measure(
    tx: Transaction, organisation_id: int, period: Period
) -> tuple[Measured, Measured]:
    """An organisation, where a shared digest counts once; and the sum of its repositories."""
    rows = await tx.fetch_all(
        f"""
        SELECT k.line, {_MEASURED}
          FROM (SELECT {ORGANISATION} AS line UNION ALL SELECT {REPOSITORIES} AS line) AS k
        {_UNFOLDED}
        """,
        organisation_id=organisation_id,
        **_moments(period),
    )
    found = {row[0]: _measured(row[1:]) for row in rows}
    return found[ORGANISATION], found[REPOSITORIES]


async def page_of_repositories(
    tx: Transaction, organisation_id: int, period: Period, *, after: str, limit: int
) -> list[UsageLine]:
    """Repositories that an organisation has, by path, those after `after`."""
    rows = await tx.fetch_all(
        f"""
        SELECT k.line, k.path, k.project, {_MEASURED}
          FROM (SELECT r.id AS line, r.path AS path, p.public_id AS project
                  FROM repositories AS r
                  LEFT JOIN projects AS p ON p.id = r.project_id
                 WHERE r.organisation_id = :organisation_id
                   AND r.path > :after
                   AND r.deleted_at IS NULL
                 ORDER BY r.path
                 LIMIT :limit) AS k
        {_UNFOLDED}
         ORDER BY k.path
        """,
        organisation_id=organisation_id,
        after=after,
        limit=limit,
        **_moments(period),
    )
    return [
        UsageLine(
            int(row[0] or 0),
            str(row[1]),
            _measured(row[3:]),
            str(row[2]) if row[2] is not None else None,
        )
        for row in rows
    ]


async def page_of_projects(
    tx: Transaction,
    organisation_id: int,
    period: Period,
    *,
    only: str | None = None,
    after: str,
    limit: int,
) -> list[UsageLine]:
    """Projects of an organisation with what their builds held, by public id, those after `after`.

    A project's builds are the repository whose path is the project's id. `only`: this project.
    """
    rows = await tx.fetch_all(
        f"""
        SELECT k.id, k.name, k.public_id, {_MEASURED}
          FROM (SELECT p.id AS id, p.name AS name, p.public_id AS public_id, r.id AS line
                  FROM projects AS p
                  LEFT JOIN repositories AS r
                    ON r.organisation_id = p.organisation_id
                   AND r.path = p.public_id
                   AND r.project_id = p.id
                   AND r.deleted_at IS NULL
                 WHERE p.organisation_id = :organisation_id
                   AND p.public_id > :after
                   AND (CAST(:only AS TEXT) IS NULL OR p.public_id = :only)
                   AND p.deleted_at IS NULL
                 ORDER BY p.public_id
                 LIMIT :limit) AS k
        {_UNFOLDED}
         ORDER BY k.public_id
        """,
        organisation_id=organisation_id,
        only=only,
        after=after,
        limit=limit,
        **_moments(period),
    )
    return [
        UsageLine(int(row[0] or 0), str(row[1]), _measured(row[3:]), str(row[2])) for row in rows
    ]


def _moments(period: Period) -> dict[str, int]:
    """A period that has not ended is asked for until now: the point of today looks ahead."""
    return {
        "since": period.start,
        "until": period.end,
        "last_day": day_end(period.end - 1),
    }


def _measured(row: Row) -> Measured:
    bytes_count, byte_seconds = row
    return Measured(int(bytes_count or 0), float(byte_seconds or 0))
