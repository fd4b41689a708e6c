"""Giving synced bytes their final name, so that the name survives power loss too."""

import errno
import os
import shutil
from pathlib import Path

from entrepot.blobs.faults import storage_faults, sync_faults

_COPY_BYTES = 1024 * 1024


def move_durably(staged: Path, final: Path) -> int:
    """Rename, or copy to another file system, and sync the folder; the file's stamp then.

    Raises StorageFull, StorageFailed.
    """
    with sync_faults("store an object"):
        try:
            staged.rename(final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with storage_faults("copy an object"):
                _copy_durably(staged, final)
        return settle_name(final)


def settle_name(final: Path) -> int:
    """Make a file's name durable; the file's stamp, which a rename changes."""
    stamp = final.stat().st_ctime_ns
    sync_folder(final.parent)
    return stamp


def _copy_durably(staged: Path, final: Path) -> None:
    """The name comes last: a crash leaves no half."""
    partial = final.with_name(f"{final.name}.part")
    try:
        with staged.open("rb") as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)
            target.flush()
            os.fdatasync(target.fileno())
        partial.rename(final)
    finally:
        partial.unlink(missing_ok=True)
    staged.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
