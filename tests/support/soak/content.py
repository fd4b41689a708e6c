"""What clients push: images that share layers, indexes of them, and what refers to them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYERS = 60  # all clients take their layers from these
_POPULAR = 12  # images that every client pushes
_LARGEST = 6_000


@dataclass(frozen=True, slots=True)
class Part:
    """A blob."""

    digest: str
    content: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A manifest with its blobs, or an index with its children. `is_own`: one client pushes it."""

    digest: str
    body: bytes
    media_type: str
    parts: tuple[Part, ...] = ()
    children: tuple["Image", ...] = ()
    is_own: bool = True

    def all(self) -> Iterator["Image"]:
        """It and what is below it."""
        yield self
        for child in self.children:
            yield from child.all()


class Contents:
    """Makes them, from a seed; shared ones are the same for every client."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)
        self._shared = [_part(Random(f"layer {n}")) for n in range(_LAYERS)]
        self._made = 0

    def image(self, *, subject: Image | None = None) -> Image:
        """An image that nobody else pushes, of layers that others push too."""
        self._made += 1
        layers = [*self._random.sample(self._shared, self._random.randint(1, 4))]
        if self._random.random() < 0.5:
            layers.append(_part(self._random))
        return _image(f"{self._random.random()} {self._made}", layers, subject=subject)

    def popular(self) -> Image:
        """An image that others push too."""
        number = self._random.randrange(_POPULAR)
        layers = Random(f"image {number}").sample(self._shared, 3)
        return _image(f"popular {number}", layers, is_own=False)

    def index(self, children: Sequence[Image]) -> Image:
        """An index of these."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [_descriptor(child) for child in children],
            "annotations": {"of": str(self._random.random())},
        }
        body = json.dumps(document).encode()
        return Image(digest_of(body), body, OCI_INDEX, children=tuple(children))

    def loose(self) -> Part:
        """A blob that no manifest will name."""
        return _part(self._random)


def _part(random: Random) -> Part:
    content = random.randbytes(random.randint(200, _LARGEST))
    return Part(digest_of(content), content)


def _image(
    note: str, layers: Sequence[Part], *, subject: Image | None = None, is_own: bool = True
) -> Image:
    content = json.dumps({"architecture": "amd64", "os": "linux", "note": note}).encode()
    config = Part(digest_of(content), content)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": _CONFIG,
            "digest": config.digest,
            "size": len(config.content),
        },
        "layers": [
            {"mediaType": _LAYER, "digest": layer.digest, "size": len(layer.content)}
            for layer in layers
        ],
    }
    if subject is not None:
        document["subject"] = _descriptor(subject)
    body = json.dumps(document).encode()
    parts = {part.digest: part for part in (config, *layers)}
    return Image(digest_of(body), body, OCI_MANIFEST, tuple(parts.values()), is_own=is_own)


def _descriptor(image: Image) -> dict[str, Any]:
    return {"mediaType": image.media_type, "digest": image.digest, "size": len(image.body)}
