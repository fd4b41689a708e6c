"""Media types that mean something to the registry; every other is stored and served as it came."""

import re

from entrepot.model.errors import ManifestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
# An index entry of one of these types is a manifest; of any other it may be a blob (BuildKit's
# cache).
MANIFESTS = IMAGES | INDEXES | {"application/vnd.oci.artifact.manifest.v1+json"}

# Docker schema 1 names its content by tag and signs itself; nothing that still runs needs it.
SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

# Layers that live elsewhere and need not be here (image-spec, "Non-distributable layers").
_ELSEWHERE = re.compile(
    r"application/vnd\.docker\.image\.rootfs\.foreign\..+"
    r"|application/vnd\.oci\.image\.layer\.nondistributable\..+"
)
# RFC 6838, section 4.2.
_RESTRICTED = r"[A-Za-z0-9][A-Za-z0-9!#$&\-^_.+]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_RESTRICTED}/{_RESTRICTED}")


def parse_media_type(text: str) -> str:
    """Read a media type, without its parameters. Raises ManifestInvalid."""
    bare = text.partition(";")[0].strip()
    if _MEDIA_TYPE.fullmatch(bare) is None:
        message = "a media type is type/subtype as in RFC 6838"
        raise ManifestInvalid(message, media_type=text[:200])
    return bare


def is_elsewhere(media_type: str) -> bool:
    """Whether a layer of this type may be absent from the registry."""
    return _ELSEWHERE.fullmatch(media_type) is not None
