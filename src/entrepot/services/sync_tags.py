"""One sync: the tags and manifests of an upstream, and the blobs of those that are kept warm."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Protocol

from entrepot.blobs.answers import Arriving, File
from entrepot.blobs.stored import Stored
from entrepot.db import blobs, collection, manifests, tags
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Repository, is_match
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    BlobUnknown,
    DigestInvalid,
    EntrepotError,
    ManifestInvalid,
    ManifestUnknown,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnsafe,
)
from entrepot.model.images import read_parts
from entrepot.model.manifests import ManifestLimits, read_manifest
from entrepot.model.media_types import INDEXES, OCI_INDEX
from entrepot.model.names import Reference, Tag
from entrepot.model.stored import HeldTag, StoredManifest
from entrepot.model.sync_runs import KEPT_FAILURES, SyncCounts, SyncFailure
from entrepot.model.tag_filters import ALL, TagFilter
from entrepot.model.upstreams import PullThrough

_PAGE = 1_000
_PIECE = 1 << 20
_ATTEMPTS, _PATIENCE_SECONDS = 3, 60  # where an upstream has us wait

# Why a tag failed, as status lists have it. The first class that fits counts.
REASONS: dict[type[EntrepotError], str] = {
    ManifestUnknown: "404",
    BlobUnknown: "404",
    UpstreamMissing: "404",
    UpstreamForbidden: "403",
    UpstreamRefused: "401",
    UpstreamBusy: "429",
    UpstreamSlow: "timed out",
    UpstreamDown: "not reached",
    UpstreamUnsafe: "not allowed",
    UpstreamBroken: "broken",
    ManifestInvalid: "broken",
    DigestInvalid: "broken",
}
# What says something about a tag, and nothing about the next.
_OF_ONE_TAG = (UpstreamError, ManifestUnknown, BlobUnknown, ManifestInvalid, DigestInvalid)


class Reads(Protocol):
    """What a sync asks of the mirror."""

    async def upstream_tags(self, repository: Repository) -> list[str]:
        """Every tag that the upstream has. Raises UpstreamError, NameUnknown."""

    async def refresh(self, repository: Repository, reference: Reference) -> StoredManifest:
        """Ask the upstream now. Raises ManifestUnknown, UpstreamError, NameUnknown."""

    async def manifest(self, repository: Repository, reference: Reference) -> StoredManifest:
        """What is here, or the upstream has. Raises ManifestUnknown, UpstreamError."""


class Blobs(Protocol):
    """What a sync asks of the fetches."""

    async def join(self, repository: Repository, digest: Digest) -> File | Arriving:
        """A blob from the upstream. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class SyncParts:
    """What every sync works with. `slots` are of all syncs of a process together.

    `keep_warm` is for how long a sync protects the blobs of tags that are kept warm, in µs.
    """

    database: Database
    clock: Clock
    reads: Reads
    fetches: Blobs
    slots: asyncio.Semaphore
    limits: ManifestLimits
    index_depth: int
    keep_warm: int


@dataclass(slots=True)
class Progress:
    """How far a sync came; the numbers of `SyncCounts`, while they grow."""

    wanted: int = 0
    done: int = 0
    changed: int = 0
    removed: int = 0
    failed: int = 0
    fetched: int = 0
    failures: list[SyncFailure] = field(default_factory=list)

    @property
    def counts(self) -> SyncCounts:
        """The numbers as they are now."""
        return SyncCounts(*(value for name, value in asdict(self).items() if name != "failures"))

    def fail(self, tag: str, error: EntrepotError) -> None:
        """Note that a tag failed."""
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(SyncFailure(tag, reason_of(error), error.message))


class TagSync:
    """Brings a repository to what its upstream has now; a tag that fails stops no other."""

    def __init__(
        self, parts: SyncParts, repository: Repository, upstream: PullThrough, progress: Progress
    ) -> None:
        self._parts = parts
        self._repository = repository
        self._upstream = upstream
        self._progress = progress
        self._seen: set[str] = set()  # children that are here
        self._here: dict[str, HeldTag] = {}

    async def run(self, workers: int) -> None:
        """Sync all wanted tags, and remove those that are not wanted any more.

        Raises UpstreamError (of the list of tags), NameUnknown (the repository has gone),
        Unavailable.
        """
        upstream_has = await self._parts.reads.upstream_tags(self._repository)
        self._here = await self._tags_here()
        pushed = {name for name, tag in self._here.items() if tag.is_pushed}
        chosen = TagFilter.parse(self._upstream.sync or ALL).choose(upstream_has)
        wanted = [name for name in chosen if name not in pushed]
        # New ones first, the newest of them before others; then who has waited longest. So all
        # have their turn, even where the upstream never answers a whole run.
        wanted.sort(key=lambda name: self._here[name].checked_at if name in self._here else 0)
        self._progress.wanted = len(wanted)
        await self._sync_all(iter(wanted), min(workers, len(wanted)))
        if not self._upstream.keeps_deleted:
            gone = sorted(self._here.keys() - pushed - set(wanted))
            await self._remove([name for name in gone if self._may_go(name)], set(upstream_has))

    async def _tags_here(self) -> dict[str, HeldTag]:
        found: dict[str, HeldTag] = {}
        after = ""
        while True:
            async with self._parts.database.read(scan=True) as tx:
                page = await tags.page_of_digests(tx, self._repository.id, after=after, limit=_PAGE)
            found |= {tag.name: tag for tag in page}
            if len(page) < _PAGE:
                return found
            after = page[-1].name

    async def _sync_all(self, queue: Iterator[str], workers: int) -> None:
        """Sync tags, a few at once. Raises what ends the whole run."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(queue))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    async def _work(self, queue: Iterator[str]) -> None:
        for name in queue:
            error = await self._sync(name)
            if error is not None:
                self._progress.fail(name, error)
            self._progress.done += 1

    async def _sync(self, name: str) -> EntrepotError | None:
        """Sync one tag; what went wrong, if that says nothing about others.

        An upstream that has us wait for less than a minute is waited for. Raises NameUnknown,
        Unavailable.
        """
        for attempt in range(_ATTEMPTS):
            try:
                async with self._parts.slots:
                    await self._sync_once(name)
            except UpstreamBusy as error:
                wait = error.values.get("retry_after")
                is_last = attempt == _ATTEMPTS - 1
                if is_last or not isinstance(wait, int) or wait > _PATIENCE_SECONDS:
                    return error
                await asyncio.sleep(wait)
            except _OF_ONE_TAG as error:
                return error
            else:
                return None
        return None

    async def _sync_once(self, name: str) -> None:
        """Sync one tag, and its blobs if it is kept warm. Raises what goes wrong."""
        is_warm = any(is_match(pattern, name) for pattern in self._upstream.warm_tags)
        before = self._here.get(name)
        try:
            manifest = await self._parts.reads.refresh(self._repository, Tag.parse(name))
        except _OF_ONE_TAG:
            if is_warm and before is not None:
                await self._keep_warm(before)
            raise
        if before is None or before.digest != manifest.digest:
            self._progress.changed += 1
            self._here[name] = HeldTag(name, manifest.digest, is_pushed=False, checked_at=0)
        await self._bring_children(manifest, self._parts.index_depth)
        if is_warm:
            await self._warm(manifest, self._parts.index_depth)

    async def _bring_children(self, manifest: StoredManifest, depth: int) -> None:
        """Bring the manifests that an index lists.

        One that the upstream lacks is left out: some registries drop attestations and platforms of
        an index that is whole for everybody else.
        """
        children = [child for child in self._children(manifest) if child not in self._seen]
        if not children or not depth:
            return
        async with self._parts.database.read() as tx:
            types = await manifests.find_types(tx, self._repository.id, children)
        for child in children:
            if types.get(child, OCI_INDEX) in INDEXES:  # not here, or with children of its own
                try:
                    found = await self._parts.reads.manifest(self._repository, Digest.parse(child))
                except (ManifestUnknown, UpstreamMissing):
                    continue
                await self._bring_children(found, depth - 1)
            self._seen.add(child)

    def _children(self, manifest: StoredManifest) -> list[str]:
        if manifest.media_type not in INDEXES:
            return []
        facts = read_manifest(manifest.body, manifest.media_type, self._parts.limits)
        return sorted(facts.children)

    async def _warm(self, manifest: StoredManifest, depth: int) -> None:
        """Bring the blobs of an image, or of those images of an index that are wanted."""
        if manifest.media_type in INDEXES:
            for child in self._wanted_platforms(manifest) if depth else ():
                try:
                    found = await self._parts.reads.manifest(self._repository, Digest.parse(child))
                except (ManifestUnknown, UpstreamMissing):
                    continue
                await self._warm(found, depth - 1)
            return
        for digest in await self._protect(manifest):
            await self._fetch(Digest.parse(digest))

    def _wanted_platforms(self, manifest: StoredManifest) -> list[str]:
        wanted = self._upstream.warm_platforms
        if not wanted:
            return self._children(manifest)
        parts = read_parts(manifest.body, manifest.media_type)
        return [
            platform.digest
            for platform in parts.platforms
            if f"{platform.os}/{platform.architecture}" in wanted
            or f"{platform.os}/{platform.architecture}/{platform.variant}" in wanted
        ]

    async def _keep_warm(self, tag: HeldTag) -> None:
        """Keep the blobs of a tag that could not be refreshed: nobody knows for how long."""
        with suppress(*_OF_ONE_TAG):  # the tag has failed already, and says why
            digest = Digest.parse(tag.digest)
            manifest = await self._parts.reads.manifest(self._repository, digest)
            await self._warm(manifest, self._parts.index_depth)

    async def _protect(self, manifest: StoredManifest) -> list[str]:
        """Keep an image's blobs from eviction until later syncs do; those that are not here."""
        facts = read_manifest(manifest.body, manifest.media_type, self._parts.limits)
        until = self._parts.clock.now() + self._parts.keep_warm

        async def work(tx: Transaction) -> list[str]:
            return [
                digest
                for digest in sorted(facts.blobs)
                if not await blobs.protect(tx, self._repository.id, digest, protected_until=until)
            ]

        return await self._parts.database.write(work, durable=False)

    async def _fetch(self, digest: Digest) -> None:
        """Have a blob fetched, and wait until it is here."""
        arriving = await self._parts.fetches.join(self._repository, digest)
        self._progress.fetched += 1
        if isinstance(arriving, File):
            return
        if isinstance(arriving, Stored):
            arriving.close()
            return
        try:
            start = 0
            while piece := await arriving.piece(start, _PIECE):
                start += len(piece)
        finally:
            arriving.close()

    def _may_go(self, name: str) -> bool:
        kept = (*self._repository.immutable_tags, *self._repository.protected_tags)
        return not any(is_match(pattern, name) for pattern in kept)

    async def _remove(self, names: list[str], upstream_has: set[str]) -> None:
        """Remove tags: what the upstream has no more, and what is not wanted of it any more."""
        for name in names:
            if name in upstream_has:
                self._progress.removed += await self._drop(name)
                continue
            try:
                async with self._parts.slots:
                    await self._parts.reads.refresh(self._repository, Tag.parse(name))
            except ManifestUnknown:
                self._progress.removed += 1
            except UpstreamError as error:
                self._progress.fail(name, error)

    async def _drop(self, name: str) -> bool:
        async def work(tx: Transaction) -> bool:
            now = self._parts.clock.now()
            digest = await tags.delete_mirrored(tx, self._repository.id, name, now=now)
            if digest is not None:
                await collection.review(tx, "manifest", self._repository.id, digest, due_at=now)
            return digest is not None

        return await self._parts.database.write(work)


def reason_of(error: EntrepotError) -> str:
    """Why a tag failed, in a word or the status that the upstream gave."""
    for kind, reason in REASONS.items():
        if isinstance(error, kind):
            return reason
    return "failed"
