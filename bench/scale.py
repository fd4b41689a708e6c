"""How much work a run does: the full sizes that count, or quick ones that only show it works."""

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes and times of every row."""

    seconds: float
    """How long one run of a request-rate row lasts."""
    download: int
    """Bytes of the blob that is downloaded."""
    downloads: int
    """How many times each stream downloads it in one run."""
    upload: int
    """Bytes of an uploaded blob."""
    images: int
    """Images that each of the 16 pushers pushes in one run."""
    tags: int
    """Tags, and manifests, of the big repository."""
    few_tags: int
    """Tags of the small repository that it is compared with."""
    uploads_at_once: int
    """Parallel uploads while memory is watched."""
    cold: int
    """Bytes of a blob that is pulled through, unless a row says otherwise."""
    layer: int
    """Bytes of each of the 40 layers of an image that is pulled through."""
    shared: int
    """Bytes of a blob that 50 clients pull through at once."""
    thronged: int
    """Bytes of a blob that a thousand clients pull through at once."""
    throng: int
    """How many a thousand are."""
    unused: int
    """Blobs that nothing needs."""
    unused_for_long: int
    """As many of them as keep collection busy while a rate is measured."""
    old_tags: int
    """Tags that retention deletes."""
    largest: int
    """Bytes of the largest upload whose commit is timed."""
    parts: int
    """Parts that an upload has before the later ones are timed."""


FULL = Scale(
    seconds=5,
    download=256 * MIB,
    downloads=8,
    upload=GIB,
    images=10,
    tags=1_000_000,
    few_tags=1_000,
    uploads_at_once=20,
    cold=GIB,
    layer=8 * MIB,
    shared=128 * 10**6,
    thronged=20 * 10**6,
    throng=1000,
    unused=20_000,
    unused_for_long=60_000,
    old_tags=10_000,
    largest=10 * GIB,
    parts=1_000,
)
QUICK = Scale(
    seconds=1,
    download=32 * MIB,
    downloads=4,
    upload=64 * MIB,
    images=2,
    tags=20_000,
    few_tags=1_000,
    uploads_at_once=4,
    cold=64 * MIB,
    layer=MIB,
    shared=20 * 10**6,
    thronged=5 * 10**6,
    throng=200,
    unused=2_000,
    unused_for_long=8_000,
    old_tags=1_000,
    largest=256 * MIB,
    parts=50,
)
