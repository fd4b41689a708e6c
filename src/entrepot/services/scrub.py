"""Scrub: reading everything that is stored again, to find damage before somebody pulls it.

Who reads what is settled by `scrubbed_at` alone: the blob that was read longest ago is next, and
whoever takes it makes it look read for as long as reading it may take. So a scrub that was killed
is gone on with, by whichever process comes next.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from entrepot.db import installation, scrub
from entrepot.db.database import Database, Transaction
from entrepot.db.scrub import Affected, Damaged
from entrepot.model.clock import DAY, HOUR, Clock
from entrepot.model.digests import is_named
from entrepot.model.errors import ObjectMissing, StorageFailed, Unavailable
from entrepot.model.stored import LinkedBlob
from entrepot.services.objects import Objects
from entrepot.telemetry.observe import Observe, ignore

_MANIFESTS = "scrub.manifests"  # when somebody last began to read all of them
_LEASE = 12 * HOUR  # for one object; at 10 MiB/s that is 450 GB
_AGAIN = DAY  # damaged objects are looked at more often: somebody may have put them right
_LEAST_BYTES = 256 * 1024  # that any object counts for: looking for it takes its time too
_BODIES = 16
_FAILURES = 10  # of the store, that end a round
_PAGE = 100
_TAGS = 1_000  # that a report names of one blob

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ScrubLimits:
    """Bytes per second of this process, 0 for none, and µs from one reading to the next."""

    bytes_per_second: int
    every: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """One thing that was read: `ok`, `damaged`, or `unreadable` when the store failed."""

    kind: str
    digest: str
    size: int
    outcome: str
    repository_id: int = 0  # of a manifest
    error: str = ""


@dataclass(frozen=True, slots=True)
class DamageReport:
    """A damaged blob and who suffers from it."""

    damaged: Damaged
    affected: list[Affected]


class Pace:
    """Waits, so that no more than a number of bytes per second is read."""

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    async def pause(self, count: int) -> None:
        """Wait until `count` bytes may have been read."""
        await asyncio.sleep(self.delay(count, time.monotonic()))

    def delay(self, count: int, now: float) -> float:
        """How long to wait, in seconds."""
        self._free_at = max(self._free_at, now) + count / self._bytes_per_second
        return self._free_at - now


class Scrub:
    """Reads objects and manifests again."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        clock: Clock,
        limits: ScrubLimits,
        observe: Observe = ignore,
    ) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock
        self._every = limits.every
        self._is_off = limits.bytes_per_second == 0
        self._pace = Pace(limits.bytes_per_second or 1)
        self._observe = observe

    async def sweep(self) -> int:
        """Read the objects that are due; how many. Raises Unavailable, StorageFull."""
        if self._is_off:
            return 0
        count = failures = 0
        async with aclosing(self.due()) as due:
            async for scrubbed in due:
                count += 1
                failures += scrubbed.outcome == "unreadable"
                if failures == _FAILURES:
                    break  # the store is away: nobody is helped by a line for each object
        return count

    async def sweep_manifests(self) -> int:
        """Read all manifests, if that is due and nobody does; how many. Raises Unavailable."""
        if self._is_off or not await self._database.write(self._claim_manifests, durable=False):
            return 0
        count = 0
        async for scrubbed in self.manifests():
            count += 1
            if scrubbed.outcome != "ok":
                log.error(
                    "manifest.damaged",
                    repository_id=scrubbed.repository_id,
                    digest=scrubbed.digest,
                )
        now = str(self._clock.now())
        await self._database.write(lambda tx: installation.put(tx, _MANIFESTS, now), durable=False)
        return count

    async def due(self, *, damaged_since: int = _AGAIN) -> AsyncGenerator[Scrubbed, None]:
        """Read damaged objects that were not read for so long, and all others that are due."""
        now = self._clock.now()
        while blob := await self._database.write(
            lambda tx: scrub.claim_damaged(tx, before=now - damaged_since, until=now),
            durable=False,
        ):
            yield await self._examine(blob)
        while True:
            blob = await self._database.write(self._claim, durable=False)
            if blob is not None:
                yield await self._examine(blob)
            elif not (await self.count_due())[0]:  # another process was faster, or nothing is due
                return

    async def all(self) -> AsyncIterator[Scrubbed]:
        """Read every object, whenever it was read last."""
        after = ""
        while True:
            async with self._database.read(scan=True) as tx:
                found = await scrub.page(tx, after=after, limit=_PAGE)
            for blob in found:
                yield await self._examine(blob)
            if len(found) < _PAGE:
                return
            after = found[-1].digest

    async def manifests(self) -> AsyncIterator[Scrubbed]:
        """Hash every manifest's bytes."""
        after = (0, "")
        while True:
            async with self._database.read(scan=True) as tx:
                found = await scrub.page_of_manifests(tx, after=after, limit=_BODIES)
            outcomes = await asyncio.to_thread(_are_right, found)
            for (repository_id, digest, body), is_ok in zip(found, outcomes, strict=True):
                outcome = "ok" if is_ok else "damaged"
                self._observe("manifests", 1)
                self._observe("damaged", int(not is_ok))
                yield Scrubbed("manifest", digest, len(body), outcome, repository_id)
            if len(found) < _BODIES:
                return
            await self._pace.pause(sum(len(body) for _, _, body in found))
            after = found[-1][:2]

    async def count_due(self, *, everything: bool = False) -> tuple[int, int]:
        """How many objects there are to read, and their bytes."""
        now = self._clock.now()
        async with self._database.read(scan=True) as tx:
            before = 2**62 if everything else now - self._every
            return await scrub.count_due(tx, before=before)

    async def count_damaged(self) -> int:
        """How many blobs are damaged now."""
        async with self._database.read(scan=True) as tx:
            return await scrub.count_damaged(tx)

    async def report(self) -> AsyncIterator[DamageReport]:
        """Every blob that is known to be damaged."""
        after = ""
        while True:
            async with self._database.read(scan=True) as tx:
                found = await scrub.find_damaged(tx, after=after, limit=_PAGE)
            for damaged in found:
                async with self._database.read(scan=True) as tx:
                    affected = await scrub.find_affected(tx, damaged.digest, limit=_TAGS)
                yield DamageReport(damaged, affected)
            if len(found) < _PAGE:
                return
            after = found[-1].digest

    async def find_affected_by(self, manifest: Scrubbed) -> list[Affected]:
        """The repository of a damaged manifest, with the tags that lead to it."""
        async with self._database.read(scan=True) as tx:
            return await scrub.find_affected_by_manifest(
                tx, manifest.repository_id, manifest.digest, limit=_TAGS
            )

    async def _examine(self, blob: LinkedBlob) -> Scrubbed:
        outcome, why = "ok", ""
        try:
            await self._objects.examine(blob, self._pace.pause)
        except ObjectMissing as error:
            outcome, why = "damaged", error.message
        except (StorageFailed, Unavailable) as error:
            # A store that fails proves nothing: look again later.
            said = error.values.get("store") or error.__cause__  # of an object store its own words
            outcome, why = "unreadable", f"{error.message} ({said})"
            self._observe("failures", 1)
            log.warning("object.unreadable", digest=blob.digest, key=blob.storage_key, error=why)
        if blob.size < _LEAST_BYTES:
            await self._pace.pause(_LEAST_BYTES - blob.size)
        return Scrubbed("blob", blob.digest, blob.size, outcome, error=why)

    async def _claim(self, tx: Transaction) -> LinkedBlob | None:
        before = self._clock.now() - self._every
        return await scrub.claim(tx, before=before, until=before + _LEASE)

    async def _claim_manifests(self, tx: Transaction) -> bool:
        """Whether reading all manifests is due, and ours to do."""
        now = self._clock.now()
        seen = await installation.keep(tx, _MANIFESTS, "0")
        if int(seen) > now - self._every:
            return False
        until = str(now - self._every + _LEASE)
        return await installation.replace(tx, _MANIFESTS, seen, until)


def _are_right(found: list[tuple[int, str, bytes]]) -> list[bool]:
    return [is_named(digest, body) for _, digest, body in found]
