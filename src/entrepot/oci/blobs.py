"""Blobs: GET and HEAD (end-2), DELETE (end-10)."""

import structlog

from entrepot.blobs.answers import Announced, Arriving, File
from entrepot.blobs.stored import Stored
from entrepot.model.access import Action
from entrepot.model.digests import Digest
from entrepot.oci.call import Call, Registry
from entrepot.oci.content import content_headers, redirect_headers
from entrepot.oci.reads import choose
from entrepot.web.answers import Answer, Header, begin
from entrepot.web.conditions import answer_file, is_known

# Never the type of the layer: some clients fail without one, none needs another.
_TYPE = "application/octet-stream"

log = structlog.get_logger()


async def get(registry: Registry, call: Call) -> Answer:
    """The bytes, a range of them, or several."""
    digest = Digest.parse(call.values["digest"])
    reads, repository = choose(registry, call)
    etag = f'"{digest}"'
    is_head = call.request.method == "HEAD"
    blob = await reads.blob(
        repository,
        digest,
        renew=is_head and call.may(registry, Action.PUSH),
        is_head=is_head or is_known(call.request, etag),
    )
    headers = content_headers(_TYPE, str(digest), etag)
    headers.append((b"accept-ranges", b"bytes"))
    if is_known(call.request, etag):
        return Answer(304, headers)
    if isinstance(blob, Announced):
        return Answer(200, headers, blob)
    if isinstance(blob, Stored) and not is_head:
        address = await registry.delivery.address(call.request, blob)
        if address is not None:
            return Answer(307, redirect_headers(address, str(digest)))
        near = registry.cache.near(blob, digest)
        # What the store has lost is a clear error, not an answer that ends before it has begun.
        return await begin(_answer(registry, call, near, etag, headers))
    return _answer(registry, call, blob, etag, headers)


def _answer(
    registry: Registry, call: Call, blob: File | Arriving, etag: str, headers: list[Header]
) -> Answer:
    return answer_file(call.request, blob, etag, headers, range_limit=registry.limits.ranges)


async def delete(registry: Registry, call: Call) -> Answer:
    """Take the blob out of this repository."""
    digest = Digest.parse(call.values["digest"])
    await registry.delete.blob(call.actor, call.target, digest)
    log.info("blob.deleted", repository=str(call.name), digest=str(digest))
    return Answer(202)
