"""Reading what a pull-through repository holds, and asking its upstream for the rest."""

from entrepot.blobs.answers import Arriving, File
from entrepot.model.access import Actor, Place, Repository
from entrepot.model.digests import Digest
from entrepot.model.names import Reference
from entrepot.model.stored import ReferrerPage, StoredManifest, TagPage
from entrepot.services.addresses import Address


class Mirror:
    """The reads of a pull-through repository: the same as `Pull` has, which it wraps.

    What is older than the repository's freshness goes out with a `warning` when the upstream does
    not answer; what was never here raises what the upstream did (`UpstreamError`).
    """

    async def manifest(
        self, repository: Repository, reference: Reference, *, renew: bool = False
    ) -> StoredManifest:
        """What `reference` names now. Raises ManifestUnknown, UpstreamError."""
        raise NotImplementedError

    async def refresh(self, repository: Repository, reference: Reference) -> StoredManifest:
        """Ask the upstream now, however fresh the answer is: HEAD, and GET only what changed.

        A tag that the upstream has no more is removed (kept where the repository keeps deleted
        tags). Raises ManifestUnknown, UpstreamError, NameUnknown (the repository has gone).
        """
        raise NotImplementedError

    async def blob(
        self, repository: Repository, digest: Digest, *, renew: bool = False
    ) -> File | Arriving:
        """A blob: a file that is here, or bytes that arrive. Raises BlobUnknown, UpstreamError."""
        raise NotImplementedError

    async def blob_size(
        self, repository: Repository, digest: Digest, *, renew: bool = False
    ) -> int | None:
        """How long a blob is, by one HEAD at most. Raises BlobUnknown, UpstreamError."""
        raise NotImplementedError

    async def tags(self, repository: Repository, *, after: str, limit: int) -> TagPage:
        """Up to `limit` tags in byte order after `after`. Raises UpstreamError."""
        raise NotImplementedError

    async def upstream_tags(self, repository: Repository) -> list[str]:
        """Every tag that the upstream has, asked for now however fresh the list is, sorted.

        For a tag sync. Raises UpstreamError, NameUnknown (the repository has gone).
        """
        raise NotImplementedError

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
    ) -> ReferrerPage:
        """Up to `limit` referrers by digest after `after`. Raises UpstreamError."""
        raise NotImplementedError

    async def enter(
        self, actor: Actor, address: Address, place: Place, reference: Reference | None
    ) -> Repository:
        """The repository that this pull makes below a namespace mirror.

        Made once the upstream gave what was asked for: `reference`, or the list of tags.
        Raises NameUnknown, ManifestUnknown, UpstreamError.
        """
        raise NotImplementedError
