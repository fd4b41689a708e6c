"""The folders of this node: whether they can be written, and what room their disks have."""

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.cli.doctor.finding import Finding, Part
from entrepot.cli.preflight import file_system
from entrepot.config import Settings

_PART = Part("disk")
_FEW_INODES = 0.05  # of all
_IN_MEMORY = {"tmpfs", "ramfs"}
_ROOM = (
    "make room, such as with `entrepot admin gc`, use a larger disk, or lower"
    " ENTREPOT_BLOBS__LOW_WATER_BYTES"
)


@dataclass(slots=True)
class _Disk:
    """A file system, and which of our folders are on it."""

    path: Path
    folders: list[str] = field(default_factory=list)


def examine(settings: Settings) -> Iterator[Finding]:
    """Each folder, then each file system that they are on."""
    disks: dict[int, _Disk] = {}
    if is_closed(settings.data):
        yield _closed(settings.data)
        return
    for name, folder in _folders(settings).items():
        if (fault := _fault(folder)) is not None:
            yield fault
            continue
        disk = disks.setdefault(folder.stat().st_dev, _Disk(folder))
        disk.folders.append(name)
    yield from _owner(settings.data)
    for disk in disks.values():
        yield from _room(disk, settings.blobs.low_water_bytes)


def is_closed(folder: Path) -> bool:
    """Whether this user cannot even see what is in a folder, or whether there is one."""
    try:
        (folder / "anything").exists()
    except PermissionError:
        return True
    return False


def _closed(folder: Path) -> Finding:
    return _PART.error(f"this user may not look into {folder}", "run this as the server's user")


def _folders(settings: Settings) -> dict[str, Path]:
    """All that there should be; those inside of `data` that a start makes, where they are."""
    found = {"data": settings.data}
    if (database := settings.database.sqlite_file) is not None:
        found["database"] = database.parent
    if not settings.blobs.is_objects:
        found["blobs"] = settings.blobs.folder
    inside = {name: settings.data / name for name in ("uploads", "spool", "cache")}
    return found | {name: folder for name, folder in inside.items() if folder.exists()}


def _fault(folder: Path) -> Finding | None:
    if is_closed(folder):
        return _closed(folder)
    if not folder.exists():
        return _PART.error(
            f"there is no folder {folder}",
            "mount or make it; `entrepot serve` makes those in the data folder",
        )
    if not folder.is_dir():
        return _PART.error(f"{folder} is no folder", "move it away, or correct the setting")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return _PART.error(
                f"{folder} is mounted read-only",
                "look at the kernel's log for a failing disk, then mount it writable",
            )
        return _PART.error(
            f"this user may not write in {folder}",
            f"run this as the server's user, or: chown -R $(id -u) {folder}",
        )
    return None


def _owner(data: Path) -> Iterator[Finding]:
    """What root may do says nothing of what the server may."""
    if not data.exists():
        return
    owner = data.stat().st_uid
    if owner != os.geteuid():
        yield _PART.warning(
            f"{data} belongs to {_user(owner)}, and this runs as {_user(os.geteuid())}: whether the"
            " server may read and write was not seen",
            f"run it as the server does: sudo -u {_user(owner)} entrepot admin doctor",
        )


def _room(disk: _Disk, low_water: int) -> Iterator[Finding]:
    kind = file_system(disk.path)
    where = f"{', '.join(disk.folders)} on {kind or 'an unknown file system'}"
    status = os.statvfs(disk.path)
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    room = f"{where}: {_gigabytes(free)} of {_gigabytes(total)} free"
    inodes = status.f_favail / status.f_files if status.f_files else 1.0
    if free < low_water:
        yield _PART.error(f"{room}; nothing new is stored below {_gigabytes(low_water)}", _ROOM)
    elif free < 2 * low_water:
        yield _PART.warning(f"{room}; nothing new is stored below {_gigabytes(low_water)}", _ROOM)
    elif inodes < _FEW_INODES:
        yield _PART.warning(
            f"{where}: {inodes:.1%} of its inodes are free, and each blob takes one",
            "delete small files there, or make a file system with more inodes",
        )
    elif kind in _IN_MEMORY:
        yield _PART.warning(
            f"{room}, in memory: all of it goes with the next restart of the machine",
            "use a disk: ENTREPOT_DATA",
        )
    else:
        yield _PART.ok(f"{room}, {inodes:.0%} of its inodes")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
