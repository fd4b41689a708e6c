"""What services need of whatever keeps the bytes: a folder, or an object store.

Keys are opaque and write-once, and the database alone says which object is a blob's. An upload in
an object store is a list of segments, one or more for each request that brought bytes; a folder has
none, its upload is one file.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from entrepot.blobs.answers import File
from entrepot.blobs.readback import Found
from entrepot.blobs.spool import Spool
from entrepot.blobs.stored import Stored
from entrepot.model.errors import EntrepotError
from entrepot.model.stored import Segment

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True, slots=True)
class Placed:
    """Where bytes are for good, and what the store says of them."""

    key: str
    stamp: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Something that lies among the objects; not `is_object`: nothing of ours has such a name.

    `folder` is two hex digits. `stamp` is when it was last changed, in ns since the epoch.
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
        from arriving, if anything did. Raises StorageFull, StorageFailed, Unavailable: then nothing
        that came counts.
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


class Store(Protocol):
    """The objects, and the uploads that become them, wherever they are."""

    @property
    def boot_id(self) -> str:
        """While this is the same, bytes that were written once are still there."""

    def prepare(self) -> None:
        """Make what has to be there. Raises StorageFull, StorageFailed, StartRefused."""

    def close(self) -> None:
        """Wait for what is running."""

    def new_key(self) -> str:
        """A key that nothing was ever stored under: 32 hex digits."""

    def open(self, segments: Sequence[Segment]) -> File | Stored:
        """Where the bytes of objects are, one behind the other; for the event loop.

        Raises ObjectMissing, StorageFailed where it knows of a fault.
        """

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
        segments: Sequence[Segment],
        algorithm: str,
        pause: Callable[[int], Awaitable[None]] | None = None,
    ) -> Found:
        """What the bytes of objects are now, one behind the other.

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

    def listed(self) -> Iterator[list[StoredObject]]:
        """All that lies in the folders of the objects, which come in order; each step may block.

        Raises StorageFailed, Unavailable.
        """

    def is_there(self, stored: StoredObject) -> bool:
        """Whether something that was listed still is; may block. Raises StorageFailed."""

    def read_epoch(self) -> int:
        """How often collection has deleted objects, as the store knows. Raises StorageFailed."""

    def advance_epoch(self, value: int) -> None:
        """Let that be at least `value`, durably. Raises StorageFailed, StorageFull."""

    def ids(self) -> list[str]:
        """The ids that the store was given, sorted; may block. Raises StorageFailed, Unavailable.

        More than one where several nodes began at once.
        """

    def add_id(self, value: str) -> None:
        """Give it one, durably; may block. Raises StorageFull, StorageFailed, Unavailable."""

    def is_low(self) -> bool:
        """Whether pushes are refused for want of space."""

    def require_space(self) -> None:
        """Raises StorageFull where pushes are refused."""


class FolderStore(Store, Protocol):
    """Uploads are files until they are objects. What is several objects, it cannot open."""

    @property
    def has_segments(self) -> Literal[False]:
        """It has none."""

    def staged_before(self, moment: float) -> list[str]:
        """Keys of upload files that nothing has written to since then (POSIX seconds)."""


class BucketStore(Store, Protocol):
    """Uploads are lists of segments, each an object."""

    @property
    def has_segments(self) -> Literal[True]:
        """It has them."""

    def leftovers(self, upload_key: str) -> list[str]:
        """Keys of all objects that an upload may have left; may block.

        Raises StorageFailed, Unavailable.
        """

    def abort_before(self, moment: float) -> int:
        """End transfers that were begun before then and never ended; how many; may block.

        Raises StorageFailed, Unavailable.
        """


BlobStore = FolderStore | BucketStore
