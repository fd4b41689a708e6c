"""Blobs on their way in: one file per fetch and node, written by one process and read by many.

The file itself tells every process of the node how the fetch stands: its size is what has come, a
lock says that its writer lives, read-only means that the digest of all its bytes was seen to be
right, and a file without a name that is not read-only was given up.
"""

import asyncio
import fcntl
import os
import re
import secrets
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from entrepot.blobs.faults import storage_faults, sync_faults
from entrepot.blobs.space import Space
from entrepot.blobs.threads import finish, settle
from entrepot.model.digests import Digest, new_hash
from entrepot.model.errors import StorageFailed

if TYPE_CHECKING:
    from hashlib import _Hash

T = TypeVar("T")

_ID = re.compile(r"[0-9a-f]{32}(?:\.[0-9a-f]{8})?")  # of a fetch, or an object's key
_THREADS = 16
_GROWING, _SEALED = 0o600, 0o400
# Nobody waits for the sync at the end of a fetch: syncing earlier would only slow readers down.
_SYNC_EVERY = 4 * 1024 * 1024 * 1024
_SPACE_EVERY = 16 * 1024 * 1024
_READ_BYTES = 1024 * 1024
# The page cache takes folios as large as a write. Large ones are seldom at hand: the host of a
# virtual machine has to find them first, which was measured at ten times the price of the copy.
_WRITE_BYTES = 256 * 1024
_BLOCK = 512  # what st_blocks counts
_EXPECTED = "user.entrepot.size"
# struct flock of Linux on 64 bits: l_type, l_whence, l_start, l_len, l_pid
_FLOCK = "hhqqi4x"


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What the file tells. `is_gone`: without a name, and not because it was finished."""

    size: int
    is_sealed: bool
    is_gone: bool


class SpoolFolder:
    """The spools of this node, on a disk that keeps `low_water_bytes` free."""

    def __init__(self, folder: Path, *, low_water_bytes: int) -> None:
        self._folder = folder
        self._space = Space(folder, low_water_bytes)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="spools")

    def prepare(self) -> None:
        """Make the folder. Raises StorageFull, StorageFailed."""
        with storage_faults("make the spool folder"):
            self._folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Wait for the threads."""
        self._executor.shutdown()

    def require_space(self) -> None:
        """Raises StorageFull, StorageFailed where the disk takes no more."""
        self._space.require()

    def new_id(self) -> str:
        """A name that no spool had; the object that it becomes has it as its key."""
        return secrets.token_hex(16)

    def write(self, id: str, digest: Digest, *, is_new: bool) -> "Spool | None":  # noqa: A002
        """Be the spool's one writer, making it when `is_new`; None while another process is.

        A new one is empty, whatever lay there. One that its writer left behind has to be read
        before it can go on: `Spool.catch_up`. None as well where there is none.
        """
        path, flags = self._path(id), os.O_RDWR | (os.O_CREAT if is_new else 0)
        with storage_faults("open a spool"):
            try:
                fd = os.open(path, flags | os.O_CLOEXEC, _GROWING)
            except FileNotFoundError:
                if is_new:
                    raise
                return None
            if not _lock(fd, path):
                os.close(fd)
                return None
            if is_new and os.fstat(fd).st_size:
                # Of a writer that died; whoever reads it sees that nobody goes on.
                path.unlink()
                os.close(fd)
                return self.write(id, digest, is_new=True)
        return Spool(self._executor, fd, path, digest, self._space)

    def look(self, id: str) -> "SpoolView | None":  # noqa: A002
        """Read a spool that another process writes; None where there is none."""
        try:
            with storage_faults("open a spool"):
                fd = os.open(self._path(id), os.O_RDONLY | os.O_CLOEXEC)
        except StorageFailed as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return SpoolView(fd, self._executor)

    def names(self) -> list[str]:
        """The spools there are."""
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            return [entry.name for entry in entries if _ID.fullmatch(entry.name)]
        return []

    def used_bytes(self, *, besides: "Spool | None" = None) -> int:
        """How much the other spools take, or were said to take before long."""
        used = 0
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if besides is not None and entry.name == besides.path.name:
                    continue
                with suppress(FileNotFoundError):
                    used += max(entry.stat().st_blocks * _BLOCK, _expected(entry.path))
        return used

    def remove_left(self, id: str) -> bool:  # noqa: A002
        """Remove a spool that nobody writes; whether there was one."""
        path = self._path(id)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if not _lock(fd, path):
                return False
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(fd)

    def _path(self, id: str) -> Path:  # noqa: A002
        if _ID.fullmatch(id) is None:
            message = "not the name of a spool"
            raise ValueError(message)
        return self._folder / id


class SpoolView:
    """A spool's bytes, and what the file tells."""

    def __init__(self, fd: int, executor: ThreadPoolExecutor) -> None:
        self.fd = fd
        self._executor = executor

    def state(self) -> SpoolState:
        """How it stands: one system call."""
        status = os.fstat(self.fd)
        is_sealed = not status.st_mode & 0o200
        return SpoolState(status.st_size, is_sealed, status.st_nlink == 0 and not is_sealed)

    def mark_read(self) -> None:
        """Let the writer see that somebody outside of its process reads this."""
        lock = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        with suppress(OSError):
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock)

    async def read(self, start: int, most: int) -> bytes:
        """Up to `most` bytes from `start` on; in a thread where they are not in memory.

        Raises StorageFailed.
        """
        if most > 0 and self._is_in_memory(start + most - 1):
            return self._read(start, most)
        return await _run(self._executor, self._read, start, most)

    def _is_in_memory(self, position: int) -> bool:
        """Whether reading up to there does not wait for the disk.

        Asked of one byte, so that the bytes themselves are copied once.
        """
        try:
            return os.preadv(self.fd, [bytearray(1)], position, os.RWF_NOWAIT) == 1
        except OSError:
            return False

    def _read(self, start: int, most: int) -> bytes:
        with storage_faults("read a spool"):
            return os.pread(self.fd, most, start)

    def close(self) -> None:
        """Let go of the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Spool:
    """A spool, locked for as long as this is open, with the running hash of all its bytes."""

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        fd: int,
        path: Path,
        digest: Digest,
        space: Space,
    ) -> None:
        self._executor = executor
        self._fd = fd
        self.path = path
        self._digest = digest
        self._space = space
        self._hash: _Hash = new_hash(digest.algorithm)
        self._synced = 0
        self._space_until = 0
        self._syncing: asyncio.Future[None] | None = None
        self.size = 0

    def view(self) -> SpoolView:
        """The same file for reading; lives on when the spool was closed."""
        return SpoolView(os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY), self._executor)

    def has_readers(self) -> bool:
        """Whether another process reads it."""
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, wanted)
        except OSError:
            return True
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    async def catch_up(self) -> None:
        """Read what a writer before us left, and go on behind it. Raises StorageFailed."""
        with storage_faults("read a spool"):
            os.fchmod(self._fd, _GROWING)  # what a dead process has seen counts for nothing
            end = os.fstat(self._fd).st_size
        for piece in self._pieces(end):
            await _run(self._executor, self._hash_piece, *piece)

    def _pieces(self, end: int) -> Iterator[tuple[int, int]]:
        for start in range(0, end, _READ_BYTES):
            yield start, min(_READ_BYTES, end - start)

    def _hash_piece(self, start: int, length: int) -> None:
        with storage_faults("read a spool"):
            piece = os.pread(self._fd, length, start)
        self._hash.update(piece)
        self.size = start + len(piece)

    def expect(self, size: int) -> None:
        """Have every process of this node count so many bytes before they have come.

        Where files have no attributes, only what has come counts.
        """
        with suppress(OSError):
            os.setxattr(self._fd, _EXPECTED, b"%d" % size)

    def append(self, piece: bytes) -> "asyncio.Future[None]":
        """Begin to write `piece` in a thread; one at a time. Raises StorageFull, StorageFailed."""
        return asyncio.get_running_loop().run_in_executor(self._executor, self._append, piece)

    def _append(self, piece: bytes) -> None:
        with storage_faults("write a spool"):
            if self.size >= self._space_until:
                self._space_until = self.size + _SPACE_EVERY
                self._space.require()
            written, content = 0, memoryview(piece)
            while written < len(piece):
                part = content[written : written + _WRITE_BYTES]
                written += os.pwrite(self._fd, part, self.size + written)
        self._hash.update(piece)
        self.size += written

    async def sync_ahead(self) -> None:
        """Start a sync when much was written since the last. Raises StorageFailed."""
        if self._syncing is not None and self._syncing.done():
            await self._syncing
            self._syncing = None
        if self._syncing is None and self.size - self._synced >= _SYNC_EVERY:
            self._synced = self.size
            self._syncing = asyncio.get_running_loop().run_in_executor(self._executor, self._sync)

    def _sync(self) -> None:
        with sync_faults("sync a spool"):
            os.fdatasync(self._fd)

    def is_right(self) -> bool:
        """Whether the bytes so far are those that the digest names."""
        return self._hash.hexdigest() == self._digest.hex

    def seal(self) -> None:
        """Tell every process of this node that the digest is right."""
        with storage_faults("seal a spool"):
            os.fchmod(self._fd, _SEALED)
        with suppress(OSError):
            os.removexattr(self._fd, _EXPECTED)  # an object says nothing of how it came

    async def durable(self) -> None:
        """Have all bytes on the disk. Raises StorageFailed."""
        if self._syncing is not None:
            await asyncio.shield(self._syncing)  # the kernel tells of a failure once
            self._syncing = None
        await _run(self._executor, self._sync)

    def rename(self, id: str) -> None:  # noqa: A002
        """Give it the name of a new leader's fetch. Raises StorageFailed."""
        with storage_faults("rename a spool"):
            path = self.path.with_name(id)
            self.path.rename(path)
            self.path = path

    def discard(self) -> None:
        """Give it up: whoever reads it sees that."""
        with storage_faults("remove a spool"):
            self.path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Let go of the file once nothing writes to it any more."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            await settle(syncing)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _expected(path: str) -> int:
    try:
        return int(os.getxattr(path, _EXPECTED))
    except OSError:
        return 0


def _lock(fd: int, path: Path) -> bool:
    """Lock the file; whether nobody else has it, and the name still leads to it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(), os.fstat(fd))
    except (BlockingIOError, FileNotFoundError):
        return False


async def _run(executor: ThreadPoolExecutor, work: Callable[..., T], *values: object) -> T:
    """Run in a thread; a cancelled caller waits until the thread has let go of the file."""
    return await finish(asyncio.get_running_loop().run_in_executor(executor, work, *values))
