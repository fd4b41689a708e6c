"""Objects in an object store: `<prefix>/ab/<key>`, written once under names that say nothing.

Whether something is stored, the database says: the store is never asked for it while a request
waits. It need not know conditional writes, nor show a new object everywhere at once.
"""

import asyncio
import re
import secrets
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore

from entrepot.blobs.objects_abandoned import abort_before
from entrepot.blobs.objects_check import check
from entrepot.blobs.objects_clock import read_clock
from entrepot.blobs.objects_exit import leave_in_peace
from entrepot.blobs.objects_faults import read_refusal, store_faults, wrong_size
from entrepot.blobs.objects_place import Place, way_to_read, way_to_write
from entrepot.blobs.objects_read import Reader
from entrepot.blobs.objects_send import Sender, part_bytes
from entrepot.blobs.objects_upload import SegmentUpload
from entrepot.blobs.readback import Found
from entrepot.blobs.spool import Spool
from entrepot.blobs.store import StoredObject
from entrepot.blobs.stored import Stored
from entrepot.model.digests import new_hash
from entrepot.model.errors import StorageFailed
from entrepot.model.stored import Segment
from entrepot.telemetry.observe import Observe, ignore

if TYPE_CHECKING:  # it exists for checkers alone
    from obstore import ObjectMeta

_KEY = re.compile(r"[0-9a-f]{32}(?:\.[0-9a-f]{8})?")
_LISTED = re.compile(r"[0-9a-f]{2}/.")  # in a folder of objects, and not the folder
_EPOCH = "collection.epoch"
_DIGITS = 20
_ID = "store.id"
_PAGE = 1_000  # names in one answer of a store
_READ_BYTES = 1024 * 1024
_THREADS = 32


class ObjectStore:
    """The objects of a place. `public` is where clients reach it, if not there."""

    has_segments: Final = True
    boot_id = "objects"  # what a store has confirmed is there, whatever starts anew

    def __init__(
        self, place: Place, *, public_endpoint: str | None = None, observe: Observe = ignore
    ) -> None:
        self._place = place
        self._asks, self._sends = way_to_read(place), way_to_write(place)
        self._signs = way_to_read(place.at(public_endpoint)) if public_endpoint else self._asks
        self._reader = Reader(self._asks)
        self._sender = Sender(self._sends, self._asks)
        self._observe = observe
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")
        leave_in_peace()

    def prepare(self) -> None:
        """Try everything once. Raises StartRefused, with the remedy."""
        check(self._place, self._sends, self._asks)

    def read_clock(self) -> int:
        """The store's clock, in µs, to the second. Raises StorageFailed, Unavailable."""
        return read_clock(self._sends, self._asks)

    def close(self) -> None:
        """Wait for the threads."""
        self._executor.shutdown()

    def new_key(self) -> str:
        """A key that nothing was ever stored under."""
        return secrets.token_hex(16)

    def open(self, segments: Sequence[Segment]) -> Stored:
        """The objects' bytes, to be asked for."""
        return Stored(self, segments)

    def stamp(self, key: str, size: int) -> int:  # noqa: ARG002  # the protocol's
        """Nothing but us changes an object."""
        return Stored.stamp

    def require(self, key: str, size: int) -> None:
        """Ask for the object. Raises ObjectMissing, StorageFailed, Unavailable."""
        name = _name(key)
        with store_faults("look at an object", name):
            found = self._look(name)
        if found != size:
            raise wrong_size(name, size, found)

    def _look(self, name: str) -> int:
        try:
            return obstore.head(self._asks, name)["size"]
        except FileNotFoundError:
            # An answer to HEAD cannot say what it is that is not there.
            return obstore.get(self._asks, name).meta["size"]

    def read(self, key: str, start: int, stop: int, size: int) -> AsyncGenerator[bytes, None]:
        """Bytes of an object. Raises ObjectMissing, StorageFailed, Unavailable."""
        return self._reader.read(_name(key), start, stop, size)

    async def sign(self, key: str, seconds: int) -> str:
        """An address that answers a GET of the object for so long, to whoever has it."""
        with store_faults("sign an address", key):
            return await obstore.sign_async(
                self._signs, "GET", _name(key), timedelta(seconds=seconds)
            )

    async def read_back(
        self,
        segments: Sequence[Segment],
        algorithm: str,
        pause: Callable[[int], Awaitable[None]] | None = None,
    ) -> Found:
        """What the bytes of objects are now, one behind the other; hashed in threads.

        `pause` is awaited after each piece, with its bytes. Raises ObjectMissing, StorageFailed,
        Unavailable.
        """
        loop = asyncio.get_running_loop()
        running, total = new_hash(algorithm), 0
        for segment in segments:
            async with aclosing(self.read(segment.key, 0, segment.size, segment.size)) as pieces:
                async for piece in pieces:
                    await loop.run_in_executor(self._executor, running.update, piece)
                    total += len(piece)
                    if pause is not None:
                        await pause(len(piece))
        return Found(total, running.hexdigest(), Stored.stamp)

    def upload(self, key: str) -> SegmentUpload:
        """The upload whose segments are named after `key`."""
        return SegmentUpload(_checked(key), self, self._executor)

    async def put(self, key: str, buffers: AsyncIterator[bytes], part: int) -> int:
        """Make an object of what comes; how long it is. None is made of nothing.

        It is there, and whole, when this returns. Raises StorageFailed, Unavailable.
        """
        started = time.perf_counter()
        try:
            return await self._sender.put(_name(key), buffers, part)
        finally:
            self._observe("put", time.perf_counter() - started)

    async def put_empty(self, key: str) -> None:
        """Make an object of no bytes. Raises StorageFailed, Unavailable."""
        await self._sender.put_empty(_name(key))

    async def adopt(self, spool: Spool, key: str) -> int:
        """Send a spool's bytes, and remove the file; the object's stamp.

        Only then may a row point at them. Raises StorageFailed, Unavailable.
        """
        found = await self.put(key, self._content(spool), part_bytes(spool.size))
        if found != spool.size:
            message = "what was to be stored has another length"
            raise StorageFailed(message, key=key, size=spool.size, found=found)
        spool.discard()
        return Stored.stamp

    async def _content(self, spool: Spool) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        with spool.path.open("rb") as content:
            while piece := await loop.run_in_executor(self._executor, content.read, _READ_BYTES):
                yield piece

    def remove(self, key: str) -> None:
        """Delete an object that no row points at. Raises StorageFailed, Unavailable."""
        self._delete(_name(key))

    def _delete(self, name: str) -> None:
        with store_faults("delete an object", name):
            try:
                obstore.delete(self._asks, name)
            except FileNotFoundError as error:
                if not read_refusal(error).is_missing:
                    raise

    def leftovers(self, upload_key: str) -> list[str]:
        """The segments that the store has of an upload. Raises StorageFailed, Unavailable."""
        found: list[str] = []
        folder, first = upload_key[:2], _name(upload_key)
        with store_faults("list segments"):
            for page in obstore.list(self._asks, folder, offset=first, chunk_size=_PAGE):
                for stored in page:
                    if not stored["path"].startswith(first):
                        return found
                    found.append(stored["path"].removeprefix(f"{folder}/"))
        return found

    def abort_before(self, moment: float) -> int:
        """End multipart uploads that were begun before then (POSIX seconds); how many.

        Where the store has another way, or none, nothing. Raises StorageFailed, Unavailable.
        """
        return abort_before(self._place, moment) if self._place.scheme == "s3" else 0

    def listed(self) -> Iterator[list[StoredObject]]:
        """All that lies in the folders of the objects, in order. Raises StorageFailed, Unavailable.

        In one list and not one for each folder: the fewest requests there can be.
        """
        with store_faults("list objects"):
            for page in obstore.list(self._asks, chunk_size=_PAGE):
                yield [_stored(found) for found in page if _LISTED.match(found["path"])]

    def is_there(self, stored: StoredObject) -> bool:
        """Whether something that was listed still is. Raises StorageFailed, Unavailable."""
        name = f"{stored.folder}/{stored.name}"
        with store_faults("look at an object", name):
            try:
                self._look(name)
            except FileNotFoundError as error:
                if not read_refusal(error).is_missing:
                    raise
                return False
        return True

    def read_epoch(self) -> int:
        """How often collection has deleted objects, as the store knows.

        The highest of the names that were ever written: nothing is overwritten, so nothing old is
        read, and of two who count on at once neither sets the other back. Raises StorageFailed,
        Unavailable.
        """
        return max((number for number, _ in self._epochs()), default=0)

    def advance_epoch(self, value: int) -> None:
        """Let that be at least `value`, durably. Raises StorageFailed, Unavailable."""
        known = self._epochs()
        if max((number for number, _ in known), default=0) >= value:
            return
        name = f"{_EPOCH}/{value:0{_DIGITS}}"
        with store_faults("write the epoch of collection", name):
            obstore.put(self._sends, name, b"", use_multipart=False)
        for _, old in known:
            self._delete(old)

    def _epochs(self) -> list[tuple[int, str]]:
        with store_faults("read the epoch of collection"):
            pages = obstore.list(self._asks, _EPOCH, chunk_size=_PAGE)
            names = [stored["path"] for page in pages for stored in page]
        try:
            return [(int(name.removeprefix(f"{_EPOCH}/")), name) for name in names]
        except ValueError as error:
            message = "the epoch of collection cannot be read; run `entrepot admin fsck`"
            raise StorageFailed(message, found=names[:5]) from error

    def ids(self) -> list[str]:
        """The ids that the store was given, sorted. Raises StorageFailed, Unavailable."""
        with store_faults("read the ids of the store"):
            pages = obstore.list(self._asks, _ID, chunk_size=_PAGE)
            return sorted(
                stored["path"].removeprefix(f"{_ID}/") for page in pages for stored in page
            )

    def add_id(self, value: str) -> None:
        """Give it one, durably. Raises StorageFailed, Unavailable."""
        with store_faults("write an id of the store"):
            obstore.put(self._sends, f"{_ID}/{value}", b"", use_multipart=False)

    def is_low(self) -> bool:
        """An object store grows."""
        return False

    def require_space(self) -> None:
        """An object store grows."""


def _stored(found: "ObjectMeta") -> StoredObject:
    folder, _, name = found["path"].partition("/")
    changed = int(found["last_modified"].timestamp()) * 1_000_000_000
    is_object = _KEY.fullmatch(name) is not None and name[:2] == folder
    return StoredObject(folder, name, found["size"], changed, is_object)


def _name(key: str) -> str:
    return f"{key[:2]}/{_checked(key)}"


def _checked(key: str) -> str:
    """Keys come from our own rows; a name that is none must never reach a store."""
    if _KEY.fullmatch(key) is None:
        message = "not a storage key"
        raise ValueError(message)
    return key
