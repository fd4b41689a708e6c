"""What an upstream sent, once it was read and its digest computed: nothing else is kept."""

import json
from dataclasses import dataclass

import msgspec

from entrepot.model.digests import Digest
from entrepot.model.errors import DigestInvalid, ManifestInvalid, UpstreamBroken
from entrepot.model.manifests import ManifestFacts, ManifestLimits, read_manifest
from entrepot.model.media_types import SCHEMA_1, parse_media_type
from entrepot.model.names import Reference
from entrepot.model.stored import Referrer
from entrepot.model.upstreams import RemoteManifest

# What servers say that know nothing of manifests; then the content says what it is.
_GENERIC = frozenset({"application/json", "application/octet-stream", "text/plain"})


@dataclass(frozen=True, slots=True)
class Received:
    """A manifest whose digest is that of its bytes."""

    digest: Digest
    facts: ManifestFacts
    body: bytes


def receive(
    upstream: str, sent: RemoteManifest, reference: Reference, limits: ManifestLimits
) -> Received:
    """Check what `upstream` sent for `reference`. Raises UpstreamBroken."""
    announced = _announced(upstream, sent)
    wanted = reference if isinstance(reference, Digest) else announced
    digest = Digest.of(sent.body, wanted.algorithm if wanted else "sha256")
    for named in (wanted, announced):
        if named is not None and Digest.of(sent.body, named.algorithm) != named:
            message = f"{upstream} sent another manifest than {named}; nothing of it was kept"
            raise UpstreamBroken(message, reason="digest")
    media_type = _media_type(upstream, sent)
    try:
        facts = read_manifest(sent.body, media_type, limits)
    except (ManifestInvalid, DigestInvalid) as error:
        message = f"{upstream} sent a manifest that cannot be kept: {error.message}"
        raise UpstreamBroken(message, reason="manifest") from error
    return Received(digest, facts, sent.body)


def _announced(upstream: str, sent: RemoteManifest) -> Digest | None:
    if sent.digest is None:
        return None
    try:
        return Digest.parse(sent.digest)
    except DigestInvalid as error:
        message = f"{upstream} named a manifest by something that is no digest"
        raise UpstreamBroken(message, reason="digest") from error


def _media_type(upstream: str, sent: RemoteManifest) -> str | None:
    if sent.media_type is None:
        return None
    bare = sent.media_type.partition(";")[0].strip().lower()
    if bare in SCHEMA_1:
        message = (
            f"{upstream} has this image as Docker schema 1 only, which no current client runs;"
            " have it pushed there again by a current one"
        )
        raise UpstreamBroken(message, reason="schema1")
    if bare in _GENERIC:
        return None
    try:
        return parse_media_type(sent.media_type)
    except ManifestInvalid:
        return None


class _Descriptor(msgspec.Struct):
    digest: str
    size: int
    mediaType: str  # noqa: N815  # the field's name on the wire
    artifactType: str | None = None  # noqa: N815
    annotations: dict[str, str] | None = None


def read_referrers(upstream: str, body: bytes) -> list[Referrer]:
    """The referrers in an upstream's index, by digest; what is no descriptor is left out.

    Raises UpstreamBroken.
    """
    try:
        index = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamBroken(f"{upstream} sent referrers that are no JSON") from error
    listed = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(listed, list):
        raise UpstreamBroken(f"{upstream} sent referrers that are no index")
    found: dict[str, Referrer] = {}
    for entry in listed:
        try:
            descriptor = msgspec.convert(entry, _Descriptor)
            digest = str(Digest.parse(descriptor.digest))
            media_type = parse_media_type(descriptor.mediaType)
        except (msgspec.ValidationError, DigestInvalid, ManifestInvalid):
            continue
        found[digest] = Referrer(
            digest,
            media_type,
            max(descriptor.size, 0),
            descriptor.artifactType or None,
            json.dumps(descriptor.annotations) if descriptor.annotations else None,
        )
    return [found[digest] for digest in sorted(found)]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Referrer])


def pack_referrers(referrers: list[Referrer]) -> bytes:
    """As they are kept."""
    return _encoder.encode(referrers)


def unpack_referrers(body: bytes | None) -> list[Referrer]:
    """From what was kept; none where nothing was."""
    return _decoder.decode(body) if body is not None else []
