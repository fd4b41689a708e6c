"""What the lifecycle has to do, written straight into the database: the same on both."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.scale import MIB
from entrepot.db.database import Database, Transaction

_BATCH = 1_000


async def find_repository(database: Database, path: str) -> int:
    """Return the key of a repository."""
    async with database.read() as tx:
        row = await tx.fetch_one("SELECT id FROM repositories WHERE path = :path", path=path)
    assert row is not None
    return int(row[0] or 0)


async def last_push(database: Database, repository_id: int) -> int:
    """Return when a repository was pushed to."""
    async with database.read() as tx:
        row = await tx.fetch_one(
            "SELECT MAX(pushed_at) FROM tags WHERE repository_id = :repository_id",
            repository_id=repository_id,
        )
    assert row is not None
    return int(row[0] or 0)


async def age_tags(
    database: Database, repository_id: int, *, first: str, end: str, by: int
) -> None:
    """Let tags have been pushed earlier, and every repository be due for retention."""

    async def work(tx: Transaction) -> None:
        await tx.execute(
            """
            UPDATE tags
               SET pushed_at = pushed_at - :by
             WHERE repository_id = :repository_id
               AND name >= :first
               AND name < :end
            """,
            repository_id=repository_id,
            first=first,
            end=end,
            by=by,
        )
        await tx.execute("UPDATE repositories SET retention_due_at = 0")

    await database.write(work)


async def make_due(database: Database, *, now: int) -> None:
    """Have everything that waits collected."""

    async def work(tx: Transaction) -> None:
        await tx.execute("UPDATE review_queue SET due_at = :now", now=now)
        await tx.execute("UPDATE tombstones SET due_at = :now", now=now)

    await database.write(work)


async def count_waiting(database: Database, *, now: int) -> int:
    """Return how many reviews and objects are due."""
    async with database.read(scan=True) as tx:
        row = await tx.fetch_one(
            """
            SELECT (SELECT COUNT(*) FROM review_queue WHERE due_at <= :now)
                 + (SELECT COUNT(*) FROM tombstones WHERE due_at <= :now)
            """,
            now=now,
        )
    assert row is not None
    return int(row[0] or 0)


async def seed_unused(
    database: Database,
    folder: Path,
    repository_id: int,
    *,
    stages: Sequence[str],
    count: int,
    size: int,
    now: int,
    wait: int,
) -> None:
    """Store blobs of random bytes that no manifest of the repository needs.

    Each batch is at the next one of the stages of collection: a `link`, a `blob` without one, or
    but an `object`. It goes on with them `wait` µs after `now`.
    """
    given = {"repository_id": repository_id, "size": size, "now": now, "due": now + wait}
    for batch, start in enumerate(range(0, count, _BATCH)):
        digests = [_store(folder, size) for _ in range(min(_BATCH, count - start))]
        statements = _STAGES[stages[batch % len(stages)]]

        async def work(
            tx: Transaction, digests: list[str] = digests, statements: Iterable[str] = statements
        ) -> None:
            for statement in statements:
                used = {name: value for name, value in given.items() if f":{name}" in statement}
                await tx.execute(statement, digests=json.dumps(sorted(digests)), **used)

        await database.write(work)
    os.sync()


def _store(folder: Path, size: int) -> str:
    """Write an object where the rows below say that it is; its digest."""
    head, rest = os.urandom(min(size, MIB)), size
    whole = hashlib.sha256()
    pieces = []
    while rest > 0:
        pieces.append(head[:rest])
        whole.update(pieces[-1])
        rest -= len(head)
    key = whole.hexdigest()[:32]
    with (folder / key[:2] / key).open("wb") as file:
        file.writelines(pieces)
    return f"sha256:{whole.hexdigest()}"


_BLOB = """
    INSERT INTO blobs (digest, size, storage_key, created_at)
    SELECT value, CAST(:size AS BIGINT), substr(value, 8, 32), CAST(:now AS BIGINT)
      FROM json_each(:digests)
"""
_LINK = """
    INSERT INTO blob_links (repository_id, digest, created_at, protected_until)
    SELECT CAST(:repository_id AS BIGINT), value, CAST(:now AS BIGINT), CAST(:now AS BIGINT)
      FROM json_each(:digests)
"""
_HELD = """
    INSERT INTO organisation_content (organisation_id, digest, holders)
    SELECT (SELECT organisation_id FROM repositories WHERE id = :repository_id), value, 1
      FROM json_each(:digests)
"""
_LINK_REVIEW = """
    INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
    SELECT 'link', CAST(:repository_id AS BIGINT), value, CAST(:due AS BIGINT), 1
      FROM json_each(:digests)
"""
_BLOB_REVIEW = """
    INSERT INTO review_queue (kind, repository_id, digest, due_at, version)
    SELECT 'blob', 0, value, CAST(:due AS BIGINT), 1
      FROM json_each(:digests)
"""
_TOMBSTONE = """
    INSERT INTO tombstones (storage_key, digest, size, due_at)
    SELECT substr(value, 8, 32), value, CAST(:size AS BIGINT), CAST(:due AS BIGINT)
      FROM json_each(:digests)
"""
_STAGES = {
    "link": (_BLOB, _LINK, _HELD, _LINK_REVIEW),
    "blob": (_BLOB, _BLOB_REVIEW),
    "object": (_TOMBSTONE,),
}
