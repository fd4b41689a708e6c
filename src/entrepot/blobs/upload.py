"""One upload's file: locked by one writer, hashed while it arrives, synced before it counts.

The order that makes a 201 durable is here and in `commit`: write, sync the file, rename it to its
final key, sync the directory. Only then may a row point at it.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from entrepot.blobs.batches import Batches
from entrepot.blobs.faults import storage_faults, sync_faults
from entrepot.blobs.moving import move_durably, settle_name
from entrepot.blobs.store import Placed
from entrepot.blobs.threads import finish, settle
from entrepot.model.digests import new_hash
from entrepot.model.errors import (
    Conflict,
    EntrepotError,
    ObjectMissing,
    StorageFailed,
    UploadUnknown,
)
from entrepot.model.stored import Segment
from entrepot.telemetry.observe import Observe

if TYPE_CHECKING:
    from hashlib import _Hash

T = TypeVar("T")

# One sync of 1 GiB at the end costs a quarter of the rate; so sync while bytes still arrive.
_SYNC_EVERY = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class UploadFile:
    """An upload's file, locked for as long as this object is open."""

    def __init__(
        self,
        executor: Executor,
        staged: Path,
        final: Path,
        check_space: Callable[[], None],
        observe: Observe,
    ) -> None:
        self._executor = executor
        self._staged = staged
        self._final = final
        self._check_space = check_space
        self._observe = observe
        self._fd = -1
        self._is_renamed = False
        self._synced = 0
        self._syncing: asyncio.Future[None] | None = None

    def open(self, *, is_new: bool) -> None:
        """Lock the file, made now when `is_new`; what the database said before the lock is old.

        In the event loop: a few system calls on a name and a lock cost less than handing them to a
        thread. Raises Conflict while another writer has it, ObjectMissing when the file is gone.
        """
        with storage_faults("open an upload"):
            path, flags = self._staged, os.O_RDWR | (os.O_CREAT if is_new else 0)
            if self._final.exists():
                # A commit got as far as the rename; its transaction did not, or is not known to.
                path, flags, self._is_renamed = self._final, os.O_RDONLY, True
            try:
                fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
            except FileNotFoundError as error:
                message = "the upload's bytes are gone; start it again"
                raise ObjectMissing(message) from error
            try:
                self._lock(fd, path)
                self._refuse_second_life()
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd

    def _refuse_second_life(self) -> None:
        """An upload that was renamed after we looked for it must not begin again.

        Its new file would be renamed over the object.
        """
        if not self._is_renamed and self._final.exists():
            self._staged.unlink(missing_ok=True)
            message = "another request has finished this upload"
            raise Conflict(message)

    def resume(self, size: int, segments: Sequence[Segment]) -> None:  # noqa: ARG002  # it has none
        """Cut off what was received but never acknowledged. Raises ObjectMissing for too little."""
        with storage_faults("trim an upload"):
            found = os.fstat(self._fd).st_size
            if found < size or (found > size and self._is_renamed):
                message = "the upload's bytes are gone; start it again"
                raise ObjectMissing(message, size=size, found=found)
            if found > size:
                os.ftruncate(self._fd, size)

    @staticmethod
    def _lock(fd: int, path: Path) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "another request is writing to this upload"
            raise Conflict(message) from error
        # Whoever held the lock before may have renamed the file: writing on would change a blob
        # that is already shared. The name must still lead to the file that we hold.
        try:
            here = path.stat()
        except FileNotFoundError as error:
            message = "another request has finished this upload"
            raise Conflict(message) from error
        if not os.path.samestat(here, os.fstat(fd)):
            message = "another request has finished this upload"
            raise Conflict(message)

    async def append(
        self,
        pieces: AsyncIterator[bytes],
        offset: int,
        hashes: "list[_Hash]",
        length: int | None = None,  # noqa: ARG002  # a file need not know
    ) -> tuple[int, EntrepotError | None]:
        """Write what arrives from `offset` on, and feed it to `hashes`.

        While one batch is received, the one before is hashed and written in a thread. Answers where
        the bytes end now and what stopped them from arriving, if anything did: bytes that came
        before a broken connection count. Raises StorageFull, StorageFailed.
        """
        arriving = Batches(pieces)
        writing: asyncio.Future[None] | None = None
        try:
            async for batch in arriving:
                if writing is not None:
                    await asyncio.shield(writing)
                writing = self._submit(self._write, batch, offset, hashes)
                offset += sum(map(len, batch))
                await self._sync_ahead(offset)
            if writing is not None:
                await asyncio.shield(writing)
            if self._syncing is not None:
                # Nobody else would hear of its failure.
                await asyncio.shield(self._syncing)
                self._syncing = None
        except BaseException:
            # Cancelled or failed: the lock must not go while a thread still writes.
            if writing is not None:
                await settle(writing)
            raise
        return offset, arriving.stopped

    def _write(self, batch: list[bytes], offset: int, hashes: "list[_Hash]") -> None:
        if self._is_renamed:
            raise UploadUnknown("this upload was finished before; start a new one")
        with storage_faults("write an upload"):
            self._check_space()
            for running in hashes:
                for piece in batch:
                    running.update(piece)
            written = os.pwritev(self._fd, batch, offset)
            total = sum(map(len, batch))
            while written < total:
                rest = memoryview(b"".join(batch))[written:]
                written += os.pwrite(self._fd, rest, offset + written)

    async def _sync_ahead(self, offset: int) -> None:
        """Start a sync when enough was written since the last and none is running."""
        if self._syncing is not None and self._syncing.done():
            await self._syncing
            self._syncing = None
        if self._syncing is None and offset - self._synced >= _SYNC_EVERY:
            self._synced = offset
            self._syncing = self._submit(self._sync)

    def _sync(self) -> None:
        with sync_faults("sync an upload"):
            os.fdatasync(self._fd)

    async def digest(self, algorithm: str, size: int) -> str:
        """The hex digest of the first `size` bytes, read back."""

        def read() -> str:
            running = new_hash(algorithm)
            position = 0
            with storage_faults("read an upload"):
                while position < size:
                    piece = os.pread(self._fd, min(_READ_BYTES, size - position), position)
                    if not piece:
                        message = "the upload's file is shorter than what was written"
                        raise StorageFailed(message, at=position)
                    running.update(piece)
                    position += len(piece)
            return running.hexdigest()

        return await self._run("digest", read)

    @property
    def added(self) -> Sequence[Segment]:
        """A file has no segments."""
        return ()

    async def commit(self) -> Placed:
        """Make the bytes durable under their final key. Raises StorageFailed.

        A sync that failed is reported by the kernel once, so nothing that was not synced by now can
        be trusted: the caller must discard the upload.
        """
        return Placed(self._final.name, await self._run("commit", self._commit))

    def _commit(self) -> int:
        with sync_faults("commit an upload"):
            os.fdatasync(self._fd)
            if self._is_renamed:
                return settle_name(self._final)
            stamp = move_durably(self._staged, self._final)
            self._is_renamed = True
            return stamp

    async def discard(self) -> None:
        """Remove the file; the lock stays until `close`."""
        await self._run("discard", lambda: self._staged.unlink(missing_ok=True))

    async def close(self) -> None:
        """Let go of the file once nothing writes to it any more."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            await settle(syncing)
            if syncing.exception() is not None:
                # A later sync would succeed, without the bytes that this one lost.
                self._staged.unlink(missing_ok=True)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _submit(self, work: Callable[..., T], *values: object) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._executor, work, *values)

    async def _run(self, operation: str, work: Callable[[], T]) -> T:
        """Run in a thread; a cancelled caller waits until the thread has let go of the file."""
        started = time.perf_counter()
        try:
            return await finish(self._submit(work))
        finally:
            self._observe(operation, time.perf_counter() - started)
