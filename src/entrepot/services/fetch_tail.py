"""Following a fetch that another process of this node brings into the node's spool."""

import asyncio

from entrepot.blobs.spool import Spool, SpoolView
from entrepot.db.fetches import FetchRow
from entrepot.model.digests import Digest
from entrepot.services.fetch_lead import Means
from entrepot.services.fetch_progress import Progress
from entrepot.services.fetch_watch import GivenUp, Left, Watch, given_up

_LOOK_SECONDS = 0.02
_LOCK_SECONDS = 0.25
_ROW_SECONDS = 0.05
_BEAT_SECONDS = 1.0
_UNUSED_SECONDS = 2.0


class Tailing:
    """A spool that grows by another's hand."""

    def __init__(self, means: Means, digest: Digest, progress: Progress, watch: Watch) -> None:
        self._means = means
        self._digest = digest
        self._progress = progress
        self._watch = watch

    async def tail(self, row: FetchRow) -> Left | None:
        """Follow until the bytes are right; what is left when the spool's writer is gone.

        Raises GivenUp, StorageFull, StorageFailed, Unavailable.
        """
        view = await self._find(row)
        if isinstance(view, Left):
            return view
        view.mark_read()
        self._progress.read_from(view)
        locked, asked, used = _Every(_LOCK_SECONDS), _Every(_ROW_SECONDS), _Every(_UNUSED_SECONDS)
        while not await self._is_right(view):
            if locked.is_due():
                spool = self._means.spools.write(row.id, self._digest, is_new=False)
                if spool is not None:
                    return await self._inherit(spool)
            if asked.is_due():
                if (stuck := await self._stuck(row)) is not None:
                    return Left(stuck, None)
                asked.seconds = _BEAT_SECONDS if self._progress.is_announced else _ROW_SECONDS
            if self._progress.readers:
                used.reset()
            elif used.is_due():
                raise GivenUp("nobody waited for this blob any more; ask for it again")
            await asyncio.sleep(_LOOK_SECONDS)
        return await self._until_stored(row)

    async def _until_stored(self, row: FetchRow) -> Left | None:
        """All bytes are here; what is left when whoever should store them dies before that."""
        while (current := await self._watch.current()) is not None and current.id == row.id:
            spool = self._means.spools.write(row.id, self._digest, is_new=False)
            if spool is not None:
                return await self._inherit(spool)
            if self._watch.is_dead(current):
                return Left(current, None)
            await asyncio.sleep(_ROW_SECONDS)
        return None

    async def _is_right(self, view: SpoolView) -> bool:
        """Tell the readers how far the spool has come; whether it is whole. Raises GivenUp."""
        state = view.state()
        if state.is_gone:
            raise given_up()
        if state.is_sealed and not self._progress.is_announced:
            # Somebody may have taken the spool over: whose it is must be known before it is read.
            await self._watch.current()
        if state.is_sealed or state.size > self._progress.written:
            self._progress.reach(state.size, is_right=state.is_sealed)
        return state.is_sealed

    async def _stuck(self, row: FetchRow) -> FetchRow | None:
        """The row, if our node leads, and the leader holds its spool but does not move."""
        current = await self._watch.current()
        if current is None or current.id != row.id or current.node != self._means.node:
            return None
        return current if self._watch.is_dead(current) else None

    async def _find(self, row: FetchRow) -> SpoolView | Left:
        """The spool, unless its writer was gone before there was one. Raises GivenUp."""
        while (view := self._means.spools.look(row.id)) is None:
            current = await self._watch.current()
            if current is None or current.id != row.id:
                raise given_up()
            if self._watch.is_dead(current):
                return Left(current, None)
            await asyncio.sleep(_LOOK_SECONDS)
        return view

    async def _inherit(self, spool: Spool) -> Left:
        """The spool's writer is gone: its bytes are ours to go on with."""
        try:
            self._progress.read_from(spool.view())
            await spool.catch_up()
            self._progress.reach(max(self._progress.written, spool.size))
            return Left(await self._watch.current(), spool)
        except BaseException:
            await spool.close()
            raise


class _Every:
    """Says when it is time again."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time()

    def is_due(self) -> bool:
        """Whether so long has passed since the last time that it was."""
        is_due = self._loop.time() - self._at >= self.seconds
        if is_due:
            self.reset()
        return is_due

    def reset(self) -> None:
        """Count from now on."""
        self._at = self._loop.time()
