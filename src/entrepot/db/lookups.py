"""What upstreams said last, by repository and reference, and who is asking them just now.

A reference is a tag, a digest, or one of two lists: TAG_LIST, and `referrers_of` a digest.
`checked_at` is when the question was asked, so that an answer that took long never replaces a newer
one. `digest` is what the tag names; nothing where the upstream said that there is none.
`listed_at` is when a tag stood in the upstream's list, or when that list was whole.
"""

import json

from entrepot.db.database import Row, Transaction
from entrepot.model.upstreams import Lookup

# Before every letter that begins a tag: pages of tags begin behind them.
TAG_LIST = "*"
_FIRST_OF_TAGS = "0"


def referrers_of(subject: str) -> str:
    """The reference of the list of what refers to a digest."""
    return f"*{subject}"


async def find(tx: Transaction, repository_id: int, reference: str) -> Lookup | None:
    """What is known of a reference."""
    row = await tx.fetch_one(
        """
        SELECT digest, checked_at, listed_at, claimed_until
          FROM lookups
         WHERE repository_id = :repository_id
           AND reference = :reference
        """,
        repository_id=repository_id,
        reference=reference,
    )
    return _lookup(row) if row else None


async def claim(
    tx: Transaction, repository_id: int, reference: str, *, claim: int, over: int, until: int
) -> Lookup | None:
    """Be the one who asks, until then: what is known so far. Nothing while somebody else is.

    `claim` is a number of our own: the statement may run again. `over` is until when somebody else
    claimed it who gave no sign of life for long: clocks differ, so that number alone tells nothing.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO lookups (repository_id, reference, claim, claimed_until)
        VALUES (:repository_id, :reference, :claim, :until)
        ON CONFLICT (repository_id, reference) DO UPDATE
           SET claim = excluded.claim, claimed_until = excluded.claimed_until
         WHERE lookups.claimed_until IN (0, :over) OR lookups.claim = excluded.claim
        RETURNING digest, checked_at, listed_at, claimed_until
        """,
        repository_id=repository_id,
        reference=reference,
        claim=claim,
        over=over,
        until=until,
    )
    return _lookup(row) if row else None


async def extend(
    tx: Transaction, repository_id: int, reference: str, *, claim: int, until: int
) -> None:
    """Go on asking until then, or let go with 0. Not of somebody else's claim."""
    await tx.execute(
        """
        UPDATE lookups
           SET claimed_until = :until
         WHERE repository_id = :repository_id
           AND reference = :reference
           AND claim = :claim
        """,
        repository_id=repository_id,
        reference=reference,
        claim=claim,
        until=until,
    )


async def record(
    tx: Transaction,
    repository_id: int,
    reference: str,
    *,
    digest: str | None,
    asked_at: int,
    now: int,
) -> bool:
    """Keep what the upstream said; False where a newer answer is known.

    One of after `now` came by a clock that is ahead of ours: it must not keep later ones out.
    """
    row = await tx.fetch_one(
        """
        INSERT INTO lookups (repository_id, reference, digest, checked_at, claim, claimed_until)
        VALUES (:repository_id, :reference, :digest, :asked_at, 0, 0)
        ON CONFLICT (repository_id, reference) DO UPDATE
           SET digest = excluded.digest, checked_at = excluded.checked_at, claimed_until = 0
         WHERE lookups.checked_at IS NULL
            OR lookups.checked_at <= excluded.checked_at
            OR lookups.checked_at > :now
        RETURNING checked_at
        """,
        repository_id=repository_id,
        reference=reference,
        digest=digest,
        asked_at=asked_at,
        now=now,
    )
    return row is not None


async def forget(tx: Transaction, repository_id: int, reference: str) -> None:
    """A digest that was asked for is here now: nothing else needs to be known of it."""
    await tx.execute(
        """
        DELETE FROM lookups
         WHERE repository_id = :repository_id
           AND reference = :reference
        """,
        repository_id=repository_id,
        reference=reference,
    )


async def list_names(
    tx: Transaction, repository_id: int, names: list[str], *, listed_at: int
) -> None:
    """Note that these tags stood in the list that was begun then."""
    await tx.execute(
        """
        INSERT INTO lookups (repository_id, reference, listed_at, claim, claimed_until)
        SELECT CAST(:repository_id AS BIGINT), value, CAST(:listed_at AS BIGINT), 0, 0
          FROM json_each(:names)
         WHERE true
        ON CONFLICT (repository_id, reference) DO UPDATE SET listed_at = excluded.listed_at
        """,
        repository_id=repository_id,
        listed_at=listed_at,
        names=json.dumps(sorted(names)),
    )


async def end_list(tx: Transaction, repository_id: int, reference: str, *, listed_at: int) -> None:
    """From now on the list that was begun then counts, and was asked for then."""
    await tx.execute(
        """
        INSERT INTO lookups (repository_id, reference, checked_at, listed_at, claim, claimed_until)
        VALUES (:repository_id, :reference, :listed_at, :listed_at, 0, 0)
        ON CONFLICT (repository_id, reference) DO UPDATE
           SET checked_at = excluded.checked_at,
               listed_at = excluded.listed_at,
               claimed_until = 0
        """,
        repository_id=repository_id,
        reference=reference,
        listed_at=listed_at,
    )


async def unlist(tx: Transaction, repository_id: int, *, before: int) -> None:
    """Tags whose last list was begun earlier stand in none any more."""
    await tx.execute(
        """
        UPDATE lookups
           SET listed_at = NULL
         WHERE repository_id = :repository_id
           AND reference >= :first
           AND listed_at < :before
        """,
        repository_id=repository_id,
        first=_FIRST_OF_TAGS,
        before=before,
    )


async def page(tx: Transaction, repository_id: int, *, after: str, limit: int) -> list[str]:
    """Tags after `after` in byte order: pushed here, or the upstream's.

    The upstream's are those of the last whole list, and those that it gave since; not those that it
    denied since.
    """
    rows = await tx.fetch_all(
        """
          WITH whole AS (SELECT COALESCE(MAX(listed_at), 0) AS at
                           FROM lookups
                          WHERE repository_id = :repository_id
                            AND reference = :tag_list)
        SELECT name
          FROM (SELECT name
                  FROM tags
                 WHERE repository_id = :repository_id
                   AND name > :after
                   AND is_pushed = 1
                 ORDER BY name
                 LIMIT :limit) AS pushed
         UNION
        SELECT reference
          FROM (SELECT l.reference
                  FROM lookups AS l
                 CROSS JOIN whole AS w
                 WHERE l.repository_id = :repository_id
                   AND l.reference > :after
                   AND l.reference >= :first
                   AND ((l.digest IS NOT NULL AND l.checked_at >= w.at)
                     OR (l.listed_at >= w.at
                         AND (l.digest IS NOT NULL
                           OR l.checked_at IS NULL
                           OR l.checked_at < l.listed_at)))
                 ORDER BY l.reference
                 LIMIT :limit) AS mirrored
         ORDER BY 1
         LIMIT :limit
        """,
        repository_id=repository_id,
        after=after,
        first=_FIRST_OF_TAGS,
        tag_list=TAG_LIST,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


async def listed(tx: Transaction, repository_id: int, *, after: str, limit: int) -> list[str]:
    """Tags of the upstream's last whole list, in byte order, those after `after`."""
    rows = await tx.fetch_all(
        """
        SELECT l.reference
          FROM lookups AS l
          JOIN lookups AS w ON w.repository_id = l.repository_id AND w.reference = :tag_list
         WHERE l.repository_id = :repository_id
           AND l.reference > :after
           AND l.reference >= :first
           AND l.listed_at >= w.listed_at
         ORDER BY l.reference
         LIMIT :limit
        """,
        repository_id=repository_id,
        after=after,
        first=_FIRST_OF_TAGS,
        tag_list=TAG_LIST,
        limit=limit,
    )
    return [str(row[0]) for row in rows]


async def sweep(tx: Transaction, *, before: int) -> int:
    """Forget what upstreams denied before then, and what never got an answer; how many."""
    return await tx.execute(
        """
        DELETE FROM lookups
         WHERE digest IS NULL
           AND listed_at IS NULL
           AND (checked_at IS NULL OR checked_at < :before)
           AND claimed_until < :before
        """,
        before=before,
    )


async def forget_all(tx: Transaction, repository_id: int) -> None:
    """Forget everything of a repository that is gone."""
    await tx.execute(
        "DELETE FROM lookups WHERE repository_id = :repository_id", repository_id=repository_id
    )


def _lookup(row: Row) -> Lookup:
    digest, checked_at, listed_at, claimed_until = row
    return Lookup(
        digest=str(digest) if digest is not None else None,
        checked_at=int(checked_at) if checked_at is not None else None,
        listed_at=int(listed_at) if listed_at is not None else None,
        claimed_until=int(claimed_until or 0),
    )
