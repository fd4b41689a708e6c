"""Changing the file of secret keys, one at a time."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from entrepot.identity.keys import MOST_KEYS, KeyRing, SecretKey
from entrepot.identity.private_file import write_private
from entrepot.model.clock import Clock
from entrepot.model.errors import StartRefused


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
    """Put these keys in the place of the file. Raises StorageFailed."""
    write_private(path, "".join(f"{key.text}\n" for key in keys))
