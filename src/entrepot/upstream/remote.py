"""What an upstream registry has: the reads of the protocol, asked from the other side."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    DigestInvalid,
    UpstreamBroken,
    UpstreamDown,
)
from entrepot.model.media_types import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from entrepot.model.names import RepositoryName
from entrepot.model.upstreams import (
    PRESETS,
    Auth,
    Handshake,
    Observation,
    RemoteHead,
    RemoteManifest,
)
from entrepot.upstream import listing
from entrepot.upstream.authorise import Authoriser
from entrepot.upstream.calls import OK, Calls
from entrepot.upstream.origins import Origin
from entrepot.upstream.outbound import Answer, Outbound

# All that is in use, and whatever else: some registries answer 404 for what is not accepted.
ACCEPT = (
    f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST},"
    " application/vnd.oci.artifact.manifest.v1+json, */*"
)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_NO_HEAD = frozenset({405, 501})


@dataclass(frozen=True, slots=True)
class RemoteBlob:
    """A blob, or the rest of it from `offset` on, as it arrives.

    `size` is of the whole blob, where the upstream said it. Nothing is verified.
    """

    size: int | None
    offset: int
    pieces: AsyncIterator[bytes]


class Remote:
    """One upstream with one credential. Everything raises UpstreamError.

    Paths are as the upstream names them; `full_path` turns what people write into that.
    """

    def __init__(
        self,
        outbound: Outbound,
        name: str,
        origin: str,
        handshake: Handshake | None,
        auth: Auth,
        preset: str,
        clock: Clock,
        observe: Callable[[Observation], None],
    ) -> None:
        at = Origin.parse(origin)
        remedy = f"set one that it takes: entrepot upstream rotate {name}"
        authoriser = Authoriser(outbound, name, at, handshake, auth, preset, clock, observe, remedy)
        self._calls = Calls(outbound, name, at, authoriser, clock, observe)
        self.name = name
        self.origin = origin

    async def head_manifest(self, path: str, reference: str) -> RemoteHead:
        """What `reference` is now, without its content; nothing known where HEAD is not served."""
        expected = OK | _NO_HEAD
        async with self._calls.ask(
            "HEAD", path, f"manifests/{reference}", headers={"Accept": ACCEPT}, expected=expected
        ) as answer:
            if answer.status in _NO_HEAD:
                return RemoteHead(None, None)
            return RemoteHead(answer.media_type or None, _digest(answer))

    async def manifest(self, path: str, reference: str, *, limit: int) -> RemoteManifest:
        """A manifest of at most `limit` bytes."""
        async with self._calls.ask(
            "GET", path, f"manifests/{reference}", headers={"Accept": ACCEPT}
        ) as answer:
            answer.require_identity()
            if answer.media_type == "text/html":
                message = (
                    f"{answer.called} sent a web page for a manifest; a login page or firewall may"
                    " stand before it"
                )
                raise UpstreamBroken(message, reason="html")
            body = await answer.body(limit)
            return RemoteManifest(body, answer.media_type or None, _digest(answer))

    async def head_blob(self, path: str, digest: Digest) -> int | None:
        """The size of a blob that we may read, where the upstream says it."""
        try:
            async with self._calls.ask(
                "HEAD", path, f"blobs/{digest}", expected=OK | _NO_HEAD
            ) as answer:
                if answer.status not in _NO_HEAD:
                    return answer.length
        except UpstreamBroken as error:
            # A presigned address is for one method, and not every registry signs for HEAD.
            if error.values.get("reason") != "storage":
                raise
        async with self.blob(path, digest) as blob:  # and none of its bytes
            return blob.size

    @asynccontextmanager
    async def blob(self, path: str, digest: Digest, offset: int = 0) -> AsyncIterator[RemoteBlob]:
        """A blob from `offset` on; from its beginning where the upstream serves no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        expected = OK | {206} if offset else OK
        async with self._calls.ask(
            "GET", path, f"blobs/{digest}", headers=headers, expected=expected
        ) as answer:
            answer.require_identity()
            if answer.status == 206:  # noqa: PLR2004  # Partial Content
                size, end = _content_range(answer, offset)
                yield RemoteBlob(size, offset, _whole(answer, end - offset))
            else:
                yield RemoteBlob(answer.length, 0, answer.pieces())

    def tags(self, path: str) -> AsyncGenerator[list[str], None]:
        """The tags, a page at a time, in the upstream's order."""
        return listing.tags(self._calls, path)

    async def referrers(self, path: str, digest: Digest, *, limit: int) -> bytes | None:
        """An index of what refers to `digest`, at most `limit` bytes; None where there is none."""
        return await listing.referrers(self._calls, path, digest, limit=limit)


async def _whole(answer: Answer, expected: int) -> AsyncIterator[bytes]:
    """The pieces of a range, no more and no fewer bytes than it announced."""
    left = expected
    async for piece in answer.pieces():
        left -= len(piece)
        if left < 0:
            raise UpstreamBroken(f"{answer.called} sent more than its range", reason="range")
        yield piece
    if left:
        raise UpstreamDown(f"{answer.called} broke off a range; try again", reason="reset")


def _content_range(answer: Answer, offset: int) -> tuple[int | None, int]:
    """The blob's whole size and where this part ends (exclusive)."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if match is not None:
        first, last = int(match[1]), int(match[2])
        size = None if match[3] == "*" else int(match[3])
        if first == offset <= last and (size is None or last < size):
            return size, last + 1
    message = f"{answer.called} sent another part of a blob than was asked for"
    raise UpstreamBroken(message, reason="range")


def _digest(answer: Answer) -> str | None:
    try:
        return str(Digest.parse(answer.headers.get("Docker-Content-Digest", "").strip()))
    except DigestInvalid:
        return None


def full_path(preset: str, path: str) -> str:
    """A repository's path as the upstream names it. Raises NameInvalid.

    `docker.io/redis`, `redis` and `library/redis` are one repository of Docker Hub.
    """
    known = PRESETS[preset]
    first, _, rest = path.partition("/")
    if rest and first in known.aliases:
        path = rest
    if known.library and "/" not in path:
        path = f"{known.library}/{path}"
    return RepositoryName.parse(path).text
