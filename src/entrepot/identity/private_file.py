"""Files that hold secrets of the server: whole or not at all, and for their owner's eyes."""

import os
import secrets
from pathlib import Path

from entrepot.model.errors import StorageFailed


def write_private(path: Path, text: str) -> None:
    """Put `text` in the place of the file, whole and on the disk, for its owner alone.

    The owner stays: the server may run as somebody else than we do. Raises StorageFailed.
    """
    try:
        _write(path.resolve(), text)
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    for stray in path.parent.glob(f".{path.name}.*"):  # of a run that was killed
        stray.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(draft, "x", opener=_private) as file:  # Path.open has no opener
        file.write(text)
        file.flush()
        if path.exists() and (owner := path.stat()).st_uid != os.geteuid():
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
