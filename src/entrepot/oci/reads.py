"""Whose reads answer a request: a hosted repository's, or a mirror's."""

from typing import Protocol

from entrepot.blobs.answers import Announced, Arriving, File
from entrepot.model.access import Place, Repository
from entrepot.model.digests import Digest
from entrepot.model.errors import UpstreamLoop
from entrepot.model.names import Reference
from entrepot.model.stored import ReferrerPage, StoredManifest, TagPage
from entrepot.oci.call import Call, Registry
from entrepot.web.answers import Header


class Reads(Protocol):
    """What `Pull` and `Mirror` both do."""

    async def manifest(
        self, repository: Repository, reference: Reference, *, renew: bool = False
    ) -> StoredManifest:
        """What `reference` names now."""

    async def blob(
        self, repository: Repository, digest: Digest, *, renew: bool = False, is_head: bool = False
    ) -> File | Arriving | Announced:
        """A blob; `is_head` for its size alone."""

    async def tags(self, repository: Repository, *, after: str, limit: int) -> TagPage:
        """Up to `limit` tags in byte order after `after`."""

    async def referrers(
        self,
        repository: Repository,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
    ) -> ReferrerPage:
        """Up to `limit` referrers by digest after `after`."""


def choose(registry: Registry, call: Call) -> tuple[Reads, Repository]:
    """The reads of the repository that was asked for. Raises NameUnknown, UpstreamLoop."""
    repository = call.repository
    if repository.source is None:
        return registry.pull, repository
    _require_no_loop(registry, call)
    registry.last_access.note(repository.id)
    return registry.mirror, repository


async def appear(registry: Registry, call: Call, reference: Reference | None) -> None:
    """Have the repository made by this pull, where a namespace mirror may.

    Raises NameUnknown, UpstreamError.
    """
    if isinstance(call.where, Place) and call.where.source is not None:
        _require_no_loop(registry, call)
        call.where = await registry.first_pull.enter(call.actor, call.target, call.where, reference)


def _require_no_loop(registry: Registry, call: Call) -> None:
    """Raises UpstreamLoop for what this node asks an upstream, and so itself."""
    if call.request.came_by(registry.pseudonym):
        message = (
            "this registry asks itself for this: the upstream of this name is the registry's own "
            "address"
        )
        raise UpstreamLoop(message, name=str(call.name))


def warn(headers: list[Header], warning: str) -> None:
    """Say why an answer may be out of date (RFC 7234, section 5.5: a miscellaneous one)."""
    if warning:
        text = "".join(letter if " " <= letter <= "~" else "?" for letter in warning)
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        headers.append((b"warning", f'299 - "{text}"'.encode()))
