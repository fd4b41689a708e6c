"""Why a digest is still there: every repository that has it, and the way to what keeps it."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from entrepot.db import collection, keepers, tombstones
from entrepot.db.database import Database, Transaction
from entrepot.db.keepers import Holder
from entrepot.db.tombstones import Tombstone
from entrepot.model.clock import Clock

_PAGE = 100
_BUDGET = 2_000  # manifests that one answer looks at
_WIDTH = 100  # steps from each of them
_TOMBSTONES = 100


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a repository has a digest.

    `way` leads from what keeps it down to the digest: a tag or nothing, then manifests, each as
    (what it is, its name). `waiting` says what holds it where no tag does, `next_at` when somebody
    looks again, in µs.
    """

    holder: Holder
    way: tuple[tuple[str, str], ...]
    waiting: str | None
    next_at: int | None


class Keepers:
    """Answers for the whole installation; for its operator."""

    def __init__(self, database: Database, clock: Clock, *, restore: int) -> None:
        self._database = database
        self._clock = clock
        self._restore = restore

    async def of(self, digest: str) -> AsyncIterator[Reason]:
        """Why each repository has it."""
        after = 0
        while True:
            async with self._database.read(scan=True) as tx:
                found = await keepers.find_holders(tx, digest, after=after, limit=_PAGE)
                reasons = [await self._reason(tx, holder, digest) for holder in found]
            for reason in reasons:
                yield reason
            if len(found) < _PAGE:
                return
            after = found[-1].repository_id

    async def objects(self, digest: str) -> list[Tombstone]:
        """Objects that held it, that nothing points at any more, and that are not deleted yet."""
        async with self._database.read(scan=True) as tx:
            return await tombstones.find_all_of(tx, digest, limit=_TOMBSTONES)

    async def _reason(self, tx: Transaction, holder: Holder, digest: str) -> Reason:
        way = await _way(tx, holder, digest)
        kind = "link" if holder.kind == "blob" else "manifest"
        review = await collection.find_review(tx, kind, holder.repository_id, digest)
        waiting = None if way and way[0][0] == "tag" else self._waiting(holder, review, way)
        return Reason(holder, way, waiting, review[0] if review else None)

    def _waiting(
        self,
        holder: Holder,
        review: tuple[int, str] | None,
        way: tuple[tuple[str, str], ...],
    ) -> str:
        now = self._clock.now()
        since = holder.deleted_at if holder.deleted_at is not None else holder.orphaned_at
        if holder.repository_deleted_at is not None:
            return "its repository is deleted, and goes as a whole"
        if holder.kind == "manifest" and since is not None and since + self._restore > now:
            return "restorable"
        if holder.protected_until > now:
            return "protected"
        if way:
            return "needed by a manifest without a tag"
        if holder.is_mirror and holder.kind == "blob" and holder.deleted_at is None:
            return "cached from the upstream until nobody reads the repository"
        if review is not None and review[1]:
            return review[1]
        if review is not None:
            return "collection looks at it"
        return "retention looks at manifests without a tag"


async def _way(tx: Transaction, holder: Holder, digest: str) -> tuple[tuple[str, str], ...]:
    """The shortest way from a tag to the digest; else from whatever needs it, if anything does."""
    first = [digest]
    came_from: dict[str, tuple[str, str] | None] = {digest: None}
    if holder.kind == "blob":
        first = await keepers.find_users(tx, holder.repository_id, digest, limit=_WIDTH)
        came_from |= dict.fromkeys(first, ("manifest", digest))
    left = deque(first)
    while left and len(came_from) < _BUDGET:
        current = left.popleft()
        for step in await keepers.find_steps(tx, holder.repository_id, current, limit=_WIDTH):
            if step.kind == "tag":
                return (("tag", step.name), *_down(came_from, current))
            if step.name not in came_from:
                came_from[step.name] = (step.kind, current)
                left.append(step.name)
    return _down(came_from, first[0]) if first and first[0] != digest else ()


def _down(came_from: dict[str, tuple[str, str] | None], start: str) -> tuple[tuple[str, str], ...]:
    """From a manifest back down to the digest that was asked for."""
    way: list[tuple[str, str]] = []
    current = start
    while (step := came_from[current]) is not None:
        way.append((step[0], current))
        current = step[1]
    return tuple(way)
