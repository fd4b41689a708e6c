"""What services need of whatever keeps the bytes: a folder, or an object store.

Keys are opaque and write-once, and the database alone says which object is a blob's. An upload in
an object store is a list of segments, one or more for each request that brought bytes; a folder has
none, its upload is one file.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from entrepot.blobs.answers import File
from entrepot.blobs.readback import Found
from entrepot.blobs.spool import Spool
from entrepot.blobs.stored import Stored
from entrepot.model.errors import EntrepotError
from entrepot.model.stored import Segment

if TYPE_CHECKING:
    from hashlib import _Hash

_PARTS = ".parts"


def parts_key(upload_key: str) -> str:
    """The key of a blob that is still the segments of its upload."""
    return f"{upload_key}{_PARTS}"


def upload_of(key: str) -> str | None:
    """The key of the upload whose segments are the blob at `key`; None where that is one object."""
    upload_key = key.removesuffix(_PARTS)
    return None if upload_key == key else upload_key


@dataclass(frozen=True, slots=True)
class Placed:
    """Where bytes are for good, and what the store says of them."""

    key: str
    stamp: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Something that lies among the objects; not `is_object`: nothing of ours has such a name.

    `stamp` is when it was last changed, in ns since the epoch.
    """

    folder: str
    name: str
    size: int
    stamp: int
    is_object: bool


class Upload(Protocol):
    """One request's way of adding to an upload."""

    def open(self, *, is_new: bool) -> None:
        """Be its one writer, where the store knows such a thing. Raises Conflict, ObjectMissing."""

    def resume(self, size: int, segments: Sequence[Segment]) -> None:
        """Go on behind what was acknowledged. Raises ObjectMissing where less is there."""

    async def append(
        self,
        pieces: AsyncIterator[bytes],
        offset: int,
        hashes: "list[_Hash]",
        length: int | None = None,
    ) -> tuple[int, EntrepotError | None]:
        """Write what arrives from `offset` on, and feed it to `hashes`.

        `length` is what the client has announced. Where the bytes end now, and what stopped them
        from arriving, if anything did.
        """

    @property
    def added(self) -> Sequence[Segment]:
        """The segments that `append` wrote: they count once rows name them."""

    async def digest(self, algorithm: str, size: int) -> str:
        """The hex digest of the first `size` bytes, read back. Raises StorageFailed."""

    async def commit(self) -> Placed:
        """Make the bytes durable for good. Raises StorageFailed."""

    async def discard(self) -> None:
        """Remove what this writer has written and nobody acknowledged; a folder: the whole file."""

    async def close(self) -> None:
        """Let go once nothing is being written any more."""


class BlobStore(Protocol):
    """The objects, and the uploads that become them."""

    @property
    def boot_id(self) -> str:
        """While this is the same, bytes that were written once are still there."""

    @property
    def has_segments(self) -> bool:
        """Whether uploads are lists of segments."""

    def prepare(self) -> None:
        """Make what has to be there. Raises StorageFull, StorageFailed, StartRefused."""

    def close(self) -> None:
        """Wait for what is running."""

    def new_key(self) -> str:
        """A key that nothing was ever stored under: 32 hex digits."""

    def open(self, key: str, size: int) -> File | Stored:
        """Where an object's bytes are; for the event loop. Raises ObjectMissing, StorageFailed."""

    def open_segments(self, segments: Sequence[Segment]) -> Stored:
        """The bytes of several objects, one behind the other."""

    def stamp(self, key: str, size: int) -> int:
        """What the store says of an object now; for the event loop.

        Raises ObjectMissing, StorageFailed where it knows of a fault.
        """

    def require(self, key: str, size: int) -> None:
        """Ask for one object whether it is there and as long; may block.

        Raises ObjectMissing, StorageFailed.
        """

    async def read_back(
        self,
        keys: Sequence[str],
        algorithm: str,
        pause: Callable[[int], Awaitable[None]] | None = None,
    ) -> Found:
        """What the bytes are now that lie there, one behind the other.

        `pause` is awaited after each slice, with its bytes. Raises ObjectMissing, StorageFailed.
        """

    def upload(self, key: str) -> Upload:
        """An upload, to be opened by the caller."""

    async def adopt(self, spool: Spool, key: str) -> int:
        """Make a spool's bytes durable under a key of their own; the object's stamp.

        Raises StorageFull, StorageFailed.
        """

    def remove(self, key: str) -> None:
        """Delete an object that no row points at; may block. Raises StorageFailed."""

    def leftovers(self, upload_key: str) -> list[str]:
        """Keys of all objects that an upload may have left; may block. Raises StorageFailed."""

    def staged_before(self, moment: float) -> list[str]:
        """Keys of uploads whose bytes are no objects yet, untouched since then (POSIX seconds)."""

    def abort_before(self, moment: float) -> int:
        """End transfers that were begun before then and never ended; how many; may block."""

    def folders(self) -> list[str]:
        """The parts that the objects lie in."""

    def listed(self, folder: str) -> list[StoredObject]:
        """All that lies in one of them; may block. Raises StorageFailed."""

    def is_there(self, stored: StoredObject) -> bool:
        """Whether something that was listed still is; may block. Raises StorageFailed."""

    def read_epoch(self) -> int:
        """How often collection has deleted objects, as the store knows. Raises StorageFailed."""

    def advance_epoch(self, value: int) -> None:
        """Let that be at least `value`, durably. Raises StorageFailed, StorageFull."""

    def is_low(self) -> bool:
        """Whether pushes are refused for want of space."""

    def require_space(self) -> None:
        """Raises StorageFull where pushes are refused."""
