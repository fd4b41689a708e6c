"""Collection: what nothing relies on goes, while everybody works.

It is online and has two levels. Reviews come first: a manifest, a link or a blob that may have lost
its last root is looked at in one transaction, which deletes rows alone. Objects follow when their
tombstones are due. Each step can be repeated, and anything that goes wrong keeps what it was about.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from entrepot.db import collection
from entrepot.db.collection import Review
from entrepot.db.database import Database, Transaction
from entrepot.model.clock import HOUR, SECOND, Clock
from entrepot.model.errors import EntrepotError
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.orphans import (
    CollectionLimits,
    Look,
    look_at_blobs,
    look_at_links,
    look_at_manifests,
)
from entrepot.services.purge import look_at_organisation, look_at_repository
from entrepot.services.rests import Rests
from entrepot.services.tombstones import OBJECTS, Removed, Tombstones

log = structlog.get_logger()

_PAGE = 1_000  # reviews that one read finds
FAILED = "failed"

_Look = Callable[[Transaction, Sequence[Review], CollectionLimits, int], Awaitable[Look]]
# How to look at each kind, and at how many in one transaction.
_KINDS: dict[str, tuple[_Look, int]] = {
    "manifest": (look_at_manifests, 25),
    "link": (look_at_links, 100),
    "blob": (look_at_blobs, 100),
    "repository": (look_at_repository, 1),
    "organisation": (look_at_organisation, 1),
}


@dataclass(slots=True)
class Collected:
    """What a run did. `stopped` says why it did nothing."""

    reviews: int = 0
    manifests: int = 0
    links: int = 0
    blobs: int = 0
    objects: int = 0
    bytes_freed: int = 0
    refused: int = 0
    failed: int = 0
    stopped: str | None = None


class Counts(Protocol):
    """Whoever wants to know what goes."""

    def collected(self, kind: str, count: int) -> None:
        """So many manifests, links, blobs or objects went."""

    def freed(self, bytes_count: int) -> None:
        """So many bytes of the store are free."""

    def refused(self, count: int) -> None:
        """So many objects the store did not delete."""


class Collection:
    """Works off the review queue and the tombstones; with `rests`, in the background."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        limits: CollectionLimits,
        guard: CollectionGuard,
        objects: Tombstones,
        counts: Counts | None = None,
        rests: Rests | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits
        self._guard = guard
        self._objects = objects
        self._counts = counts
        self._rests = rests

    async def run(self, progress: Callable[[Collected], None] | None = None) -> Collected:
        """Collect until nothing is due; what went. `progress` hears of each batch.

        Raises Unavailable, StorageFailed, StorageFull.
        """
        done = Collected(stopped=await self._guard.why_stopped())
        if done.stopped is not None:
            log.error("collection.stopped", reason=done.stopped)
            return done
        while True:
            reviews = await self._look_at_due(done, progress)
            objects = await self._remove_due(done, progress)
            if not reviews and not objects:
                break
        if done.manifests or done.links or done.objects or done.failed:
            log.info(
                "collection.done",
                manifests=done.manifests,
                links=done.links,
                objects=done.objects,
                bytes=done.bytes_freed,
                failed=done.failed + done.refused,
            )
        return done

    async def _remove_due(
        self, done: Collected, progress: Callable[[Collected], None] | None
    ) -> int:
        """Delete all objects that are due; how many.

        One round of reviews may bury more than a batch: with one batch for each round, objects
        would wait for ever where people delete without end.
        """
        objects = 0
        while True:
            started = time.perf_counter()
            removed = await self._objects.remove_due(self._size(OBJECTS))
            self._note(done, removed)
            self._note_late(removed.due)
            await self._rest(started)
            if progress is not None:
                progress(done)
            if not removed.objects:
                return objects
            objects += removed.objects

    async def _look_at_due(
        self, done: Collected, progress: Callable[[Collected], None] | None
    ) -> int:
        """Look at what is due, a transaction for each repository and kind; how many were settled.

        Whoever collects at the same time waits for the rows, and then finds nothing left to do.
        """
        async with self._database.read(scan=True) as tx:
            found = await collection.find_due(tx, now=self._clock.now(), limit=_PAGE)
        self._note_late([review.due_at for review in found])
        batches: dict[tuple[str, int], list[Review]] = defaultdict(list)
        for review in found:
            if review.kind in _KINDS:
                batches[review.kind, review.repository_id].append(review)
        settled = 0
        for (kind, _), reviews in batches.items():
            most, left = _KINDS[kind][1], reviews
            while left:
                started, size = time.perf_counter(), self._size(most)
                settled += await self._settle(left[:size], done)
                left = left[size:]
                if progress is not None:
                    progress(done)
                await self._rest(started)
        return settled

    def _note_late(self, due: Sequence[int]) -> None:
        if self._rests is not None and due:
            self._rests.late((self._clock.now() - min(due)) / SECOND)

    def _size(self, most: int) -> int:
        return self._rests.size(most) if self._rests is not None else most

    async def _rest(self, started: float) -> None:
        if self._rests is not None:
            await self._rests.after(time.perf_counter() - started)

    async def _settle(self, reviews: Sequence[Review], done: Collected) -> int:
        """Look at a batch; one by one where that fails, so that one cannot hold up the others."""
        try:
            look = await self._look(reviews)
        except EntrepotError as error:
            if len(reviews) == 1:
                return await self._put_off(reviews[0], error, done)
            return sum([await self._settle([review], done) for review in reviews])
        done.reviews += look.settled
        done.manifests += look.manifests
        done.links += look.links
        done.blobs += look.blobs
        if self._counts is not None:
            for kind in ("manifests", "links", "blobs"):
                self._counts.collected(kind, getattr(look, kind))
        return look.settled

    async def _look(self, reviews: Sequence[Review]) -> Look:
        work, _ = _KINDS[reviews[0].kind]
        return await self._database.write(
            lambda tx: work(tx, reviews, self._limits, self._clock.now()), durable=False
        )

    async def _put_off(self, review: Review, error: EntrepotError, done: Collected) -> int:
        """Keep what could not be judged, and say so. Raises what the database does."""
        log.warning(
            "collection.failed",
            kind=review.kind,
            repository_id=review.repository_id,
            digest=review.digest,
            error=error.message,
        )
        done.failed += 1
        reason = f"{FAILED}: {error.message}"
        return await self._database.write(
            lambda tx: collection.postpone(
                tx, [review], due_at=self._clock.now() + HOUR, reason=reason
            ),
            durable=False,
        )

    def _note(self, done: Collected, removed: Removed) -> None:
        done.objects += removed.objects
        done.bytes_freed += removed.size
        done.refused += removed.refused
        if self._counts is not None:
            self._counts.collected("objects", removed.objects)
            self._counts.freed(removed.size)
            self._counts.refused(removed.refused)
