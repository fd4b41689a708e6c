"""Changing the file of secret keys: whole or not at all, one at a time, for its owner's eyes."""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from entrepot.identity.keys import MOST_KEYS, KeyRing, SecretKey
from entrepot.model.clock import Clock
from entrepot.model.errors import StartRefused, StorageFailed


def make_key_file(path: Path) -> None:
    """Write a new key to `path` unless something is there. Raises StorageFailed."""
    if not path.exists():
        write_keys(path, [SecretKey.new()])


def add_key(path: Path, ring: KeyRing) -> None:
    """Write a new key to `path` before those of `ring`, which follows the file.

    Raises StartRefused when the ring is full (MOST_KEYS), StorageFailed.
    """
    if len(ring.keys) >= MOST_KEYS:
        raise StartRefused(
            f"{path} holds {MOST_KEYS} keys, the most it may; remove the old ones first:"
            " entrepot admin rotate-key --forget-old"
        )
    key = SecretKey.new()
    write_keys(path, [key, *ring.keys])
    ring.find(key.id)  # not within a second: now


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep whoever else would change the key file away meanwhile. Raises StartRefused."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StartRefused(f"cannot use the folder {path.parent}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartRefused("another `entrepot admin rotate-key` runs; wait for it") from error
        yield
    finally:
        os.close(folder)


def age(path: Path, clock: Clock) -> int:
    """Microseconds since the file was written; below 0 when the clock was set back since."""
    return clock.now() - path.stat().st_mtime_ns // 1_000


def refuse_if_open(path: Path) -> None:
    """Raises StartRefused when others than its owner may read the file, if it is there."""
    if path.exists() and path.stat().st_mode & 0o077:
        raise StartRefused(f"{path} can be read by others; run: chmod 600 {path}")


def write_keys(path: Path, keys: Sequence[SecretKey]) -> None:
    """Put these keys in the place of the file, whole and on the disk, for its owner alone.

    The owner stays: the server may run as somebody else than we do. Raises StorageFailed.
    """
    try:
        _write(path.resolve(), keys)
    except OSError as error:
        raise StorageFailed(f"cannot write the secret key to {path}: {error.strerror}") from error


def _write(path: Path, keys: Sequence[SecretKey]) -> None:
    for stray in path.parent.glob(f".{path.name}.*"):  # of a run that was killed
        stray.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(draft, "x", opener=_private) as file:  # Path.open has no opener
        file.writelines(f"{key.text}\n" for key in keys)
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
