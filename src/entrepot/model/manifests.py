"""Reading a manifest in exactly one way (OCI image-spec, Docker schema 2), changing nothing."""

import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec

from entrepot.model.digests import Digest
from entrepot.model.errors import DigestInvalid, ManifestInvalid
from entrepot.model.media_types import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    IMAGES,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA_1,
    is_elsewhere,
    parse_media_type,
)


@dataclass(frozen=True, slots=True)
class ManifestLimits:
    """How large the parts of a manifest may be."""

    layers: int = 1_000
    index_children: int = 1_000
    annotation_bytes: int = 256 * 1024
    config_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What the registry needs to know of a manifest.

    `blobs` must be linked in the repository, `children` must be manifests there, `either` (index
    entries of a type we do not know) must be one of the two. `subject` need not exist.
    """

    media_type: str
    artifact_type: str | None
    subject: Digest | None
    annotations: str | None
    blobs: frozenset[str]
    children: frozenset[str]
    either: frozenset[str]


class _Descriptor(msgspec.Struct):
    """image-spec, "Descriptors": what we check of it."""

    digest: str
    size: int
    mediaType: str = ""  # noqa: N815  # the field's name on the wire
    urls: list[str] | None = None


class _Document(msgspec.Struct):
    """The fields that reference content, whatever kind of manifest it is."""

    schemaVersion: int | None = None  # noqa: N815  # the field's name on the wire
    mediaType: str | None = None  # noqa: N815
    artifactType: str | None = None  # noqa: N815
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


def read_manifest(body: bytes, content_type: str | None, limits: ManifestLimits) -> ManifestFacts:
    """Read `body`, sent as `content_type`. Raises ManifestInvalid, DigestInvalid."""
    fields = _parse_json(body)
    if "signatures" in fields or "fsLayers" in fields or content_type in SCHEMA_1:
        message = "Docker schema 1 manifests are not taken; push with a current client"
        raise ManifestInvalid(message)
    try:
        document = msgspec.convert(fields, _Document)
    except msgspec.ValidationError as error:
        message = f"the manifest cannot be read: {error}"
        raise ManifestInvalid(message) from error
    media_type = _media_type(document, content_type)
    _refuse_two_readings(document, media_type)
    _check_limits(document, limits)
    artifact_type = document.artifactType or None
    if artifact_type is None and document.config is not None and media_type not in INDEXES:
        artifact_type = document.config.mediaType or None
    if artifact_type is not None and "\0" in artifact_type:
        message = "the type of an artifact holds a NUL"
        raise ManifestInvalid(message)
    blobs, children, either = _references(document)
    return ManifestFacts(
        media_type=media_type,
        artifact_type=artifact_type,
        subject=Digest.parse(document.subject.digest) if document.subject else None,
        annotations=json.dumps(document.annotations) if document.annotations else None,
        blobs=blobs,
        children=children,
        either=either,
    )


def _parse_json(body: bytes) -> dict[str, Any]:
    """Decode strictly: no byte order mark, no repeated key, no NaN, nothing after the end."""
    try:
        fields = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_number,
            parse_float=_finite,
        )
        if b"\\ud" in body.lower():
            # Half of a surrogate pair is no text: neither we nor a client could write it again.
            json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        message = f"the manifest is not the JSON we take: {error}"
        raise ManifestInvalid(message[:300]) from error
    if not isinstance(fields, dict):
        message = "a manifest is a JSON object"
        raise ManifestInvalid(message)
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        message = "a key stands twice in one object"
        raise ValueError(message)
    return fields


def _refuse_number(text: str) -> float:
    message = f"{text} is not JSON"
    raise ValueError(message)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        message = "a number is out of range"
        raise ValueError(message)
    return number


def _media_type(document: _Document, content_type: str | None) -> str:
    """What the client says it is; its two ways to say it must agree.

    Without either the shape decides: `mediaType` may be absent in OCI documents, and some clients
    send no Content-Type.
    """
    inside = parse_media_type(document.mediaType) if document.mediaType else None
    outside = parse_media_type(content_type) if content_type else None
    if inside and outside and inside != outside:
        # CVE-2021-41190: one digest, two readings.
        message = "Content-Type and the manifest's mediaType differ"
        raise ManifestInvalid(message, content_type=outside, media_type=inside)
    if inside or outside:
        return inside or outside or ""
    if document.manifests is not None:
        return OCI_INDEX
    if document.config is not None and document.layers is not None:
        return OCI_MANIFEST
    message = "send Content-Type, or set mediaType: this shape is none we know"
    raise ManifestInvalid(message)


def _refuse_two_readings(document: _Document, media_type: str) -> None:
    """An image has a configuration and layers, an index has manifests, nothing has both."""
    has_image_parts = document.config is not None or document.layers is not None
    if has_image_parts and document.manifests is not None:
        message = "a manifest has layers or manifests, not both"
        raise ManifestInvalid(message)
    if media_type in IMAGES | INDEXES and document.schemaVersion != 2:  # noqa: PLR2004
        message = "schemaVersion must be 2"
        raise ManifestInvalid(message)
    if media_type in IMAGES and (document.config is None or document.layers is None):
        message = "an image manifest needs config and layers"
        raise ManifestInvalid(message)
    if media_type in INDEXES and document.manifests is None:
        message = "an index needs manifests"
        raise ManifestInvalid(message)
    # Docker's two types have no subject field and must name themselves.
    if media_type in {DOCKER_MANIFEST, DOCKER_LIST} and document.mediaType is None:
        message = "a Docker manifest must carry its mediaType"
        raise ManifestInvalid(message)


def _check_limits(document: _Document, limits: ManifestLimits) -> None:
    layers = len(document.layers or ()) + len(document.blobs or ())
    if layers > limits.layers:
        message = f"a manifest has at most {limits.layers} layers; this one has {layers}"
        raise ManifestInvalid(message)
    children = len(document.manifests or ())
    if children > limits.index_children:
        message = f"an index has at most {limits.index_children} entries; this one has {children}"
        raise ManifestInvalid(message)
    if document.config is not None and document.config.size > limits.config_bytes:
        message = f"a configuration has at most {limits.config_bytes} bytes"
        raise ManifestInvalid(message, size=document.config.size)
    # One annotation: together they are bounded by the manifest, which may consist of little else.
    for key, value in (document.annotations or {}).items():
        weight = len(key.encode()) + len(value.encode())
        if weight > limits.annotation_bytes:
            most = limits.annotation_bytes
            message = f"an annotation has at most {most} bytes; {key[:80]} has {weight}"
            raise ManifestInvalid(message)


def _references(document: _Document) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    blobs: set[str] = set()
    children: set[str] = set()
    either: set[str] = set()
    if document.config is not None:
        blobs.add(_digest(document.config))
    for layer in [*(document.layers or ()), *(document.blobs or ())]:
        digest = _digest(layer)
        if not (layer.urls or is_elsewhere(layer.mediaType)):
            blobs.add(digest)
    for child in document.manifests or ():
        digest = _digest(child)
        (children if child.mediaType in MANIFESTS else either).add(digest)
    if document.subject is not None:
        _digest(document.subject)
    return frozenset(blobs), frozenset(children), frozenset(either)


def _digest(descriptor: _Descriptor) -> str:
    if descriptor.size < 0:
        message = "a descriptor's size is negative"
        raise ManifestInvalid(message, digest=descriptor.digest[:200])
    try:
        return str(Digest.parse(descriptor.digest))
    except DigestInvalid as error:
        message = f"a descriptor's digest cannot be read: {error.message}"
        raise ManifestInvalid(message, digest=descriptor.digest[:200]) from error
