"""A node's cache of popular blobs: the first pull makes a copy, who asks meanwhile reads along.

So a blob costs the object store one request per node. Whatever goes wrong with a copy, the bytes
come from the store itself; only that they are not what their digest says ends a pull.
"""

import asyncio

import structlog

from entrepot.blobs.answers import Arriving, File
from entrepot.blobs.cache_folder import CacheFolder
from entrepot.blobs.spool import Spool
from entrepot.blobs.stored import Stored, pieces_of
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    EntrepotError,
    ObjectMissing,
    StorageFailed,
    StorageFull,
    Unavailable,
)
from entrepot.services.fetch_fill import Filling
from entrepot.services.fetch_progress import Progress, Reader
from entrepot.telemetry.observe import Observe, ignore

_AT_ONCE = 8  # copies that one process makes; 12 MiB of each are in memory meanwhile
_AHEAD_BYTES = 4 * 1024 * 1024  # a reader that wants bytes further off does not wait for them
_LOOK_SECONDS = 0.02
_SILENCE_SECONDS = 5.0  # of another process, before nobody waits for it any more

log = structlog.get_logger()


class NodeCache:
    """The cache of this node, as one process uses and fills it."""

    def __init__(self, folder: CacheFolder, observe: Observe = ignore) -> None:
        self._folder = folder
        self._observe = observe
        self._filling: dict[str, Progress] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Make the folders; where that fails all bytes come from the store."""
        try:
            self._folder.prepare()
        except (StorageFull, StorageFailed) as error:
            log.warning("cache.off", error=repr(error.__cause__))

    def near(self, stored: Stored, digest: Digest) -> File | Arriving:
        """Where this node has the bytes, for whoever gets them through it; a copy is made of them.

        `digest` is theirs.
        """
        key = stored.key
        file = self._folder.find(key, stored.size) if key is not None else None
        if file is not None:
            self._observe("hits", 1)
            return file
        progress = self._filling.get(key) if key is not None else None
        if progress is not None:
            self._observe("hits", 1)
            return ReadingAlong(progress, stored)
        self._observe("misses", 1)
        if key is None or len(self._filling) >= _AT_ONCE or not self._folder.takes(stored.size):
            return stored
        return ReadingAlong(self._start(key, stored.again(), digest), stored)

    async def sweep(self) -> None:
        """Remove copies that nobody uses. Raises StorageFailed."""
        await asyncio.to_thread(self._folder.sweep)

    async def close(self) -> None:
        """Give up the copies that are being made."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._folder.close()

    def _start(self, key: str, stored: Stored, digest: Digest) -> Progress:
        progress = self._filling[key] = Progress()
        progress.announce(stored.size)
        task = asyncio.create_task(self._make(key, stored, digest, progress))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            del self._filling[key]
            stored.close()
            progress.end()

        task.add_done_callback(ended)
        return progress

    async def _make(self, key: str, stored: Stored, digest: Digest, progress: Progress) -> None:
        try:
            spool = await asyncio.to_thread(self._folder.begin, key, digest, stored.size)
            if spool is None:
                await self._watch(key, progress)
            else:
                await self._fill(key, stored, spool, progress)
        except StorageFull as error:
            log.debug("copy.refused", key=key, error=error.message)
            progress.fail(error)
        except EntrepotError as error:
            self._observe("failures", 1)
            log.warning("copy.failed", key=key, digest=str(digest), error=error.message)
            progress.fail(error)

    async def _fill(self, key: str, stored: Stored, spool: Spool, progress: Progress) -> None:
        """Bring the bytes, once for all who read them. Raises EntrepotError."""
        is_kept = False
        try:
            progress.read_from(spool.view())
            await Filling(spool, progress).take(pieces_of(stored))
            if not spool.is_right():
                stored.suspect()
                raise ObjectMissing("a stored blob is damaged; push it again to mend it", key=key)
            spool.seal()
            progress.reach(spool.size, is_right=True)
            await self._folder.keep(spool, key)
            is_kept = True
            self._observe("filled", spool.size)
        finally:
            if not is_kept:
                await asyncio.to_thread(self._folder.give_up, spool, stored.size)
            await spool.close()

    async def _watch(self, key: str, progress: Progress) -> None:
        """Follow a copy that another process makes, or has just made. Raises StorageFailed."""
        view = self._folder.look(key)
        if view is None:
            raise StorageFailed("another process gave up this copy", key=key)
        progress.read_from(view)
        now = asyncio.get_running_loop().time
        moved_at = now()
        while not progress.is_right:
            state = view.state()
            if state.is_sealed or state.size > progress.written:
                progress.reach(state.size, is_right=state.is_sealed)
                moved_at = now()
            elif state.is_gone or now() - moved_at > _SILENCE_SECONDS:
                raise StorageFailed("another process gave up this copy", key=key)
            await asyncio.sleep(_LOOK_SECONDS)


class ReadingAlong:
    """One reader's way through a blob whose copy is being made (`blobs.answers.Arriving`)."""

    def __init__(self, progress: Progress, stored: Stored) -> None:
        self._progress = progress
        self._stored = stored
        self._reader: Reader | None = Reader(progress)
        self.size = stored.size

    async def piece(self, start: int, most: int) -> bytes:
        """1 to `most` bytes from `start` on; nothing at the end.

        Raises ObjectMissing, StorageFailed, Unavailable.
        """
        if start > self._progress.written + _AHEAD_BYTES:
            self._leave()
        if self._reader is not None:
            try:
                return await self._reader.piece(start, most)
            except (ObjectMissing, Unavailable):
                raise  # the store was asked often enough: not again by each of a crowd
            except EntrepotError:
                self._leave()
        return await self._stored.piece(start, most)

    def close(self) -> None:
        """The reader wants no more."""
        self._leave()
        self._stored.close()

    def _leave(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
