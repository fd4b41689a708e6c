"""Reading what a pull-through repository holds, and asking its upstream for the rest."""

from collections.abc import Iterable
from dataclasses import replace

from entrepot.blobs.answers import Announced, Arriving, File
from entrepot.db import lookups, manifests, mirrored
from entrepot.db.database import Database
from entrepot.model.access import Repository
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, ManifestUnknown, ObjectMissing, UpstreamMissing
from entrepot.model.names import Reference, Tag
from entrepot.model.received import unpack_referrers
from entrepot.model.stored import Referrer, ReferrerPage, StoredManifest, TagPage
from entrepot.model.upstreams import SYNCED, Lookup, MirroredTag
from entrepot.services.checks import Checks, is_immutable, source_of
from entrepot.services.fetches import Fetches
from entrepot.services.lookups import Work
from entrepot.services.objects import require_whole
from entrepot.services.patience import Patience
from entrepot.services.pull import Pull
from entrepot.services.remotes import Remotes

_PAGE = 5_000


class Mirror:
    """The reads of a pull-through repository: the same as `Pull` has, which it wraps.

    What is older than the repository's freshness goes out with a `warning` when the upstream does
    not answer; what was never here raises what the upstream did (`UpstreamError`). `denied` is how
    long it counts that the upstream has no such name, in µs.
    """

    def __init__(
        self,
        database: Database,
        pull: Pull,
        checks: Checks,
        patience: Patience,
        fetches: Fetches,
        remotes: Remotes,
        *,
        denied: int,
    ) -> None:
        self._database = database
        self._pull = pull
        self._checks = checks
        self._patience = patience
        self._fetches = fetches
        self._remotes = remotes
        self._denied = denied

    async def manifest(
        self, repository: Repository, reference: Reference, *, renew: bool = False
    ) -> StoredManifest:
        """What `reference` names now. Raises ManifestUnknown, UpstreamError."""
        if isinstance(reference, Tag):
            found = await self._by_tag(repository, reference)
        else:
            found = await self._by_digest(repository, reference)
        if renew:
            await self._pull.hold(repository, found)
        return found

    async def refresh(self, repository: Repository, reference: Reference) -> StoredManifest:
        """Ask the upstream now, however fresh the answer is: HEAD, and GET only what changed.

        A tag that the upstream has no more is removed (kept where the repository keeps deleted
        tags). Pushed and immutable tags stay, and a digest that is here is not asked for.
        Raises ManifestUnknown, UpstreamError, NameUnknown (the repository has gone).
        """
        if isinstance(reference, Digest):
            return await self._by_digest(repository, reference)
        seen = await self._seen(repository, reference)
        if not _stays(repository, reference, seen):
            work = self._asking_for(repository, reference, head_first=True)
            await self._patience.wait(
                repository, reference.text, seen.checked_at, work, is_forced=True
            )
            seen = await self._seen(repository, reference)
        return _known(seen.manifest, reference)

    async def blob(
        self,
        repository: Repository,
        digest: Digest,
        *,
        renew: bool = False,
        is_head: bool = False,
    ) -> File | Arriving | Announced:
        """A blob: a file that is here, bytes that arrive, or, for `is_head`, its size alone.

        `renew`: a pusher may skip what is here, and only that. Raises BlobUnknown, UpstreamError.
        """
        try:
            file = await self._pull.blob(repository, digest, renew=renew)
        except (BlobUnknown, ObjectMissing):
            if renew:
                raise
        else:
            self._remotes.note_hit(source_of(repository).upstream_id)
            return file
        try:
            if is_head:
                return Announced(await self._fetches.size(repository, digest))
            return await self._fetches.join(repository, digest)
        except UpstreamMissing as error:
            message = "neither this repository nor its upstream has such a blob"
            raise BlobUnknown(message, digest=str(digest)) from error

    async def tags(self, repository: Repository, *, after: str, limit: int) -> TagPage:
        """Up to `limit` tags in byte order after `after`. Raises UpstreamError."""
        if await self._is_synced(repository):
            return await self._pull.tags(repository, after=after, limit=limit)
        warning = await self._refresh_list(
            repository, lookups.TAG_LIST, lambda: self._checks.tag_list(repository)
        )
        async with self._database.read(scan=True) as tx:
            names = await lookups.page(tx, repository.id, after=after, limit=limit + 1)
        return TagPage(names[:limit], len(names) > limit, warning)

    async def upstream_tags(self, repository: Repository) -> list[str]:
        """Every tag that the upstream has, asked for now however fresh the list is, sorted.

        For a tag sync. Raises UpstreamError, NameUnknown (the repository has gone).
        """
        seen = await self._lookup(repository, lookups.TAG_LIST)
        await self._patience.wait(
            repository,
            lookups.TAG_LIST,
            seen.checked_at,
            lambda: self._checks.tag_list(repository),
            is_forced=True,
        )
        names: list[str] = []
        while True:
            after = names[-1] if names else ""
            async with self._database.read(scan=True) as tx:
                page = await lookups.listed(tx, repository.id, after=after, limit=_PAGE)
            names += page
            if len(page) < _PAGE:
                return names

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
    ) -> ReferrerPage:
        """Up to `limit` referrers by digest after `after`, ours and the upstream's.

        Raises UpstreamError.
        """
        warning = await self._refresh_list(
            repository,
            lookups.referrers_of(str(subject)),
            lambda: self._checks.referrers(repository, subject),
        )
        ours = await self._pull.referrers(
            repository, subject, artifact_type=artifact_type, after=after, limit=limit
        )
        async with self._database.read() as tx:
            kept = unpack_referrers(await mirrored.find_referrers(tx, repository.id, str(subject)))
        theirs = (
            referrer
            for referrer in kept
            if referrer.digest > after and artifact_type in {None, referrer.artifact_type}
        )
        found, has_more = _merge(ours, theirs, limit)
        return ReferrerPage(found, has_more, warning)

    async def _by_tag(self, repository: Repository, tag: Tag) -> StoredManifest:
        seen = await self._seen(repository, tag)
        before = seen.manifest
        if before is not None and (
            source_of(repository).freshness == SYNCED
            or _stays(repository, tag, seen)
            or self._patience.is_fresh(repository, seen.checked_at)
        ):
            self._note(repository, is_hit=True)
            return before
        if before is None:
            if self._is_denied(seen.digest, seen.checked_at) or await self._is_synced(repository):
                raise _unknown(tag)
            self._note(repository, is_hit=False)
            work = self._asking_for(repository, tag, head_first=False)
            await self._patience.wait(repository, tag.text, seen.checked_at, work)
            return _known((await self._seen(repository, tag)).manifest, tag)
        work = self._asking_for(repository, tag, head_first=True)
        warning = await self._patience.wait_a_little(repository, tag.text, seen.checked_at, work)
        if warning:
            return replace(before, warning=warning)
        found = _known((await self._seen(repository, tag)).manifest, tag)
        self._note(repository, is_hit=found.digest == before.digest)
        return found

    async def _by_digest(self, repository: Repository, digest: Digest) -> StoredManifest:
        """What a digest names never changes: one that is here needs no upstream."""
        async with self._database.read() as tx:
            found = await manifests.find(tx, repository.id, digest)
        if found is not None and await _is_whole(found):
            self._note(repository, is_hit=True)
            return found
        seen = await self._lookup(repository, str(digest))
        if self._is_denied(seen.digest, seen.checked_at):
            raise _unknown(digest)
        self._note(repository, is_hit=False)
        await self._patience.wait(
            repository,
            str(digest),
            seen.checked_at,
            lambda: self._checks.digest(repository, digest),
        )
        async with self._database.read() as tx:
            found = _known(await manifests.find(tx, repository.id, digest), digest)
        await require_whole(found)
        return found

    async def _refresh_list(self, repository: Repository, reference: str, work: Work) -> str:
        """Have a list that is fresh; else why an older one has to do. Raises UpstreamError."""
        seen = await self._lookup(repository, reference)
        if self._patience.is_fresh(repository, seen.checked_at):
            self._note(repository, is_hit=True)
            return ""
        if seen.checked_at is not None and seen.listed_at is not None:
            return await self._patience.wait_a_little(repository, reference, seen.checked_at, work)
        self._note(repository, is_hit=False)
        await self._patience.wait(repository, reference, seen.checked_at, work)
        return ""

    def _asking_for(self, repository: Repository, tag: Tag, *, head_first: bool) -> Work:
        return lambda: self._checks.tag(repository, tag, head_first=head_first)

    async def _seen(self, repository: Repository, tag: Tag) -> MirroredTag:
        async with self._database.read() as tx:
            seen = await mirrored.find(tx, repository.id, tag.text)
        if seen.manifest is None or await _is_whole(seen.manifest):
            return seen
        digest = Digest.parse(seen.manifest.digest)
        return replace(seen, manifest=await self._by_digest(repository, digest))

    async def _lookup(self, repository: Repository, reference: str) -> Lookup:
        async with self._database.read() as tx:
            return await lookups.find(tx, repository.id, reference) or _NEVER

    async def _is_synced(self, repository: Repository) -> bool:
        """Whether the last sync says what there is."""
        if source_of(repository).freshness != SYNCED:
            return False
        async with self._database.read() as tx:
            return await mirrored.has_synced(tx, repository.id)

    def _is_denied(self, digest: str | None, checked_at: int | None) -> bool:
        """Whether the upstream has just said that it has no such thing."""
        return digest is None and self._patience.is_within(checked_at, self._denied)

    def _note(self, repository: Repository, *, is_hit: bool) -> None:
        upstream_id = source_of(repository).upstream_id
        if is_hit:
            self._remotes.note_hit(upstream_id)
        else:
            self._remotes.note_miss(upstream_id)


_NEVER = Lookup(digest=None, checked_at=None, listed_at=None, claimed_until=0)


async def _is_whole(found: StoredManifest) -> bool:
    """Whether it may be served; damaged, it is asked for as if it were not here."""
    try:
        await require_whole(found)
    except ObjectMissing:
        return False
    return True


def _stays(repository: Repository, tag: Tag, seen: MirroredTag) -> bool:
    """Whether the upstream has no say in what is here."""
    return seen.manifest is not None and (seen.is_pushed or is_immutable(repository, tag))


def _known(found: StoredManifest | None, reference: Reference) -> StoredManifest:
    if found is None:
        raise _unknown(reference)
    return found


def _unknown(reference: Reference) -> ManifestUnknown:
    message = "neither this repository nor its upstream has such a manifest or tag"
    return ManifestUnknown(message, reference=str(reference))


def _merge(
    ours: ReferrerPage, theirs: Iterable[Referrer], limit: int
) -> tuple[list[Referrer], bool]:
    """One page of both in the order of digests; nothing behind what a cut page of ours tells."""
    found = {referrer.digest: referrer for referrer in ours.found}
    last = ours.found[-1].digest if ours.has_more and ours.found else None
    has_more = ours.has_more
    for referrer in theirs:
        if last is not None and referrer.digest > last:
            break
        found.setdefault(referrer.digest, referrer)
    merged = [found[digest] for digest in sorted(found)]
    return merged[:limit], has_more or len(merged) > limit
