"""What an upstream is asked for a repository; its answers are verified, then kept.

Each question notes when it was asked: an answer that took long never replaces a newer one. Writes
are relaxed, for whatever a crash takes is asked for again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import structlog

from entrepot.blobs.store import BlobStore
from entrepot.db import accounts, collection, lookups, manifests, mirrored, repositories, tags
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Repository, is_match
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest, is_named
from entrepot.model.errors import NameUnknown, TagInvalid, UpstreamMissing, UpstreamSlow
from entrepot.model.ids import new_id
from entrepot.model.manifests import ManifestLimits
from entrepot.model.names import Reference, Tag
from entrepot.model.received import Received, pack_referrers, read_referrers, receive
from entrepot.model.upstreams import Source
from entrepot.services.addresses import NO_REPOSITORY
from entrepot.services.remotes import Remotes

_LARGE = 256 * 1024
_NAMES = 5_000  # tags that one write takes
_MOST_NAMES = 100_000
_LIST_SECONDS = 240.0  # for all pages of a list of tags, each of which has a deadline of its own
_REFERRERS_BYTES = 4 * 1024 * 1024

log = structlog.get_logger()

T = TypeVar("T")


class Checks:
    """Asks and keeps. `grace`: how long what nothing refers to yet stays, in µs."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        remotes: Remotes,
        clock: Clock,
        *,
        grace: int,
        manifest_bytes: int,
        limits: ManifestLimits,
    ) -> None:
        self._database = database
        self._store = store
        self._remotes = remotes
        self._clock = clock
        self._grace = grace
        self._manifest_bytes = manifest_bytes
        self._limits = limits

    async def tag(self, repository: Repository, tag: Tag, *, head_first: bool) -> None:
        """What a tag names now; `head_first` asks for no content unless that is news.

        Raises UpstreamError, NameUnknown.
        """
        asked_at = self._clock.now()
        source = source_of(repository)
        try:
            if head_first:
                async with self._remotes.calling(source.upstream_id) as remote:
                    head = await remote.head_manifest(source.path, tag.text)
                if head.digest is not None and await self._keep_known(
                    repository, tag, head.digest, asked_at
                ):
                    return
            received = await self.fetch(source, tag)
        except UpstreamMissing:
            await self._drop(repository, tag, asked_at)
            return

        async def work(tx: Transaction, current: Repository) -> None:
            await self._keep(tx, current, tag, received, asked_at)

        await self._write(repository, work)

    async def digest(self, repository: Repository, digest: Digest) -> None:
        """A manifest by its digest, if it is not here yet. Raises UpstreamError, NameUnknown."""
        asked_at = self._clock.now()
        async with self._database.read() as tx:
            found = await manifests.find(tx, repository.id, digest)
        is_here = found is not None and is_named(found.digest, found.body)
        received = None
        if not is_here:
            try:
                received = await self.fetch(source_of(repository), digest)
            except UpstreamMissing:
                await self._drop(repository, digest, asked_at)
                return

        async def work(tx: Transaction, current: Repository) -> None:
            if received is not None:
                await self._keep(tx, current, digest, received, asked_at)
            else:
                await lookups.forget(tx, current.id, str(digest))

        await self._write(repository, work)

    async def require_there(self, source: Source, reference: Reference | None) -> None:
        """That the upstream has such a manifest, or for None a list of tags. Raises UpstreamError.

        What answers HEAD without a digest may be anything, and has to show a manifest.
        """
        async with self._remotes.calling(source.upstream_id) as remote:
            if reference is None:
                async with aclosing(remote.tags(source.path)) as pages:
                    await anext(pages, None)
                return
            head = await remote.head_manifest(source.path, str(reference))
        if head.digest is None:
            await self.fetch(source, reference)

    async def fetch(self, source: Source, reference: Reference) -> Received:
        """A manifest that is what it says, not kept yet. Raises UpstreamError, StorageFull."""
        async with self._remotes.calling(source.upstream_id) as remote:
            sent = await remote.manifest(source.path, str(reference), limit=self._manifest_bytes)
            reading = (remote.name, sent, reference, self._limits)
            if len(sent.body) < _LARGE:
                received = receive(*reading)
            else:  # parsing 4 MiB holds up everybody else
                received = await asyncio.to_thread(receive, *reading)
        self._remotes.note_bytes(source.upstream_id, len(received.body))
        self._store.require_space()
        return received

    async def _keep(
        self,
        tx: Transaction,
        repository: Repository,
        reference: Reference,
        received: Received,
        asked_at: int,
    ) -> None:
        """Keep a manifest that the upstream gave for `reference`.

        What it refers to is not held: only what somebody pushed holds its parts.
        """
        digest = str(received.digest)
        now = self._clock.now()
        if isinstance(reference, Tag):
            if not await lookups.record(
                tx, repository.id, reference.text, digest=digest, asked_at=asked_at, now=now
            ):
                return
        else:
            await lookups.forget(tx, repository.id, digest)
        facts = received.facts
        _, is_new = await manifests.put(
            tx,
            repository.id,
            digest=digest,
            media_type=facts.media_type,
            artifact_type=facts.artifact_type,
            subject=str(facts.subject) if facts.subject else None,
            annotations=facts.annotations,
            depth=1 if facts.children else 0,
            body=received.body,
            now=now,
            protected_until=now + self._grace,
            is_pushed=False,
        )
        if is_new:
            await accounts.gained(
                tx,
                organisation_id=repository.organisation_id,
                repository_id=repository.id,
                digest=digest,
                bytes_count=len(received.body),
                now=now,
                ids=(new_id(), new_id()),
            )
        await mirrored.put_children(tx, repository.id, digest, facts.children | facts.either)
        if isinstance(reference, Tag):
            await self._move(tx, repository, reference, digest, now)
        else:
            due_at = now + self._grace
            await collection.review(tx, "manifest", repository.id, digest, due_at=due_at)

    async def tag_names(self, source: Source) -> list[str]:
        """Every tag of the upstream, up to a bound. Raises UpstreamError."""
        try:
            async with asyncio.timeout(_LIST_SECONDS):
                return await self._tag_names(source)
        except TimeoutError as error:
            message = "the upstream registry takes too long to list its tags"
            raise UpstreamSlow(message, path=source.path) from error

    async def _tag_names(self, source: Source) -> list[str]:
        names: list[str] = []
        async with self._remotes.calling(source.upstream_id) as remote:
            async for page in remote.tags(source.path):
                names.extend(filter(_is_tag, page))
                if len(names) >= _MOST_NAMES:
                    log.warning("tags.cut", upstream=remote.name, path=source.path)
                    break
        return sorted(set(names[:_MOST_NAMES]))

    async def tag_list(self, repository: Repository) -> None:
        """The upstream's list of tags; one that it does not know is empty.

        Raises UpstreamError, NameUnknown.
        """
        asked_at = self._clock.now()
        try:
            names = await self.tag_names(source_of(repository))
        except UpstreamMissing:
            names = []
        await self._keep_names(repository, names, asked_at)

    async def _keep_names(self, repository: Repository, names: list[str], asked_at: int) -> None:
        """Keep a list of tags, which counts once it is whole."""
        for start in range(0, len(names), _NAMES):
            batch = names[start : start + _NAMES]

            async def add(tx: Transaction, current: Repository, batch: list[str] = batch) -> None:
                await lookups.list_names(tx, current.id, batch, listed_at=asked_at)

            await self._write(repository, add)

        async def end(tx: Transaction, current: Repository) -> None:
            await lookups.end_list(tx, current.id, lookups.TAG_LIST, listed_at=asked_at)
            await lookups.unlist(tx, current.id, before=asked_at)

        await self._write(repository, end)

    async def referrers(self, repository: Repository, subject: Digest) -> None:
        """What refers to a digest, as the upstream says. Raises UpstreamError, NameUnknown."""
        asked_at = self._clock.now()
        source = source_of(repository)
        body: bytes | None = None
        try:
            async with self._remotes.calling(source.upstream_id) as remote:
                body = await remote.referrers(source.path, subject, limit=_REFERRERS_BYTES)
                found = read_referrers(remote.name, body) if body is not None else []
        except UpstreamMissing:
            found = []
        reference = lookups.referrers_of(str(subject))

        async def work(tx: Transaction, current: Repository) -> None:
            if found:
                await mirrored.put_referrers(tx, current.id, str(subject), pack_referrers(found))
            else:
                await mirrored.delete_referrers(tx, current.id, str(subject))
            if found or await manifests.find(tx, current.id, subject) is not None:
                await lookups.end_list(tx, current.id, reference, listed_at=asked_at)
            else:  # anybody can ask for any digest: such answers are forgotten soon
                now = self._clock.now()
                await lookups.record(
                    tx, current.id, reference, digest=None, asked_at=asked_at, now=now
                )

        await self._write(repository, work)

    async def _keep_known(
        self, repository: Repository, tag: Tag, named: str, asked_at: int
    ) -> bool:
        """Let the tag name a manifest that is here; whether it is."""

        async def work(tx: Transaction, current: Repository) -> bool:
            before = await tags.find(tx, current.id, tag.text)
            now = self._clock.now()
            is_news = before is None or before.digest != named
            until = now + self._grace if is_news else now  # either way it is locked
            if await manifests.protect(tx, current.id, named, protected_until=until) is None:
                return False
            if await lookups.record(
                tx, current.id, tag.text, digest=named, asked_at=asked_at, now=now
            ):
                await self._move(tx, current, tag, named, now)
            return True

        return await self._write(repository, work)

    async def _move(
        self, tx: Transaction, repository: Repository, tag: Tag, digest: str, now: int
    ) -> None:
        """Point the tag at a manifest, unless it is immutable and points at another."""
        if is_immutable(repository, tag) and await tags.find(tx, repository.id, tag.text):
            return
        moved = await tags.move(
            tx, repository.id, tag.text, digest, token_id=None, now=now, is_pushed=False
        )
        if moved.left is not None:
            due_at = now + self._grace
            await collection.review(tx, "manifest", repository.id, moved.left, due_at=due_at)

    async def _drop(self, repository: Repository, reference: Reference, asked_at: int) -> None:
        """Remember that the upstream has no such thing."""

        async def work(tx: Transaction, current: Repository) -> None:
            now = self._clock.now()
            text = str(reference)
            is_news = await lookups.record(
                tx, current.id, text, digest=None, asked_at=asked_at, now=now
            )
            if not is_news or isinstance(reference, Digest) or is_immutable(current, reference):
                return
            left = await tags.delete_mirrored(tx, current.id, text, now=now)
            if left is not None:
                due_at = now + self._grace
                await collection.review(tx, "manifest", current.id, left, due_at=due_at)

        await self._write(repository, work)

    async def _write(
        self,
        repository: Repository,
        work: Callable[[Transaction, Repository], Awaitable[T]],
    ) -> T:
        """Change a repository that still is what it was when the question was asked.

        Raises NameUnknown.
        """
        source = source_of(repository)

        async def judged(tx: Transaction) -> T:
            current = await repositories.find_by_id(tx, repository.id)
            if (
                current is None
                or current.source is None
                or (current.source.upstream_id, current.source.path)
                != (source.upstream_id, source.path)
            ):
                raise NameUnknown(NO_REPOSITORY, name=repository.path)
            return await work(tx, current)

        return await self._database.write(judged, durable=False)


def source_of(repository: Repository) -> Source:
    """Where a pull-through repository comes from."""
    if repository.source is None:
        message = "this repository has no upstream"
        raise AssertionError(message)
    return repository.source


def is_immutable(repository: Repository, tag: Tag) -> bool:
    """Whether a tag that is here stays as it is, whatever the upstream says."""
    return any(is_match(pattern, tag.text) for pattern in repository.immutable_tags)


def _is_tag(name: str) -> bool:
    try:
        Tag.parse(name)
    except TagInvalid:
        return False
    return True
