"""What must be so before bytes are added to an upload, and before they become a blob."""

from collections.abc import AsyncIterator, Awaitable, Callable

from entrepot.db import blobs, uploads
from entrepot.db.database import Database, Transaction
from entrepot.model.digests import Digest
from entrepot.model.errors import DigestInvalid, RangeInvalid, UploadInvalid, UploadUnknown
from entrepot.model.ranges import ByteRange
from entrepot.model.stored import UploadSession

NO_UPLOAD = "no such upload here; start a new one"
BUSY = "another request writes to this upload; ask for its status, then go on"

# Each is an object that pulls, the joining and the deletion have to go through. Of chunks of 5 MiB
# these are 52 GB.
MOST_SEGMENTS = 10_000


class UploadBusy(RangeInvalid):
    """Another request writes to the session: try again from where it will end."""


async def read_open(tx: Transaction, session: UploadSession) -> UploadSession:
    """The session as its row is by now. Raises UploadUnknown when it has ended."""
    current = await uploads.get(tx, session.id)
    if current is None or current.committed_at is not None:
        raise UploadUnknown(NO_UPLOAD, upload=session.id)
    return current


async def require_committed(database: Database, session: UploadSession, digest: Digest) -> None:
    """A client that did not hear our 201 asks again. Raises UploadUnknown."""
    if session.committed_at is not None and session.digest == str(digest):
        async with database.read() as tx:
            blob = await blobs.find(tx, session.repository_id, str(digest))
        if blob is not None and not blob.is_damaged:
            return
    raise UploadUnknown(NO_UPLOAD, upload=session.id)


def require_next(session: UploadSession, chunk: ByteRange | None) -> None:
    """A chunk begins where the upload ends. Raises RangeInvalid."""
    if chunk is not None and chunk.start != session.size:
        message = f"the next chunk begins at {session.size}"
        raise RangeInvalid(message, size=session.size)


async def within_limit(
    session: UploadSession, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """A body, which an upload of so many segments must not have. Raises UploadInvalid.

    Without a byte it is none: so the upload can be finished.
    """
    async for piece in pieces:
        if session.segment_count >= MOST_SEGMENTS:
            message = (
                f"an upload has at most {MOST_SEGMENTS} bodies here; finish it, "
                "or start again with larger chunks"
            )
            raise UploadInvalid(message, limit=MOST_SEGMENTS, upload=session.id)
        yield piece


def require_length(before: UploadSession, after: UploadSession, chunk: ByteRange | None) -> None:
    """A chunk is as long as it says. Raises RangeInvalid, with what we have now."""
    if chunk is not None and after.size - before.size != chunk.length:
        message = f"Content-Range and the body's length differ; we have {after.size} bytes"
        raise RangeInvalid(message, size=after.size)


async def require_digest(
    session: UploadSession,
    digest: Digest,
    *,
    boot_id: str,
    read_back: Callable[[str], Awaitable[str]],
) -> None:
    """The one place where a pushed blob's digest is checked. Raises DigestInvalid.

    The row's digest counts while the machine has not started anew since: the bytes it speaks of
    are then in the file, though perhaps not yet on the disk, and `commit` syncs them.
    """
    known = session.digest if session.boot_id == boot_id else None
    if known is None or known.partition(":")[0] != digest.algorithm:
        known = f"{digest.algorithm}:{await read_back(digest.algorithm)}"
    if known != str(digest):
        message = f"the {session.size} bytes sent have the digest {known}"
        raise DigestInvalid(message, digest=str(digest))


async def refuse_changed(
    tx: Transaction, session: UploadSession, *, besides: str | None = None
) -> None:
    """What it means that a session is not as it was: it is longer now, or it ended.

    Raises UploadBusy, with what we have now, and UploadUnknown; unless the session has become the
    blob `besides`, which its repository has.
    """
    current = await uploads.get(tx, session.id)
    if current is not None and current.committed_at is None:
        raise UploadBusy(BUSY, size=current.size)
    if (
        besides is None
        or current is None
        or current.digest != besides
        or await blobs.find(tx, session.repository_id, besides) is None
    ):
        raise UploadUnknown(NO_UPLOAD, upload=session.id)
