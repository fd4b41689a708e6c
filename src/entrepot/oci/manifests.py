"""Manifests: GET and HEAD (end-3), PUT (end-7a, end-7b), DELETE (end-9)."""

import asyncio

import structlog

from entrepot.model.access import Action
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    DigestInvalid,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    RequestTooLarge,
    TagInvalid,
    TooManyTags,
)
from entrepot.model.manifests import ManifestFacts, read_manifest
from entrepot.model.max_age import HEADER, find_max_age
from entrepot.model.names import Reference, Tag, parse_reference
from entrepot.oci.call import Call, Registry
from entrepot.oci.content import content_headers
from entrepot.oci.reads import appear, choose, warn
from entrepot.web.answers import Answer
from entrepot.web.conditions import is_known

_LARGE = 256 * 1024

log = structlog.get_logger()


async def get(registry: Registry, call: Call) -> Answer:
    """The stored bytes under the stored type, whatever Accept says (T13 of the known failures)."""
    try:
        reference = parse_reference(call.values["reference"])
    except (DigestInvalid, TagInvalid) as error:
        raise ManifestUnknown(error.message) from error
    await appear(registry, call, reference)
    reads, repository = choose(registry, call)
    # A pusher that HEADs a manifest may skip it, so it must not go meanwhile.
    renew = call.request.method == "HEAD" and call.may(registry, Action.PUSH)
    manifest = await reads.manifest(repository, reference, renew=renew)
    if not renew:  # who may push may only ask whether to push it again
        registry.last_pulls.note(repository.id, manifest.digest)
    etag = f'"{manifest.digest}"'
    headers = content_headers(manifest.media_type, manifest.digest, etag)
    warn(headers, manifest.warning)
    if is_known(call.request, etag):
        return Answer(304, headers)
    return Answer(200, headers, manifest.body)


async def put(registry: Registry, call: Call) -> Answer:
    """Store a manifest and point tags at it."""
    reference = parse_reference(call.values["reference"])
    tags = _tags(registry, call, reference)
    body = await _body(registry, call)
    facts = await _facts(registry, call, body)
    pushed = await registry.push.manifest(
        call.actor,
        call.target,
        digest=reference if isinstance(reference, Digest) else None,
        tag_names=tags,
        facts=facts,
        body=body,
        opened_before=call.opened_before,
        max_age=find_max_age(call.request.header(HEADER.lower().encode()), facts.annotations),
    )
    log.info(
        "manifest.pushed",
        repository=str(call.name),
        digest=str(pushed.digest),
        tags=[tag.text for tag in tags],
    )
    headers = [
        (b"location", f"/v2/{call.name}/manifests/{pushed.digest}".encode()),
        (b"docker-content-digest", str(pushed.digest).encode()),
    ]
    if pushed.subject is not None:
        headers.append((b"oci-subject", str(pushed.subject).encode()))
    for warning in pushed.warnings:
        warn(headers, warning)
    if isinstance(reference, Digest):
        headers.extend((b"oci-tag", tag.text.encode()) for tag in tags)
    return Answer(201, headers)


async def delete(registry: Registry, call: Call) -> Answer:
    """Remove a tag alone, or a manifest with all its tags."""
    reference = parse_reference(call.values["reference"])
    if isinstance(reference, Tag):
        await registry.delete.tag(call.actor, call.target, reference)
        log.info("tag.deleted", repository=str(call.name), tag=reference.text)
    else:
        await registry.delete.manifest(call.actor, call.target, reference)
        log.info("manifest.deleted", repository=str(call.name), digest=str(reference))
    return Answer(202)


def _tags(registry: Registry, call: Call, reference: Reference) -> list[Tag]:
    """The reference if it is a tag, and what `?tag=` adds to a digest."""
    if isinstance(reference, Tag):
        return [reference]
    names = call.request.query.get("tag", [])
    limit = registry.limits.tags_per_put
    if len(names) > limit:
        raise TooManyTags(f"at most {limit} tags in one request", limit=limit)
    return [Tag.parse(name) for name in names]


async def _body(registry: Registry, call: Call) -> bytes:
    limit = registry.limits.manifest_bytes
    try:
        return await call.request.body(limit)
    except RequestTooLarge as error:
        message = f"a manifest has at most {limit} bytes"
        raise ManifestTooLarge(message, limit=limit) from error


async def _facts(registry: Registry, call: Call, body: bytes) -> ManifestFacts:
    """Read it; a large one in a thread, since parsing 4 MiB holds up everybody else."""
    reading = (body, _content_type(call), registry.limits.manifests)
    if len(body) < _LARGE:
        return read_manifest(*reading)
    return await asyncio.to_thread(read_manifest, *reading)


def _content_type(call: Call) -> str | None:
    text = call.request.header(b"content-type")
    bare = (text or "").partition(";")[0].strip()
    if len(bare) > 255:  # noqa: PLR2004  # RFC 6838: 127 + "/" + 127
        raise ManifestInvalid("Content-Type is too long")
    return bare or None
