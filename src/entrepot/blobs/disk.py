"""Objects in a local folder: `blobs/ab/<key>`, and uploads in a folder beside it.

Keys are opaque and write-once; what a digest is stored under, only its row knows. Where
uploads and objects lie on one file system finishing an upload is a rename, else a copy.
"""

import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from entrepot.blobs.answers import File
from entrepot.blobs.epoch import EpochFile
from entrepot.blobs.faults import storage_faults
from entrepot.blobs.moving import move_durably, sync_folder
from entrepot.blobs.readback import Found, ReadBack, missing
from entrepot.blobs.space import Space
from entrepot.blobs.spool import Spool
from entrepot.blobs.store import StoredObject
from entrepot.blobs.threads import finish
from entrepot.blobs.upload import UploadFile
from entrepot.model.errors import ObjectMissing, StartRefused, StorageFailed
from entrepot.model.stored import Segment
from entrepot.telemetry.observe import Observe, ignore

_KEY = re.compile(r"[0-9a-f]{32}")
_ID = "store.id."
_THREADS = 32
_SLICE_BYTES = 8 * 1024 * 1024  # hashed in one go: a wait for the rate, or the end, comes between


class DiskStore:
    """A folder of objects. `low_water_bytes` is the free space below which pushes are refused."""

    has_segments: Final = False

    def __init__(
        self, objects: Path, uploads: Path, *, low_water_bytes: int, observe: Observe = ignore
    ) -> None:
        self._objects = objects
        self._uploads = uploads
        self._space = Space(objects, low_water_bytes)
        self._observe = observe
        self._epoch = EpochFile(objects / "collection.epoch")
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def prepare(self) -> None:
        """Make the folders. Raises StorageFull, StartRefused."""
        try:
            with storage_faults("make the data folders"):
                self._uploads.mkdir(parents=True, exist_ok=True)
                for number in range(256):
                    (self._objects / f"{number:02x}").mkdir(parents=True, exist_ok=True)
                for folder in (self._objects, self._objects.parent, self._uploads.parent):
                    sync_folder(folder)
        except StorageFailed as error:
            cause = error.__cause__
            why = cause.strerror if isinstance(cause, OSError) else error.message
            message = (
                f"cannot make the folders of blobs and uploads in {self._objects} and"
                f" {self._uploads} ({why}); let the user of the server write there, or correct"
                " ENTREPOT_BLOBS__URL and ENTREPOT_DATA"
            )
            raise StartRefused(message) from error

    def close(self) -> None:
        """Wait for the threads."""
        self._executor.shutdown()

    def new_key(self) -> str:
        """A key that nothing was ever stored under."""
        return secrets.token_hex(16)

    def open(self, segments: Sequence[Segment]) -> File:
        """Where the object's bytes are: one system call. Raises ObjectMissing, StorageFailed."""
        (only,) = segments
        return self._look(only.key, only.size)

    def _look(self, key: str, size: int) -> File:
        path = self._object(key)
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise missing(path) from error
        except OSError as error:
            message = "the registry's disk failed; its operator has been told"
            raise StorageFailed(message, doing="look at an object", errno=error.errno) from error
        if found.st_size != size:
            message = "a stored object has the wrong size"
            raise ObjectMissing(message, key=key, size=size, found=found.st_size)
        return File(path, size, found.st_ctime_ns)

    def stamp(self, key: str, size: int) -> int:
        """When the object was last changed. Raises ObjectMissing, StorageFailed."""
        return self._look(key, size).stamp

    def require(self, key: str, size: int) -> None:
        """Raises ObjectMissing, StorageFailed unless the object is there and as long."""
        self._look(key, size)

    async def read_back(
        self,
        segments: Sequence[Segment],
        algorithm: str,
        pause: Callable[[int], Awaitable[None]] | None = None,
    ) -> Found:
        """What the object's bytes are now; all of them are read, in threads.

        `pause` is awaited after each slice, with its bytes. Raises ObjectMissing, StorageFailed.
        """
        loop = asyncio.get_running_loop()
        (only,) = segments
        path = self._object(only.key)
        reading = await loop.run_in_executor(self._executor, ReadBack, path, algorithm)
        try:
            while count := await finish(
                loop.run_in_executor(self._executor, reading.step, _SLICE_BYTES)
            ):
                if pause is not None:
                    await pause(count)
            return reading.found()
        finally:
            reading.close()

    def upload(self, key: str) -> UploadFile:
        """The upload whose object will be `key`; to be opened by the caller."""
        return UploadFile(
            self._executor,
            self._uploads / _checked(key),
            self._object(key),
            self.require_space,
            self._observe,
        )

    async def adopt(self, spool: Spool, key: str) -> int:
        """Make a spool's bytes durable under a key of their own; the object's stamp.

        Only then may a row point at them. Raises StorageFull, StorageFailed.
        """
        await spool.durable()
        final = self._object(key)
        return await finish(
            asyncio.get_running_loop().run_in_executor(
                self._executor, move_durably, spool.path, final
            )
        )

    def remove(self, key: str) -> None:
        """Delete an object that no row points at. Raises StorageFailed."""
        with storage_faults("delete an object"):
            self._object(key).unlink(missing_ok=True)

    def listed(self) -> Iterator[list[StoredObject]]:
        """All that lies in the folders of the objects, one by one. Raises StorageFailed."""
        return (self._listed(f"{number:02x}") for number in range(256))

    def _listed(self, folder: str) -> list[StoredObject]:
        found: list[StoredObject] = []
        with storage_faults("list objects"), os.scandir(self._objects / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # deleted since it was listed
                    status = entry.stat(follow_symlinks=False)
                    is_object = _KEY.fullmatch(entry.name) is not None
                    found.append(
                        StoredObject(
                            folder, entry.name, status.st_size, status.st_ctime_ns, is_object
                        )
                    )
        return found

    def is_there(self, stored: StoredObject) -> bool:
        """Whether something that was listed still is. Raises StorageFailed."""
        with storage_faults("look at an object"):
            return os.path.lexists(self._objects / stored.folder / stored.name)

    def read_epoch(self) -> int:
        """How often collection has deleted objects, as the store knows. Raises StorageFailed."""
        return self._epoch.read()

    def advance_epoch(self, value: int) -> None:
        """Let that be at least `value`, durably. Raises StorageFailed, StorageFull."""
        self._epoch.advance(value)

    def ids(self) -> list[str]:
        """The ids that the folder was given, sorted. Raises StorageFailed."""
        with storage_faults("read the ids of the store"):
            names = [path.name for path in self._objects.iterdir()]
        return sorted(name.removeprefix(_ID) for name in names if name.startswith(_ID))

    def add_id(self, value: str) -> None:
        """Give it one, durably. Raises StorageFull, StorageFailed."""
        with storage_faults("write an id of the store"):
            (self._objects / f"{_ID}{value}").touch()
            sync_folder(self._objects)

    def staged_before(self, moment: float) -> list[str]:
        """Keys of upload files that nothing has written to since `moment` (POSIX seconds)."""
        keys: list[str] = []
        with os.scandir(self._uploads) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # finished since it was listed
                    if _KEY.fullmatch(entry.name) and entry.stat().st_mtime < moment:
                        keys.append(entry.name)
        return keys

    def is_low(self) -> bool:
        """Whether pushes are refused for want of space. Raises StorageFailed."""
        return self._space.is_low()

    def require_space(self) -> None:
        """Raises StorageFull below the low-water mark, with the numbers."""
        self._space.require()

    def _object(self, key: str) -> Path:
        return self._objects / key[:2] / _checked(key)


def _checked(key: str) -> str:
    """Keys come from our own rows; a name that is none must never reach a path."""
    if _KEY.fullmatch(key) is None:
        message = "not a storage key"
        raise ValueError(message)
    return key
