"""Content that cannot be compressed, and of which no two blobs are the same."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.scale import MIB

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_TAIL = 32


Entry = dict[str, str | int]
"""What a manifest says of one blob: media type, digest, size."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file and the bytes that come after it."""

    digest: str
    size: int
    file: int
    """A descriptor open for reading."""
    file_size: int
    tail: bytes


class Material:
    """A file of random bytes from which any number of different blobs are made.

    Blobs differ in their last 32 bytes only, so that a new one costs no hashing of the whole; no
    server can profit from that, since a digest covers all of it.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Write the file, all but the tail."""
        self.path = path
        self.size = size
        self._hash = hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, size - _TAIL, MIB):
                piece = os.urandom(min(MIB, size - _TAIL - start))
                file.write(piece)
                self._hash.update(piece)
        self._file = os.open(path, os.O_RDONLY)

    def __enter__(self) -> Self:
        """Return the material, whose file goes away when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file."""
        os.close(self._file)
        self.path.unlink()

    def fresh(self) -> Blob:
        """Return a blob that nobody has seen."""
        tail = os.urandom(_TAIL)
        whole = self._hash.copy()
        whole.update(tail)
        digest = f"sha256:{whole.hexdigest()}"
        return Blob(digest, self.size, self._file, self.size - _TAIL, tail)


def generated(size: int, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    """Make `size` bytes that do not compress and never repeat, and show them to `seen`."""
    block = os.urandom(MIB - 8)
    for start in range(0, size, MIB):
        piece = (start.to_bytes(8) + block)[: size - start]
        seen(piece)
        yield piece


@dataclass(frozen=True, slots=True)
class Image:
    """Small blobs (layers, then the configuration), each with its digest, and the manifest."""

    blobs: tuple[tuple[str, bytes], ...]
    manifest: bytes


def image(layers: int, layer_size: int) -> Image:
    """Make an image of unique layers."""
    block = os.urandom(layer_size - 16)
    bodies = [os.urandom(16) + block for _ in range(layers)]
    bodies.append(
        json.dumps({"architecture": "amd64", "os": "linux", "created": _nonce()}).encode()
    )
    blobs = tuple((f"sha256:{hashlib.sha256(body).hexdigest()}", body) for body in bodies)
    entries: list[Entry] = [
        {"mediaType": LAYER_TYPE, "digest": digest, "size": len(body)} for digest, body in blobs
    ]
    *layer_entries, config = entries
    return Image(blobs, manifest(config | {"mediaType": CONFIG_TYPE}, layer_entries))


def manifest(config: Entry, layers: list[Entry]) -> bytes:
    """Return the bytes of an OCI image manifest."""
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    }
    return json.dumps(content).encode()


def _nonce() -> str:
    return os.urandom(8).hex()
