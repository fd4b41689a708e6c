"""Blobs that are being fetched: who leads each fetch, and how to reach its node.

`id` names one leader's attempt and is the key of the object that it will store; whoever takes over
begins another. `beat` grows while the leader lives.
"""

from dataclasses import dataclass

from entrepot.db.database import Row, Transaction

UNKNOWN_SIZE = -1

_COLUMNS = "upstream_id, digest, id, repository_id, leader, node, node_url, beat, size"


@dataclass(frozen=True, slots=True)
class FetchRow:
    """A fetch; `size` is None until the upstream has answered, UNKNOWN_SIZE if it did not say."""

    upstream_id: int
    digest: str
    id: str
    repository_id: int
    leader: str
    node: str
    node_url: str
    beat: int
    size: int | None


async def claim(
    tx: Transaction,
    *,
    upstream_id: int,
    digest: str,
    id: str,  # noqa: A002  # the column's name
    repository_id: int,
    leader: str,
    node: str,
    node_url: str,
    now: int,
) -> FetchRow:
    """Lead the fetch, unless somebody does; who does then."""
    row = await tx.fetch_one(
        f"""
        INSERT INTO fetches (upstream_id, digest, id, repository_id, leader, node, node_url, beat,
                             started_at)
        VALUES (:upstream_id, :digest, :id, :repository_id, :leader, :node, :node_url, 0, :now)
        ON CONFLICT (upstream_id, digest) DO UPDATE SET beat = fetches.beat
        RETURNING {_COLUMNS}
        """,
        upstream_id=upstream_id,
        digest=digest,
        id=id,
        repository_id=repository_id,
        leader=leader,
        node=node,
        node_url=node_url,
        now=now,
    )
    if row is None:
        message = "an upsert answered nothing"
        raise AssertionError(message)
    return _fetch(row)


async def find(tx: Transaction, upstream_id: int, digest: str) -> FetchRow | None:
    """The fetch of this blob from this upstream."""
    row = await tx.fetch_one(
        f"SELECT {_COLUMNS} FROM fetches WHERE upstream_id = :upstream_id AND digest = :digest",
        upstream_id=upstream_id,
        digest=digest,
    )
    return _fetch(row) if row else None


async def find_by_id(tx: Transaction, id: str) -> FetchRow | None:  # noqa: A002
    """The fetch that another node asks for."""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM fetches WHERE id = :id", id=id)
    return _fetch(row) if row else None


async def find_all(tx: Transaction, *, limit: int) -> list[FetchRow]:
    """Fetches, the oldest first."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM fetches ORDER BY started_at, id LIMIT :limit", limit=limit
    )
    return [_fetch(row) for row in rows]


async def announce(tx: Transaction, id: str, size: int | None) -> bool:  # noqa: A002
    """Let everybody know that the upstream has answered; False when another leads by now."""
    changed = await tx.execute(
        "UPDATE fetches SET size = :size, beat = beat + 1 WHERE id = :id",
        id=id,
        size=UNKNOWN_SIZE if size is None else size,
    )
    return changed > 0


async def beat(tx: Transaction, id: str) -> bool:  # noqa: A002
    """Show that the leader lives; False when another leads by now."""
    return await tx.execute("UPDATE fetches SET beat = beat + 1 WHERE id = :id", id=id) > 0


async def take_over(
    tx: Transaction,
    seen: FetchRow,
    *,
    id: str,  # noqa: A002
    repository_id: int,
    leader: str,
    node: str,
    node_url: str,
) -> bool:
    """Lead instead of a leader that does not move; False when it did, or another was first.

    The second attempt after an unknown COMMIT finds the first one's row.
    """
    changed = await tx.execute(
        """
        UPDATE fetches
           SET id = :id, repository_id = :repository_id, leader = :leader, node = :node,
               node_url = :node_url, beat = :seen_beat + 1
         WHERE upstream_id = :upstream_id
           AND digest = :digest
           AND (id = :seen_id AND beat = :seen_beat OR id = :id)
        """,
        upstream_id=seen.upstream_id,
        digest=seen.digest,
        seen_id=seen.id,
        seen_beat=seen.beat,
        id=id,
        repository_id=repository_id,
        leader=leader,
        node=node,
        node_url=node_url,
    )
    return changed > 0


async def delete(tx: Transaction, id: str) -> bool:  # noqa: A002
    """End a fetch; False when another leads by now."""
    return await tx.execute("DELETE FROM fetches WHERE id = :id", id=id) > 0


async def delete_dead(tx: Transaction, seen: FetchRow) -> bool:
    """End a fetch whose leader has not moved since it was seen; whether it was still there."""
    changed = await tx.execute(
        "DELETE FROM fetches WHERE id = :id AND beat = :beat", id=seen.id, beat=seen.beat
    )
    return changed > 0


def _fetch(row: Row) -> FetchRow:
    return FetchRow(
        int(row[0] or 0),
        str(row[1]),
        str(row[2]),
        int(row[3] or 0),
        str(row[4]),
        str(row[5]),
        str(row[6]),
        int(row[7] or 0),
        int(row[8]) if row[8] is not None else None,
    )
