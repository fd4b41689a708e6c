"""Blobs that an upstream has and we do not: each fetched once, for all who ask meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from entrepot.blobs.answers import Arriving, File
from entrepot.blobs.disk import DiskStore
from entrepot.blobs.spool import SpoolFolder
from entrepot.db import blobs
from entrepot.db.database import Database
from entrepot.model.access import Repository
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.upstreams import Source

log = structlog.get_logger()


class RemoteBlob(Protocol):
    """A blob as an upstream sends it, from `offset` on; `size` is the whole one's, if known."""

    size: int | None
    offset: int
    pieces: AsyncIterator[bytes]


class Remote(Protocol):
    """What fetches ask of an upstream."""

    async def head_blob(self, path: str, digest: Digest) -> int | None:
        """The blob's size, if the upstream says it. Raises UpstreamError."""

    def blob(
        self, path: str, digest: Digest, offset: int = 0
    ) -> AbstractAsyncContextManager[RemoteBlob]:
        """The blob's bytes. Raises UpstreamError."""


class Remotes(Protocol):
    """The upstreams, each behind its breaker and its budget."""

    def calling(self, upstream_id: int) -> AbstractAsyncContextManager[Remote]:
        """The upstream, for one call. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Sizes in bytes, times in seconds. `grace` protects a blob that nothing references yet, µs."""

    grace: int
    finish_bytes: int
    spool_bytes: int
    take_over_seconds: float = 10.0


class Fetches:
    """The fetches of this process."""

    def __init__(
        self,
        database: Database,
        store: DiskStore,
        spools: SpoolFolder,
        remotes: Remotes,
        clock: Clock,
        limits: FetchLimits,
    ) -> None:
        self._database = database
        self._store = store
        self._spools = spools
        self._remotes = remotes
        self._clock = clock
        self._limits = limits

    async def join(self, repository: Repository, digest: Digest) -> File | Arriving:
        """The blob from the repository's upstream, to be had or arriving.

        The caller closes what arrives. Raises UpstreamError, StorageFull, StorageFailed,
        Unavailable.
        """
        raise NotImplementedError

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        """How large the upstream's blob is, if it says so; nothing is fetched.

        Raises UpstreamError, Unavailable.
        """
        raise NotImplementedError
