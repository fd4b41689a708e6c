"""What a registry must hold and answer, as plain sets and dictionaries."""

import hashlib
import json
from dataclasses import dataclass, field

from tests.support.server import OCI_INDEX, OCI_MANIFEST

HOUR = 3_600_000_000
DAY = 24 * HOUR
TOKEN_LIFE = 2 * HOUR
PULL_LIFE = HOUR  # of a pull token that nobody gave another end
SESSION_LIFE = 7 * DAY
COMMITTED_LIFE = DAY

READ, WRITE, DELETE = "pull", "push", "delete"
UNTAG = "delete-tag"  # the part of deleting that projects have too
ALL = frozenset({READ, WRITE, DELETE})


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


BLOBS = [b"", b"a", b"layer " * 50, b'{"architecture": "amd64"}', b"z" * 3_000]


@dataclass(frozen=True)
class Manifest:
    """A document and all that it needs."""

    body: bytes
    media_type: str
    blobs: frozenset[str]
    children: frozenset[str]
    subject: str | None = None

    @property
    def digest(self) -> str:
        return digest_of(self.body)


def image(config: int, layers: list[int], subject: str | None = None) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _part(digest_of(BLOBS[config]), "application/vnd.test.config"),
        "layers": [
            _part(digest_of(BLOBS[layer]), "application/vnd.test.layer") for layer in layers
        ],
    }
    if subject is not None:
        document["subject"] = _part(subject, OCI_MANIFEST)
    blobs = frozenset(digest_of(BLOBS[number]) for number in [config, *layers])
    return Manifest(json.dumps(document).encode(), OCI_MANIFEST, blobs, frozenset(), subject)


def index(children: list[str], note: int = 0) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_part(child, OCI_MANIFEST) for child in children],
        "annotations": {"note": str(note)},
    }
    return Manifest(json.dumps(document).encode(), OCI_INDEX, frozenset(), frozenset(children))


def _part(digest: str, media_type: str) -> dict[str, object]:
    return {"digest": digest, "size": 1, "mediaType": media_type}


@dataclass(frozen=True)
class Place:
    """Where a repository is: its organisation, its path there, its project if it has one."""

    organisation: str
    path: str
    project: str | None = None


@dataclass
class Holdings:
    """What one repository has now, and what each of its tags was."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    history: dict[str, list[str]] = field(default_factory=dict)

    def lacks(self, manifest: Manifest) -> bool:
        return not (manifest.blobs <= self.blobs and manifest.children <= self.manifests.keys())

    def put(self, manifest: Manifest, tags: list[str]) -> None:
        self.manifests[manifest.digest] = manifest
        for tag in tags:
            if self.tags.get(tag) != manifest.digest:
                self.history.setdefault(tag, []).append(manifest.digest)
            self.tags[tag] = manifest.digest

    def is_listed(self, digest: str) -> bool:
        return any(digest in other.children for other in self.manifests.values())

    def is_needed(self, digest: str) -> bool:
        return any(digest in other.blobs for other in self.manifests.values())

    def remove(self, digest: str) -> None:
        del self.manifests[digest]
        self.tags = {tag: named for tag, named in self.tags.items() if named != digest}


@dataclass
class Token:
    """A credential as the model knows it; `text` is None for nobody."""

    text: str | None
    kind: str
    organisation: str
    project: str | None = None
    actions: frozenset[str] = ALL
    expires_at: int | None = None
    is_revoked: bool = False

    def is_alive(self, now: int) -> bool:
        return not self.is_revoked and (self.expires_at is None or now < self.expires_at)

    def rights(self, place: Place) -> frozenset[str]:
        """What it may do there while it is alive."""
        if place.organisation != self.organisation:
            return frozenset()
        match self.kind:
            case "user" | "org":
                allowed = ALL | {UNTAG}
            case "project":
                is_there = place.project == self.project
                allowed = frozenset({READ, WRITE, UNTAG}) if is_there else frozenset()
            case _:  # pull, or nobody
                is_there = self.project is None or place.project == self.project
                allowed = frozenset({READ}) if is_there else frozenset()
        return allowed & (self.actions | ({UNTAG} if DELETE in self.actions else set()))


@dataclass
class Session:
    """An upload as its owner knows it."""

    location: str
    place: Place
    token: Token
    expires_at: int
    data: bytes = b""
    digest: str | None = None
