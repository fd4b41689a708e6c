"""The store: whether objects come back as they were written, and whether it tells our time."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from entrepot.blobs.objects import ObjectStore
from entrepot.blobs.store import BlobStore
from entrepot.cli.doctor.clocks import skew
from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings, is_loopback
from entrepot.db.database import Database
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import EntrepotError, StartRefused, StorageFull
from entrepot.model.stored import Segment
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.store_id import refuse_other_store

PART = Part("store")
_COLLECTION = Part("collection")
_BYTES = 1 << 20
_LOOK = "look at the store, its disk and its log; then run this again"


async def examine(settings: Settings, store: BlobStore, clock: Clock) -> AsyncIterator[Finding]:
    """Write, read, hash and delete objects of random bytes, as a start does or as a push."""
    if not isinstance(store, ObjectStore):
        yield await _folder(store, settings.blobs.url)
        return
    started = time.perf_counter()
    try:
        await asyncio.to_thread(store.prepare)
        before = clock.now()
        theirs = await asyncio.to_thread(store.read_clock)
        after = clock.now()
    except EntrepotError as error:
        yield PART.failed(error, _LOOK)
        return
    yield PART.ok(f"{settings.blobs.url} gave objects back as they were written{_in(started)}")
    yield skew("the object store", theirs, before - SECOND, after)
    endpoint = settings.blobs.endpoint
    if endpoint.startswith("http://") and not is_loopback(urlsplit(endpoint).hostname or ""):
        yield PART.warning(
            f"blobs cross the network unsealed: {endpoint}",
            "set ENTREPOT_BLOBS__ENDPOINT to an https:// address, unless that network is yours",
        )


def _in(started: float) -> str:
    return f", in {(time.perf_counter() - started) * 1_000:.0f} ms"


async def _folder(store: BlobStore, where: str) -> Finding:
    content = secrets.token_bytes(_BYTES)
    started = time.perf_counter()
    try:
        hexes = await _there_and_back(store, content)
    except StorageFull as error:
        return PART.warning(f"{where} was not tried: {error.message}", "make room first")
    except EntrepotError as error:
        return PART.failed(error, _LOOK)
    if set(hexes) != {hashlib.sha256(content).hexdigest()}:
        return PART.error(
            f"{where} gave other bytes back than were written",
            "do not push to it: test its disk, then `entrepot admin scrub --all`",
        )
    return PART.ok(f"{where} gave 1 MiB back as it was written{_in(started)}")


async def _there_and_back(store: BlobStore, content: bytes) -> tuple[str, str]:
    """The digests of what was written and of what was read."""

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    key, running = store.new_key(), hashlib.sha256()
    upload = store.upload(key)
    upload.open(is_new=True)
    try:
        await upload.append(pieces(), 0, [running], len(content))
        placed = await upload.commit()
    except BaseException:
        await upload.discard()
        raise
    finally:
        await upload.close()
    try:
        found = await store.read_back([Segment(0, len(content), placed.key)], "sha256")
    finally:
        await asyncio.to_thread(store.remove, placed.key)
    return running.hexdigest(), found.hex


async def belonging(database: Database, store: BlobStore) -> list[Finding]:
    """What is wrong where the database speaks of another store."""
    try:
        await refuse_other_store(database, store)
    except StartRefused as error:
        return [PART.failed(error, _LOOK)]
    except EntrepotError:
        return []  # the store itself is a finding
    return []


async def collection(database: Database, store: BlobStore) -> Finding:
    """Whether database and store are of one time, without which nothing is collected."""
    try:
        stopped = await CollectionGuard(database, store).why_stopped()
        epoch = await asyncio.to_thread(store.read_epoch)
    except EntrepotError as error:
        return _COLLECTION.failed(error, _LOOK)
    if stopped is None:
        return _COLLECTION.ok(f"database and store are of one time (epoch {epoch})")
    found, _, remedy = stopped.partition("; ")
    return _COLLECTION.error(f"collection is stopped: {found}", remedy)
