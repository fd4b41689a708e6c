"""Images of any size as OCI layouts: the same arguments give the same digests."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
_FILE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """An image in an OCI layout: what its tag names there, and what its layers unpack to."""

    layout: Path
    tag: str
    digest: str
    diff_ids: tuple[str, ...]
    size: int

    @property
    def reference(self) -> str:
        """How skopeo and its kin name it."""
        return f"oci:{self.layout}:{self.tag}"


class _Sink:
    """Hashes and counts what is written, and passes it on."""

    def __init__(self, then: Any) -> None:
        self.sha = hashlib.sha256()
        self.size = 0
        self.then = then

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        self.size += len(data)
        self.then.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha.hexdigest()}"


class Layout:
    """An OCI image layout that images are written into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs/sha256"
        self._blobs.mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._entries: list[dict[str, Any]] = []

    def add_image(self, tag: str, *, megabytes: float, layers: int) -> Image:
        """An image of one platform."""
        made = [self._add_layer(f"{tag}-{n}", megabytes / layers) for n in range(layers)]
        return self._name(tag, self._add_manifest("amd64", made), made)

    def add_index(
        self, tag: str, *, megabytes: int, layers: int, shared: int, architectures: tuple[str, ...]
    ) -> Image:
        """An image of several platforms that share their first layers."""
        common = [self._add_layer(f"{tag}-{n}", megabytes / layers) for n in range(shared)]
        manifests = []
        for architecture in architectures:
            own = [
                self._add_layer(f"{tag}-{architecture}-{n}", megabytes / layers)
                for n in range(layers - shared)
            ]
            manifests.append(
                self._add_manifest(architecture, common + own)
                | {"platform": {"architecture": architecture, "os": "linux"}}
            )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return self._name(tag, self._add_document(index, OCI_INDEX), common)

    def _name(
        self, tag: str, top: dict[str, Any], layers: list[tuple[dict[str, Any], str]]
    ) -> Image:
        self._entries.append(top | {"annotations": {REF_NAME: tag}})
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self._entries}
        (self.folder / "index.json").write_text(json.dumps(index))
        size = sum(layer["size"] for layer, _ in layers)
        return Image(self.folder, tag, top["digest"], tuple(diff for _, diff in layers), size)

    def _add_manifest(
        self, architecture: str, layers: list[tuple[dict[str, Any], str]]
    ) -> dict[str, Any]:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._add_document(config, OCI_CONFIG),
            "layers": [descriptor for descriptor, _ in layers],
        }
        return self._add_document(manifest, OCI_MANIFEST)

    def _add_document(self, document: dict[str, Any], media_type: str) -> dict[str, Any]:
        content = json.dumps(document).encode()
        sha = hashlib.sha256(content).hexdigest()
        (self._blobs / sha).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{sha}", "size": len(content)}

    def _add_layer(self, seed: str, megabytes: float) -> tuple[dict[str, Any], str]:
        """A gzipped tar of files that do not compress; its descriptor and the digest of the tar."""
        part = self.folder / "part"
        with part.open("wb") as file:
            stored = _Sink(file)
            with gzip.GzipFile(  # level 0: these files do not compress, and trying takes long
                filename="", fileobj=stored, mode="wb", compresslevel=0, mtime=0
            ) as packed:
                plain: Any = _Sink(packed)
                with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    for number, content in enumerate(_contents(seed, int(megabytes * 1_000_000))):
                        info = tarfile.TarInfo(f"data/{seed}/{number:03d}.bin")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
        part.rename(self._blobs / stored.sha.hexdigest())
        descriptor = {"mediaType": OCI_LAYER, "digest": stored.digest, "size": stored.size}
        return descriptor, plain.digest


def _contents(seed: str, size: int) -> Iterator[bytes]:
    generator = random.Random(seed)
    while size > 0:
        length = min(size, _FILE_BYTES)
        yield generator.randbytes(length)
        size -= length


def blobs_of(folder: Path) -> dict[str, int]:
    """Digest and size of every blob in a layout or a `dir:` folder, hashed again from its bytes."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and len(path.name) == 64:
            with path.open("rb") as file:
                sha = digest_of_file(file)
            assert sha == f"sha256:{path.name}", f"{path} does not hold what its name says"
            found[sha] = path.stat().st_size
    return found


def digest_of_file(file: io.BufferedReader) -> str:
    """The digest of what is left of an open file."""
    return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
