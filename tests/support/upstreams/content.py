"""What a played registry holds: repositories with manifests, tags and blobs, put there by tests."""

import hashlib
import json
import random
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.server import digest_of

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the test put it there."""

    name: str
    digest: str
    body: bytes
    media_type: str
    config: str
    layers: tuple[str, ...]


@dataclass(slots=True)
class Content:
    """One repository."""

    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # type and body
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes | Path] = field(default_factory=dict)

    def put_blob(self, content: bytes | None = None, *, size: int = 1_000) -> str:
        """Hold a blob, of random bytes if none are given; its digest."""
        content = secrets.token_bytes(size) if content is None else content
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def put_file(self, path: Path, size: int, *, seed: str = "layer") -> str:
        """Hold a blob of any size, kept in a file; its digest. A seed makes the same bytes again."""
        generator, hashed = random.Random(seed), hashlib.sha256()
        with path.open("wb") as file:
            for start in range(0, size, _MIB):
                piece = generator.randbytes(min(_MIB, size - start))
                hashed.update(piece)
                file.write(piece)
        digest = f"sha256:{hashed.hexdigest()}"
        self.blobs[digest] = path
        return digest

    def put_manifest(
        self, document: dict[str, Any] | bytes, *tags: str, media_type: str = ""
    ) -> str:
        """Hold a manifest, by digest and under these tags; its digest."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        media_type = media_type or json.loads(body)["mediaType"]
        digest = digest_of(body)
        self.manifests[digest] = (media_type, body)
        for tag in tags:
            self.tags[tag] = digest
        return digest

    def size_of(self, digest: str) -> int:
        """How long a blob is."""
        blob = self.blobs[digest]
        return blob.stat().st_size if isinstance(blob, Path) else len(blob)

    def descriptor(self, digest: str, media_type: str) -> dict[str, Any]:
        """How a manifest names a blob of this repository."""
        return {"mediaType": media_type, "digest": digest, "size": self.size_of(digest)}

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject this is."""
        found = []
        for name, (media_type, body) in self.manifests.items():
            document = json.loads(body)
            if document.get("subject", {}).get("digest") == digest:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                found.append(
                    {
                        "mediaType": media_type,
                        "digest": name,
                        "size": len(body),
                        "artifactType": kind,
                    }
                )
        return found


def image_of(
    content: Content,
    layers: list[str],
    *,
    architecture: str = "amd64",
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest that joins layers that a repository holds, with a new configuration."""
    config = {
        "architecture": architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
        "id": secrets.token_hex(8),
    }
    config_digest = content.put_blob(json.dumps(config).encode())
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": content.descriptor(config_digest, OCI_CONFIG),
        "layers": [content.descriptor(layer, OCI_LAYER) for layer in layers],
        **(extra or {}),
    }


def schema1_of(name: str, tag: str) -> bytes:
    """A manifest of the schema that registries gave up in 2017."""
    return json.dumps(
        {
            "schemaVersion": 1,
            "name": name,
            "tag": tag,
            "architecture": "amd64",
            "fsLayers": [{"blobSum": digest_of(b"layer")}],
            "history": [{"v1Compatibility": "{}"}],
            "signatures": [],
        }
    ).encode()
