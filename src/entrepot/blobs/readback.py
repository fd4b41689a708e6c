"""Reading a stored object again, to see what its bytes are by now."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from entrepot.blobs.faults import storage_faults
from entrepot.model.digests import new_hash
from entrepot.model.errors import EntrepotError, ObjectMissing, StorageFailed

_PIECE_BYTES = 256 * 1024  # stays in the processor's cache between the copy and the hash


def missing(path: Path) -> EntrepotError:
    """What it means that an object is not there: without its folder the whole store is away."""
    if path.parent.is_dir():
        return ObjectMissing("a stored object is missing", key=path.name)
    message = "the registry's disk failed; its operator has been told"
    return StorageFailed(message, doing="look at an object", missing=str(path.parent))


@dataclass(frozen=True, slots=True)
class Found:
    """What an object is. `stamp` is from before its bytes were read: a later change shows."""

    size: int
    hex: str
    stamp: int


class ReadBack:
    """One object, hashed slice by slice. For any thread, one at a time."""

    def __init__(self, path: Path, algorithm: str) -> None:
        """Open it. Raises ObjectMissing, StorageFailed."""
        with storage_faults("read an object"):
            try:
                self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise missing(path) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            message = "a stored object is no file"
            raise ObjectMissing(message, key=path.name)
        self._stamp = status.st_ctime_ns
        self._hash = new_hash(algorithm)
        self._size = 0
        self._buffer = memoryview(bytearray(_PIECE_BYTES))

    def step(self, most: int) -> int:
        """Hash up to `most` bytes more; how many, 0 at the end. Raises StorageFailed."""
        begun = self._size
        with storage_faults("read an object"):
            while (wanted := min(_PIECE_BYTES, begun + most - self._size)) > 0:
                count = os.preadv(self._fd, [self._buffer[:wanted]], self._size)
                if not count:
                    break
                self._hash.update(self._buffer[:count])
                self._size += count
        return self._size - begun

    def found(self) -> Found:
        """What was read."""
        return Found(self._size, self._hash.hexdigest(), self._stamp)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
