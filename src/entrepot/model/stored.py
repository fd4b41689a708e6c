"""What is stored, as the parts of the registry speak of it."""

from dataclasses import dataclass

# Ends the key of a blob that is still the segments of its upload; before it stands the upload's.
IN_SEGMENTS = ".segments"


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed, byte for byte.

    `warning` says why it may be out of date: its upstream does not answer.
    """

    digest: str
    media_type: str
    protected_until: int
    size: int
    body: bytes
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ListedTag:
    """A tag and the manifest that it points at, whose are `size`, in bytes, and `pulled_at`."""

    name: str
    digest: str
    media_type: str
    size: int
    pushed_at: int
    pulled_at: int | None
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class HeldTag:
    """A tag of a pull-through repository; `checked_at` is 0 where no upstream was asked for it."""

    name: str
    digest: str
    is_pushed: bool
    checked_at: int


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """A manifest as lists show it. `size` is its own, in bytes; times are UTC microseconds."""

    digest: str
    media_type: str
    artifact_type: str | None
    subject: str | None
    size: int
    pushed_at: int
    pulled_at: int | None


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest whose `subject` is another (distribution-spec, "Listing Referrers")."""

    digest: str
    media_type: str
    size: int
    artifact_type: str | None
    annotations: str | None


@dataclass(frozen=True, slots=True)
class TagPage:
    """Names of tags in byte order, whether more follow, and why they may be out of date."""

    names: list[str]
    has_more: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ReferrerPage:
    """Referrers by digest, whether more may follow, and why they may be out of date."""

    found: list[Referrer]
    has_more: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class LinkedBlob:
    """A blob as one repository holds it.

    `stamp` is what the store said of its object when that was last known to be right. Damaged, it
    counts as not here for whoever could send it again.
    """

    digest: str
    size: int
    storage_key: str
    protected_until: int = 0
    stamp: int | None = None
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of an upload that are an object of their own; `start` is where they begin in it."""

    start: int
    size: int
    key: str


def segments_key(upload_key: str) -> str:
    """The key of a blob that is still the segments of its upload."""
    return f"{upload_key}{IN_SEGMENTS}"


def upload_of(key: str) -> str | None:
    """The key of the upload whose segments are the blob at `key`; None where that is one object."""
    upload_key = key.removesuffix(IN_SEGMENTS)
    return None if upload_key == key else upload_key


@dataclass(frozen=True, slots=True)
class UploadSession:
    """One upload: where its bytes are, how many came, and what they hash to so far, if known.

    `digest` counts while `boot_id` is the machine's current one: a row may become durable through
    somebody else's commit while the bytes that it speaks of did not. There are `segment_count`
    segments, none in a folder; `segments` are all of them for whoever ends it, and the last one
    alone for who adds.
    """

    id: str
    repository_id: int
    algorithm: str
    storage_key: str
    size: int
    digest: str | None
    boot_id: str | None
    created_at: int
    expires_at: int
    committed_at: int | None
    segment_count: int = 0
    segments: tuple[Segment, ...] = ()
