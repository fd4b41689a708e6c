"""Watching the leader of a fetch from another process: its row, and whether it still moves."""

import asyncio
from dataclasses import dataclass

from entrepot.blobs.spool import Spool
from entrepot.db import fetches
from entrepot.db.fetches import UNKNOWN_SIZE, FetchRow
from entrepot.model.digests import Digest
from entrepot.model.errors import UpstreamDown
from entrepot.services.fetch_holders import Holders
from entrepot.services.fetch_lead import Means
from entrepot.services.fetch_progress import Progress


class GivenUp(UpstreamDown):
    """Whoever led the fetch has ended it, and the blob is not here."""


@dataclass(frozen=True, slots=True)
class Left:
    """A fetch whose leader is gone, as its row was last seen, and what this node has of it.

    Without a row it was ended: there is nobody to take it over from, and always a spool. With
    `is_out_of_reach` its leader lives, on a node that did not say how it can be reached, or beside
    us while the spool that we go on with is another.
    """

    row: FetchRow | None
    spool: Spool | None
    is_out_of_reach: bool = False


class Watch:
    """What a follower knows of the fetch's row."""

    def __init__(
        self,
        means: Means,
        upstream_id: int,
        digest: Digest,
        holders: Holders,
        progress: Progress,
    ) -> None:
        self._means = means
        self._upstream_id = upstream_id
        self._digest = digest
        self._holders = holders
        self._progress = progress
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    async def current(self) -> FetchRow | None:
        """The row as it is now; readers hear how long the blob will be, once that is known."""
        async with self._means.database.read() as tx:
            row = await fetches.find(tx, self._upstream_id, str(self._digest))
        if not self._progress.is_right:  # nothing comes any more: whose word it was is settled
            self._holders.hear(row)
        if row is not None and row.size is not None and not self._progress.is_announced:
            self._progress.announce(None if row.size == UNKNOWN_SIZE else row.size)
        return row

    def is_dead(self, row: FetchRow) -> bool:
        """Whether the row has not moved for long, by our own clock."""
        now, seen = asyncio.get_running_loop().time(), (row.id, row.beat)
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at >= self._means.limits.take_over_seconds


def given_up() -> GivenUp:
    """For readers, when nobody goes on."""
    return GivenUp("the fetch of this blob ended before it was whole; try again")
