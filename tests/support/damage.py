"""What happens to files on disks: every kind of damage, done to a stored object."""

import os
from collections.abc import Callable
from pathlib import Path


def flip(path: Path) -> None:
    """One bit is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _change(path, lambda: path.write_bytes(content))


def truncate(path: Path) -> None:
    """The last byte is gone."""
    _change(path, lambda: os.truncate(path, path.stat().st_size - 1))


def zero(path: Path) -> None:
    """A range has become zeros."""
    size = path.stat().st_size
    content = path.read_bytes()
    _change(path, lambda: path.write_bytes(content[: size // 4] + bytes(size - size // 4)))


def remove(path: Path) -> None:
    """The file is gone."""
    path.unlink()


def swap(path: Path, other: Path) -> None:
    """Each has the other's bytes, and its times."""
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)
    touch(path)
    touch(other)


def rot(path: Path) -> None:
    """As `flip`, and nobody can tell from outside: the disk itself has changed.

    A file system does not let anybody set the stamp, so whoever calls this sets the blob's.
    """
    flip(path)


def touch(path: Path) -> None:
    """Nothing has changed but the stamp, as by a copy from a backup."""
    _change(path, lambda: os.utime(path))


def _change(path: Path, change: Callable[[], object]) -> None:
    """Until the stamp shows it: a file system's clock ticks every few milliseconds."""
    before = path.stat().st_ctime_ns
    change()
    while path.stat().st_ctime_ns == before:
        os.utime(path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": truncate,
    "zeroed": zero,
    "removed": remove,
}
