"""What a stored manifest says of itself, for whoever looks at it; read leniently, never refused.

`model.manifests` reads the same bytes strictly when they are pushed. What cannot be read here is
left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from entrepot.model.media_types import INDEXES

# A configuration that describes an image; those of artifacts are whatever their makers like.
_IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_DEPTH = 32  # levels of a configuration that we show


@dataclass(frozen=True, slots=True)
class Part:
    """Content that a manifest names: a layer or a configuration. `size` is in bytes."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on, and the image's manifest."""

    os: str
    architecture: str
    variant: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class ManifestParts:
    """A manifest taken apart. `config` is set where it is the configuration of an image."""

    config: Part | None
    layers: tuple[Part, ...]
    platforms: tuple[Platform, ...]
    annotations: Mapping[str, str]


class _Descriptor(msgspec.Struct):
    digest: str
    size: int = 0
    mediaType: str = ""  # noqa: N815  # the field's name on the wire
    platform: object = None  # may be anything


class _Document(msgspec.Struct):
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    annotations: dict[str, str] | None = None


class _Platform(msgspec.Struct):
    os: str
    architecture: str
    variant: str | None = None


def read_parts(body: bytes, media_type: str) -> ManifestParts:
    """Take a manifest apart. An index has platforms, which it need not state for every entry."""
    try:
        document = msgspec.json.decode(body, type=_Document)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return ManifestParts(None, (), (), {})
    platforms = [
        _platform(child.platform, child.digest)
        for child in document.manifests or ()
        if media_type in INDEXES
    ]
    config = document.config
    is_image = config is not None and config.mediaType in _IMAGE_CONFIGS
    return ManifestParts(
        config=_part(config) if config is not None and is_image else None,
        layers=tuple(map(_part, [*(document.layers or ()), *(document.blobs or ())])),
        platforms=tuple(platform for platform in platforms if platform is not None),
        annotations=document.annotations or {},
    )


def read_config(content: bytes) -> dict[str, object] | None:
    """The configuration of an image as it is stored, if it is an object that can be shown."""
    try:
        found = msgspec.json.decode(content)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return found if isinstance(found, dict) and _is_shallow(found) else None


def platform_of(config: Mapping[str, object], digest: str) -> Platform | None:
    """What the image with this configuration and manifest runs on."""
    return _platform(config, digest)


def _platform(said: object, digest: str) -> Platform | None:
    try:
        found = msgspec.convert(said, _Platform)
    except msgspec.ValidationError:
        return None
    return Platform(found.os, found.architecture, found.variant or None, digest)


def _part(descriptor: _Descriptor) -> Part:
    return Part(descriptor.digest, descriptor.size, descriptor.mediaType)


def _is_shallow(value: object, level: int = 0) -> bool:
    if level > _DEPTH:
        return False
    if isinstance(value, dict):
        return all(_is_shallow(item, level + 1) for item in value.values())
    if isinstance(value, list):
        return all(_is_shallow(item, level + 1) for item in value)
    return True
