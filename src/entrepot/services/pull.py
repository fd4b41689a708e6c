"""Reading what a repository holds. Every answer rests on one statement for the content."""

from collections.abc import Callable

from entrepot.blobs.answers import File
from entrepot.blobs.stored import Stored
from entrepot.db import blobs, manifests, repositories, tags
from entrepot.db.database import Database, Transaction, Work
from entrepot.model.access import Repository
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    BlobUnknown,
    ManifestUnknown,
    ObjectMissing,
    StorageFailed,
    StorageFull,
    Unavailable,
)
from entrepot.model.names import Reference
from entrepot.model.stored import LinkedBlob, Referrer, ReferrerPage, StoredManifest, TagPage
from entrepot.services.objects import Objects, require_whole

_SCAN = 1_000  # repositories that one statement looks at for a caller who may see few
# Referrers are read by so many until their texts have so many characters.
_BATCH = 16
_WEIGHT = 8_000_000


class Pull:
    """The reads of a hosted repository. `grace` is how long unused content is protected, in µs."""

    def __init__(self, database: Database, objects: Objects, clock: Clock, *, grace: int) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock
        self._grace = grace

    async def manifest(
        self, repository: Repository, reference: Reference, *, renew: bool = False
    ) -> StoredManifest:
        """What `reference` names now. Raises ManifestUnknown, ObjectMissing.

        `renew`: a pusher asks whether it may skip this manifest, so hold it (containerd HEADs the
        children of an index and pushes only what is missing).
        """
        async with self._database.read() as tx:
            found = await manifests.find(tx, repository.id, reference)
        if found is None:
            message = "no such manifest or tag in this repository"
            raise ManifestUnknown(message, reference=str(reference))
        try:
            await require_whole(found)
        except ObjectMissing as error:
            if not renew:
                raise
            # A pusher that hears "not here" sends it again, and that heals it.
            raise ManifestUnknown(error.message, reference=str(reference)) from error
        if renew:
            await self.hold(repository, found)
        return found

    async def hold(self, repository: Repository, found: StoredManifest) -> None:
        """Keep a manifest for a pusher that will not send it again. Raises ManifestUnknown."""
        if not self._is_due(found.protected_until):
            return
        until = self._clock.now() + self._grace

        async def work(tx: Transaction) -> bool:
            depth = await manifests.protect(tx, repository.id, found.digest, protected_until=until)
            return depth is not None

        if not await self._is_held(work):
            message = "this manifest was deleted just now"
            raise ManifestUnknown(message, digest=found.digest)

    async def blob(
        self,
        repository: Repository,
        digest: Digest,
        *,
        renew: bool = False,
        is_head: bool = False,  # noqa: ARG002  # a mirror would fetch the bytes otherwise
    ) -> File | Stored:
        """Where the bytes of a blob of this repository are. Raises BlobUnknown, ObjectMissing.

        `renew` holds it for a pusher that will not send it again.
        """
        blob = await self._linked(repository, digest)
        try:
            file = await self._objects.open(blob)
        except ObjectMissing:
            # The row may have got another key since it was read.
            blob = await self._linked(repository, digest)
            try:
                file = await self._objects.open(blob)
            except ObjectMissing as error:
                if not renew:
                    raise
                # A pusher that hears "not here" sends it again, and that heals it.
                raise BlobUnknown(_NO_BLOB, digest=str(digest)) from error
        if renew and self._is_due(blob.protected_until):
            until = self._clock.now() + self._grace

            async def work(tx: Transaction) -> bool:
                return await blobs.protect(tx, repository.id, blob.digest, protected_until=until)

            if not await self._is_held(work):
                raise BlobUnknown(_NO_BLOB, digest=str(digest))
        return file

    async def tags(self, repository: Repository, *, after: str, limit: int) -> TagPage:
        """Up to `limit` tags in byte order after `after`."""
        async with self._database.read(scan=True) as tx:
            names = await tags.page(tx, repository.id, after=after, limit=limit + 1)
        return TagPage(names[:limit], len(names) > limit)

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
    ) -> ReferrerPage:
        """Up to `limit` referrers by digest after `after`.

        Fewer when their annotations are long: no request takes them all into memory.
        """
        found: list[Referrer] = []
        weight = 0
        while len(found) <= limit and weight < _WEIGHT:
            size = min(_BATCH, limit + 1 - len(found))
            async with self._database.read(scan=True) as tx:
                batch = await manifests.referrers(
                    tx,
                    repository.id,
                    str(subject),
                    artifact_type=artifact_type,
                    after=after,
                    limit=size,
                )
            found.extend(batch)
            if len(batch) < size:
                return ReferrerPage(found[:limit], len(found) > limit)
            after = batch[-1].digest
            weight += sum(
                len(referrer.annotations or "") + len(referrer.artifact_type or "")
                for referrer in batch
            )
        return ReferrerPage(found[:limit], has_more=True)

    async def repositories(
        self,
        organisation_id: int,
        *,
        after: str,
        limit: int,
        is_visible: Callable[[Repository], bool],
    ) -> tuple[list[Repository], bool]:
        """Up to `limit` visible repositories by path after `after`, and whether there are more.

        Others leave no trace: a page neither ends at one nor tells that one follows.
        """
        visible: list[Repository] = []
        size = limit + 1
        while True:
            async with self._database.read(scan=True) as tx:
                found = await repositories.page(tx, organisation_id, after=after, limit=size)
            visible.extend(filter(is_visible, found))
            if len(visible) > limit or len(found) < size:
                return visible[:limit], len(visible) > limit
            after, size = found[-1].path, _SCAN

    async def _linked(self, repository: Repository, digest: Digest) -> LinkedBlob:
        async with self._database.read() as tx:
            blob = await blobs.find(tx, repository.id, str(digest))
        if blob is None:
            raise BlobUnknown(_NO_BLOB, digest=str(digest))
        return blob

    async def _is_held(self, work: Work[bool]) -> bool:
        """Whether `work` found what it holds; also when nothing can be written.

        Who only pulls must not fail then. A pusher loses nothing: its manifest is refused should
        the content go meanwhile.
        """
        try:
            return await self._database.write(work, durable=False)
        except (StorageFull, StorageFailed, Unavailable):
            return True

    def _is_due(self, protected_until: int) -> bool:
        """At most one renewal per half grace and blob."""
        return protected_until < self._clock.now() + self._grace // 2


_NO_BLOB = "no such blob in this repository"
