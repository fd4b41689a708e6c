"""Buckets of tests as our settings see them, and uploads as services make them."""

import hashlib
from collections.abc import AsyncIterator, Sequence

from entrepot.blobs.answers import File
from entrepot.blobs.objects_place import Place
from entrepot.blobs.store import BlobStore, Placed
from entrepot.model.errors import EntrepotError
from entrepot.model.stored import Segment, upload_of
from tests.support.bucket import Bucket

PREFIX = "a/registry"
_PIECE = 100_000


def place_of(bucket: Bucket) -> Place:
    return Place(
        "s3",
        bucket.name,
        PREFIX,
        endpoint=bucket.server.endpoint,
        region="us-east-1",
        access_key_id=bucket.server.access_key_id,
        secret_access_key=bucket.server.secret_access_key,
    )


async def pieces_of(
    content: bytes, *, stopped: EntrepotError | None = None, piece: int = _PIECE
) -> AsyncIterator[bytes]:
    """A request's body; `stopped` is what ends it early."""
    for start in range(0, len(content), piece):
        yield content[start : start + piece]
    if stopped is not None:
        raise stopped


class Session:
    """What a row of the database knows of an upload."""

    def __init__(self, store: BlobStore) -> None:
        self.key = store.new_key()
        self.size = 0
        self.segments: tuple[Segment, ...] = ()

    async def append(
        self, store: BlobStore, content: bytes, *, stopped: EntrepotError | None = None
    ) -> EntrepotError | None:
        """One request that is acknowledged."""
        upload = store.upload(self.key)
        try:
            upload.open(is_new=self.size == 0)
            upload.resume(self.size, self.segments)
            running = hashlib.sha256()
            size, why = await upload.append(
                pieces_of(content, stopped=stopped), self.size, [running], len(content)
            )
            assert size == self.size + len(content)
            assert running.digest() == hashlib.sha256(content).digest()
            self.size, self.segments = size, (*self.segments, *upload.added)
        finally:
            await upload.close()
        return why

    async def commit(self, store: BlobStore) -> Placed:
        upload = store.upload(self.key)
        try:
            upload.open(is_new=self.size == 0)
            upload.resume(self.size, self.segments)
            return await upload.commit()
        finally:
            await upload.close()


async def put(store: BlobStore, content: bytes) -> Placed:
    """An object with these bytes."""
    session = Session(store)
    await session.append(store, content)
    return await session.commit(store)


async def read(
    store: BlobStore, placed: Placed, size: int, segments: Sequence[Segment] = ()
) -> bytes:
    """All bytes of a blob, as a pull gets them."""
    found = store.open(objects_of(placed, size, segments))
    assert found.size == size
    if isinstance(found, File):
        return found.path.read_bytes()
    try:
        content = bytearray()
        while piece := await found.piece(len(content), 1 << 20):
            content += piece
        return bytes(content)
    finally:
        found.close()


def objects_of(placed: Placed, size: int, segments: Sequence[Segment] = ()) -> Sequence[Segment]:
    """The objects that a blob consists of."""
    return segments if upload_of(placed.key) else [Segment(0, size, placed.key)]
