"""Uploads: POST (end-4, end-11), PATCH (end-5), PUT (end-6), GET (end-13), DELETE (end-14)."""

from collections.abc import AsyncIterator
from contextlib import suppress

import structlog

from entrepot.model.access import Place, Repository
from entrepot.model.digests import Digest, parse_algorithm
from entrepot.model.errors import DigestInvalid, EntrepotError, NameInvalid, RangeInvalid
from entrepot.model.names import RepositoryName
from entrepot.model.ranges import ByteRange, parse_chunk
from entrepot.model.stored import UploadSession
from entrepot.oci.call import Call, Registry
from entrepot.oci.reads import warn
from entrepot.services.addresses import Address
from entrepot.web.answers import Answer, Header

log = structlog.get_logger()


async def post(registry: Registry, call: Call) -> Answer:
    """Begin an upload; or mount a blob, or take it whole, when the query says so."""
    mount = call.request.field("mount")
    if mount is not None and await _mounted(registry, call, mount):
        return _created(call, Digest.parse(mount), [])
    await registry.quotas.require_room(_where(call))
    whole = call.request.field("digest") if mount is None else None
    digest = Digest.parse(whole) if whole is not None else None
    algorithm = parse_algorithm(call.request.field("digest-algorithm") or "sha256")
    is_whole = digest is not None and _has_body(call, digest)
    pieces = await _pieces(registry, call) if is_whole else None
    session = await registry.uploads.open(
        call.actor, call.target, algorithm=digest.algorithm if digest else algorithm
    )
    if digest is None or pieces is None:
        return Answer(202, _progress(call, session, 0))
    try:
        warnings = await registry.uploads.commit(
            call.actor, call.target, session, digest, pieces, None, call.request.content_length
        )
    except EntrepotError:
        with suppress(EntrepotError):  # nobody was told its address, so nobody can go on with it
            await registry.uploads.cancel(session)
        raise
    return _created(call, digest, warnings)


async def patch(registry: Registry, call: Call) -> Answer:
    """Add bytes: a chunk with its Content-Range, or a stream without."""
    session = await _session(registry, call)
    try:
        chunk = _chunk(call)
        pieces = await _pieces(registry, call)
        after = await registry.uploads.append(session, pieces, chunk, call.request.content_length)
    except RangeInvalid as error:
        raise _with_progress(error, call, session) from error
    return Answer(202, _progress(call, session, after.size))


async def put(registry: Registry, call: Call) -> Answer:
    """Add the last bytes, if any, and finish."""
    text = call.request.field("digest")
    if text is None:
        raise DigestInvalid("finish an upload with ?digest=")
    digest = Digest.parse(text)
    session = await _session(registry, call)
    try:
        chunk = _chunk(call)
        pieces = await _pieces(registry, call)
        warnings = await registry.uploads.commit(
            call.actor, call.target, session, digest, pieces, chunk, call.request.content_length
        )
    except RangeInvalid as error:
        raise _with_progress(error, call, session) from error
    return _created(call, digest, warnings)


async def get(registry: Registry, call: Call) -> Answer:
    """How far an upload is. It never changes it."""
    session = await _session(registry, call)
    return Answer(204, _progress(call, session, session.size))


async def delete(registry: Registry, call: Call) -> Answer:
    """Cancel an upload."""
    session = await _session(registry, call)
    await registry.uploads.cancel(session)
    return Answer(204)


async def _session(registry: Registry, call: Call) -> UploadSession:
    return await registry.uploads.find(
        call.actor, call.repository, call.values["upload"], opened_before=call.opened_before
    )


async def _pieces(registry: Registry, call: Call) -> AsyncIterator[bytes]:
    """The body, if the organisation has room for it. Raises Denied."""
    request = call.request
    return await registry.quotas.let_in(_where(call), request.content_length, request.pieces())


def _where(call: Call) -> Repository | Place:
    if call.where is None:
        message = "uploads are of a repository"
        raise AssertionError(message)
    return call.where


async def _mounted(registry: Registry, call: Call, mount: str) -> bool:
    """Whether the blob is here now.

    What cannot be mounted is uploaded, never refused: some clients give up a push on 403.
    """
    digest = Digest.parse(mount)
    source = call.request.field("from")
    address: Address | None = None
    if source:
        try:
            address = Address(call.label, RepositoryName.parse(source))
        except NameInvalid:
            return False
    return await registry.mount.blob(call.actor, call.target, address, digest)


def _has_body(call: Call, digest: Digest) -> bool:
    """Whether a POST with a digest carries its blob. An empty body is one only of zero bytes."""
    length = call.request.content_length
    if length is None:
        return call.request.has_header(b"transfer-encoding")
    return length > 0 or digest == Digest.of(b"", digest.algorithm)


def _chunk(call: Call) -> ByteRange | None:
    header = call.request.header(b"content-range")
    if header is None:
        return None
    length = call.request.content_length
    if length == 0:
        return None  # regclient and others end an upload with an empty PUT that repeats a range
    chunk = parse_chunk(header)
    if length is not None and length != chunk.length:
        raise RangeInvalid("Content-Range and Content-Length differ")
    return chunk


def _location(call: Call, upload_id: str) -> Header:
    # Relative, so that no proxy can make it wrong, and the same for the session's whole life.
    return (b"location", f"/v2/{call.name}/blobs/uploads/{upload_id}".encode())


def _progress(call: Call, session: UploadSession, size: int) -> list[Header]:
    return [
        _location(call, session.id),
        # A range cannot say "nothing": 0-0 stands for it, and Docker fails on 0--1.
        (b"range", b"0-%d" % max(0, size - 1)),
        (b"docker-upload-uuid", session.id.encode()),
    ]


def _with_progress(error: RangeInvalid, call: Call, session: UploadSession) -> RangeInvalid:
    """Some clients go on from the Location and Range of a 416."""
    size = error.values.get("size")
    headers = _progress(call, session, size if isinstance(size, int) else session.size)
    return RangeInvalid(error.message, **{**error.values, "headers": headers})


def _created(call: Call, digest: Digest, warnings: list[str]) -> Answer:
    log.debug("blob.pushed", repository=str(call.name), digest=str(digest))
    headers = [
        (b"location", f"/v2/{call.name}/blobs/{digest}".encode()),
        (b"docker-content-digest", str(digest).encode()),
    ]
    for warning in warnings:
        warn(headers, warning)
    return Answer(201, headers)
