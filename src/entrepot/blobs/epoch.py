"""A number beside the objects that only grows: which of database and store is the older one."""

import fcntl
import os
from pathlib import Path

from entrepot.blobs.faults import storage_faults
from entrepot.blobs.moving import sync_folder
from entrepot.model.errors import StorageFailed

_DIGITS = 20


class EpochFile:
    """The number in a file. Written in place: so few bytes are in one sector."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The number; 0 before there was one. Raises StorageFailed."""
        with storage_faults("read the epoch of collection"):
            try:
                return _number(self._path.read_bytes())
            except FileNotFoundError:
                return 0

    def advance(self, value: int) -> None:
        """Let the number be at least this, durably. Raises StorageFailed, StorageFull."""
        with storage_faults("write the epoch of collection"):
            is_new = not self._path.exists()
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _number(os.pread(file, _DIGITS, 0)) < value:
                    os.pwrite(file, f"{value:0{_DIGITS}}".encode(), 0)
                    os.fdatasync(file)
            finally:
                os.close(file)
            if is_new:
                sync_folder(self._path.parent)


def _number(text: bytes) -> int:
    try:
        return int(text or b"0")
    except ValueError as error:
        message = "the epoch of collection cannot be read; run `entrepot admin fsck`"
        raise StorageFailed(message, found=text[:_DIGITS].hex()) from error
