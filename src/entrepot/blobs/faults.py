"""The disk's errors become ours here."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.model.errors import StorageFailed, StorageFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def storage_faults(doing: str) -> Iterator[None]:
    """Raise StorageFull or StorageFailed for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = "the registry's disk is full; try again when its operator has made room"
            raise StorageFull(message, doing=doing, errno=error.errno) from error
        message = "the registry's disk failed; its operator has been told"
        raise StorageFailed(message, doing=doing, errno=error.errno) from error


@contextmanager
def sync_faults(doing: str) -> Iterator[None]:
    """Raise StorageFailed for whatever a sync reports, a full disk too.

    Written bytes did not reach the disk, and the kernel says so once: what was written is lost.
    """
    try:
        yield
    except OSError as error:
        message = "the registry's disk failed; its operator has been told"
        raise StorageFailed(message, doing=doing, errno=error.errno) from error
