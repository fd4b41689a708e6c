"""A node's cache of objects that lie in an object store: copies, as many as there is room for.

`cache/objects/KEY` is a copy, whole and verified, `cache/filling/KEY` one that is being made, in
the form of a spool. All processes of the node share them, and the count of their bytes in
`cache/room`; whoever changes that holds a lock on it. A copy is worth what it takes to fetch it
again: where anything is wrong with one it is removed, and the store has the object.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

import structlog

from entrepot.blobs.answers import File
from entrepot.blobs.faults import storage_faults
from entrepot.blobs.space import Space
from entrepot.blobs.spool import Spool, SpoolFolder, SpoolView
from entrepot.model.clock import DAY, MINUTE, SECOND, Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import StorageFailed, StorageFull
from entrepot.telemetry.observe import Observe, ignore

_SHARE = 8  # a copy takes at most this part of the room
_SLACK = 16  # so much of it is freed at once, because it takes a look at all copies
_NANOSECONDS = 1_000
_UNUSED = DAY  # what nobody asks for goes, also because its blob may be deleted by now
_NOTED = MINUTE  # a use is noted once in this time
_KEPT = 2 * _NOTED  # since its noted use, a copy that somebody may be about to open
_LOOK_AGAIN = SECOND  # for room, after there was none

log = structlog.get_logger()


class CacheFolder:
    """The cache of this node: copies of at most `room` bytes together; with 0 there are none."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        room: int,
        low_water_bytes: int,
        observe: Observe = ignore,
    ) -> None:
        self._objects = folder / "objects"
        self._count = folder / "room"
        self._clock = clock
        self._room = room
        self._observe = observe
        self._space = Space(self._objects, low_water_bytes)
        self._filling = SpoolFolder(folder / "filling", low_water_bytes=low_water_bytes)
        self._made = SpoolFolder(self._objects, low_water_bytes=low_water_bytes)
        self._crowded_at = 0

    def prepare(self) -> None:
        """Make the folders, if they are to be used. Raises StorageFull, StorageFailed."""
        if self._room:
            self._made.prepare()
            self._filling.prepare()

    def close(self) -> None:
        """Wait for the threads."""
        self._filling.close()
        self._made.close()

    def takes(self, size: int) -> bool:
        """Whether an object of this size may have a copy."""
        return size <= self._room // _SHARE

    def find(self, key: str, size: int) -> File | None:
        """The copy of an object: one system call, and a note of the use now and then."""
        path = self._objects / key
        try:
            found = path.stat()
        except OSError:  # there is none, or the disk fails: the store has the object
            return None
        if not _is_as_made(found, key, size):
            self._drop_changed(path)
            return None
        now = self._clock.now() * _NANOSECONDS
        if abs(now - found.st_atime_ns) > _NOTED * _NANOSECONDS:
            with suppress(OSError):
                os.utime(path, ns=(now, _mark(key)))
        return File(path, size, found.st_ctime_ns)

    def begin(self, key: str, digest: Digest, size: int) -> Spool | None:
        """Make room for a copy and be the one to write it; None when another process is, or was.

        May block. Raises StorageFull, StorageFailed.
        """
        with self._counted() as counted:
            if self.find(key, size) is not None:
                return None
            self._space.require(size)
            taken = counted if counted + size <= self._room else self._make_room(size)
            spool = self._filling.write(key, digest, is_new=True)
            if spool is not None:
                spool.expect(size)
                self._note(taken + size)
            return spool

    def look(self, key: str) -> SpoolView | None:
        """What another process writes, or has written by now."""
        return self._filling.look(key) or self._made.look(key)

    async def keep(self, spool: Spool, key: str) -> None:
        """Let a copy that was found right be one from now on. Raises StorageFailed."""
        await spool.durable()
        with storage_faults("keep a copy"):
            os.utime(spool.path, ns=(self._clock.now() * _NANOSECONDS, _mark(key)))
            spool.path.rename(self._objects / key)

    def give_up(self, spool: Spool, size: int) -> None:
        """Remove one that does not become a copy; may block."""
        with suppress(StorageFailed, StorageFull):
            spool.discard()
            with self._counted() as taken:
                self._note(max(0, taken - size))

    def sweep(self) -> None:
        """Remove what nobody has used for a day, and what dead processes left; may block.

        Raises StorageFailed.
        """
        if self._room:
            with self._counted():
                self._free(0, unused=_UNUSED)

    @contextmanager
    def _counted(self) -> Iterator[int]:
        """Hold the lock, and have the count; looked after where nobody has counted yet."""
        with storage_faults("count the copies"):
            fd = os.open(self._count, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with storage_faults("count the copies"):
                fcntl.flock(fd, fcntl.LOCK_EX)
                text = os.pread(fd, 20, 0)
            yield int(text) if text.isdigit() else self._free(0)
        finally:
            os.close(fd)

    def _note(self, taken: int) -> None:
        with storage_faults("count the copies"):
            self._count.write_text(f"{taken:020}")

    def _make_room(self, size: int) -> int:
        """Free so much; how much the other copies take. Raises StorageFull where all are in use."""
        if abs(self._clock.now() - self._crowded_at) >= _LOOK_AGAIN:
            taken = self._free(size)
            if taken + size <= self._room:
                return taken
            self._crowded_at = self._clock.now()
        raise StorageFull("all copies of this node are in use; there is room for no other")

    def _free(self, size: int, *, unused: int | None = None) -> int:
        """Look at all copies, and remove the least used until `size` fits; how much they take.

        With `unused` those go as well that nobody has asked for in so long. What was handed out
        just now stays: whoever has it opens it when its answer has begun.
        """
        with storage_faults("look at the copies"):
            for name in self._filling.names():
                self._filling.remove_left(name)
            copies = sorted(self._listed())
            taken = sum(length for _, length, _ in copies) + self._filling.used_bytes()
        most = self._room - size
        if taken > most:
            most -= self._room // _SLACK
        before = 0 if unused is None else (self._clock.now() - unused) * _NANOSECONDS
        evicted = 0
        for used, length, path in copies:
            if taken <= most and used >= before:
                break
            if self._is_in_use(used):
                continue
            with storage_faults("remove a copy"), suppress(FileNotFoundError):
                if self._is_in_use(path.stat().st_atime_ns):  # by now
                    continue
                path.unlink()
            taken -= length
            evicted += 1
        self._observe("evicted", evicted)
        self._note(taken)
        return taken

    def _is_in_use(self, used: int) -> bool:
        return abs(self._clock.now() * _NANOSECONDS - used) < _KEPT * _NANOSECONDS

    def _listed(self) -> Iterator[tuple[int, int, Path]]:
        """When each copy was used last, its size, and where it is."""
        with os.scandir(self._objects) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    yield found.st_atime_ns, found.st_size, Path(entry.path)

    def _drop_changed(self, path: Path) -> None:
        log.warning("copy.changed", key=path.name)
        self._observe("failures", 1)
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _is_as_made(found: os.stat_result, key: str, size: int) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime_ns == _mark(key)


def _mark(key: str) -> int:
    """What the time of a copy's last change is set to: any later change shows, and so does a swap.

    Not the time of its inode's last change, as for objects: a note of its use would change that.
    """
    # Before 2004: the kernel notes each reading of a file that was changed after its last use.
    seconds = crc32(key.encode()) >> 2
    return seconds * SECOND * _NANOSECONDS
