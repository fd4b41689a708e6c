"""Tags by a pattern."""

from entrepot.db.database import Transaction
from entrepot.model.access import is_match

_CANDIDATES = 1_000


async def find_match(tx: Transaction, repository_id: int, pattern: str) -> str | None:
    """A tag that fits `pattern`. Walks the tags that begin as the pattern does.

    LIKE narrows them down; it ignores case on SQLite, so what it finds is matched once more.
    """
    prefix = pattern.partition("*")[0]
    like = pattern
    for letter in "!%_":
        like = like.replace(letter, f"!{letter}")
    after = ""
    while True:
        rows = await tx.fetch_all(
            """
            SELECT name
              FROM tags
             WHERE repository_id = :repository_id
               AND name > :after
               AND name >= :prefix
               AND name < :end
               AND name LIKE :pattern ESCAPE '!'
             ORDER BY name
             LIMIT :limit
            """,
            repository_id=repository_id,
            after=after,
            prefix=prefix,
            end=f"{prefix}~",
            pattern=like.replace("*", "%"),
            limit=_CANDIDATES,
        )
        names = [str(row[0]) for row in rows]
        found = next((name for name in names if is_match(pattern, name)), None)
        if found is not None or len(names) < _CANDIDATES:
            return found
        after = names[-1]
