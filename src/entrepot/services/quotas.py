"""What an organisation may hold at most: refused before bytes are received, judged with the change.

A quota is of all that usage counts, what was pulled through included: one number is shown, paid and
judged. Only what somebody pushes or makes is refused, though. A pull never fails because of a
quota, and what it brings is kept; so a cache may fill the rest of a quota and go beyond it, and
gives room again when it is evicted.
"""

import json
from collections.abc import AsyncIterator

import structlog

from entrepot.db import installation, organisations, uploads, usage
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.errors import Denied
from entrepot.model.usage import Share, readable, shares, warnings

_WARNED = "quotas.warned"
_HOW = "delete what nobody needs, or ask an owner: entrepot org set --quota-{what}"

log = structlog.get_logger()


class Quotas:
    """What is asked of quotas outside of a change."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def let_in(
        self, where: Repository | Place, length: int | None, body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """A body of `length` bytes, None if nobody said, on its way into an upload.

        Raises Denied at once for one that does not fit beside what the organisation holds and what
        its open uploads do; one without a length breaks off where it does not fit any more.
        """
        if where.quota.bytes is None or length == 0:
            return body
        room, held = await self._room(where.organisation_id, where.quota.bytes)
        if length is not None and length > room:
            raise _no_room(where.quota.bytes, held, length)
        return _as_fits(body, room, where.quota.bytes, held)

    async def require_room(self, where: Repository | Place) -> None:
        """Raises Denied where an organisation is full, so that no upload need begin."""
        if where.quota.bytes is not None:
            room, held = await self._room(where.organisation_id, where.quota.bytes)
            if room <= 0:
                raise _no_room(where.quota.bytes, held, None)

    async def _room(self, organisation_id: int, quota: int) -> tuple[int, int]:
        """How many bytes more fit, and how many there are."""
        async with self._database.read() as tx:
            held = (await usage.current(tx, organisation_id)).bytes
            held += await uploads.sum_open(tx, organisation_id, now=self._clock.now())
        return quota - held, held

    async def count_near(self) -> dict[str, int]:
        """How many organisations are near each kind of limit, or at it, for the metric."""
        counts = {"bytes": 0, "repositories": 0, "tags": 0}
        async with self._database.read(scan=True) as tx:
            found = await usage.find_limited(tx)
        for _, _, quota, held in found:
            for share in shares(held, quota):
                counts[share.what] += share.is_near
        return counts

    async def watch(self) -> None:
        """Log who has come near a limit since the last look, of whichever worker: once each."""
        async with self._database.read(scan=True) as tx:
            near = await _near(tx)
            if sorted(near) == await _warned(tx):
                return

        async def work(tx: Transaction) -> dict[str, tuple[str, Share]]:
            await installation.keep(tx, _WARNED, "[]")  # locks its row
            near, before = await _near(tx), await _warned(tx)
            await installation.put(tx, _WARNED, json.dumps(sorted(near)))
            return {key: near[key] for key in near if key not in before}

        for slug, share in (await self._database.write(work, durable=False)).values():
            log.warning(
                "quota.near",
                organisation=slug,
                what=share.what,
                used=share.used,
                limit=share.limit,
                percent=share.percent,
            )


async def judge(
    tx: Transaction, where: Repository | Place, *, grew: bool, new_tags: int = 0
) -> list[str]:
    """Judge what a transaction has counted already, as its last step; what to warn of.

    `grew`: the organisation holds more bytes than before. Without a quota it costs nothing. The
    lock makes pushes of one organisation go one after the other from here to their COMMIT: each
    sees what those before it added. Last, because whoever waits here must hold nothing that the
    one before still needs. Raises Denied.
    """
    if not where.quota.is_set:
        return []
    quota = where.quota
    if grew or new_tags > 0:
        quota = await organisations.lock(tx, where.organisation_id)
    held = await usage.current(tx, where.organisation_id)
    if grew and quota.bytes is not None and held.bytes > quota.bytes:
        raise _no_room(quota.bytes, held.bytes, None)
    if new_tags > 0 and quota.tags is not None and held.tags > quota.tags:
        raise _too_many("tags", held.tags, quota.tags)
    return warnings(held, where.quota)


async def require_repository(tx: Transaction, where: Place) -> None:
    """Judge a repository that was just made, under the lock of new names. Raises Denied."""
    limit = where.quota.repositories
    if limit is not None:
        count = await usage.count_repositories(tx, where.organisation_id)
        if count > limit:
            raise _too_many("repositories", count, limit)


async def _as_fits(
    body: AsyncIterator[bytes], room: int, quota: int, held: int
) -> AsyncIterator[bytes]:
    came = 0
    async for piece in body:
        came += len(piece)
        if came > room:
            raise _no_room(quota, held, came)
        yield piece


async def _near(tx: Transaction) -> dict[str, tuple[str, Share]]:
    return {
        f"{organisation_id}:{share.what}": (slug, share)
        for organisation_id, slug, quota, held in await usage.find_limited(tx)
        for share in shares(held, quota)
        if share.is_near
    }


async def _warned(tx: Transaction) -> list[str]:
    found: list[str] = json.loads(await installation.find(tx, _WARNED) or "[]")
    return found


def _no_room(quota: int, held: int, needed: int | None) -> Denied:
    more = f"; {readable(needed)} more do not fit" if needed is not None else ""
    message = (
        f"the organisation's quota is {readable(quota)}, and it holds {readable(held)}, open "
        f"uploads included{more}; {_HOW.format(what='bytes')}"
    )
    return Denied(message, quota="bytes", limit=quota, used=held, needed=needed)


def _too_many(what: str, count: int, limit: int) -> Denied:
    message = (
        f"the organisation's quota is {limit:,} {what}, and this would be number {count:,}; "
        f"{_HOW.format(what=what)}"
    )
    return Denied(message, quota=what, limit=limit, used=count - 1, needed=1)
