"""Blobs that an upstream has and we do not: each fetched once, for all who ask meanwhile.

One process leads a fetch, from the upstream into its node's spool; the others follow it. What
readers get is always their own node's spool, so that their number and pace cost no memory.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from entrepot.blobs.answers import Arriving, File
from entrepot.blobs.stored import Stored
from entrepot.db import blobs, fetches, repositories, upstreams
from entrepot.db.database import Transaction
from entrepot.model.access import Repository
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, NotFound, ObjectMissing, UpstreamMissing
from entrepot.model.stored import LinkedBlob
from entrepot.services.fetch_here import Fetch, LookAgain
from entrepot.services.fetch_holders import source_of
from entrepot.services.fetch_lead import Abandoned, Means
from entrepot.services.fetch_progress import Reader
from entrepot.services.fetch_relay import Relays
from entrepot.services.holdings import hold_blob

T = TypeVar("T")

_LOOKS = 3  # at what was stored, or refused to another, between two looks


@dataclass(frozen=True, slots=True)
class _Proof:
    """That the registry at `origin` lets us have a blob, and its size, if it said that."""

    origin: str
    size: int | None


class Fetches:
    """The fetches of this process."""

    def __init__(self, means: Means, relays: Relays) -> None:
        self._means = means
        self._relays = relays
        self._running: dict[tuple[int, str], Fetch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._once: dict[tuple[int, str], asyncio.Task[_Proof]] = {}
        self._proving: dict[tuple[int, str], asyncio.Task[None]] = {}

    async def join(self, repository: Repository, digest: Digest) -> File | Arriving:
        """The blob from the repository's upstream: to be had, or arriving.

        Whoever gets what arrives closes it. Raises BlobUnknown, UpstreamError, StorageFull,
        StorageFailed, Unavailable.
        """
        upstream_id = source_of(repository).upstream_id
        key = (upstream_id, str(digest))
        for _ in range(_LOOKS):
            fetch = self._running.get(key)
            if fetch is None:
                file = await self._stored(repository, digest)
                if file is not None:
                    return file
                fetch = self._running.get(key)
            if fetch is None:
                fetch = self._start(repository, digest)
            else:
                self._means.remotes.note_coalesced(upstream_id)
            try:
                return await self._read(fetch, repository, digest)
            except (LookAgain, Abandoned):
                self._forget(key, fetch)  # whoever waits is told before its task is seen to end
            except UpstreamMissing as error:
                raise _unknown(digest) from error
        raise LookAgain("this blob came and went meanwhile; try again")

    async def size(self, repository: Repository, digest: Digest) -> int | None:
        """How large the upstream's blob is, if it says so; nothing is fetched.

        Raises BlobUnknown, UpstreamError.
        """
        fetch = self._running.get((source_of(repository).upstream_id, str(digest)))
        if fetch is not None and fetch.progress.size is not None and fetch.holders.has(repository):
            return fetch.progress.size
        return (await self._ask_once(repository, digest)).size

    async def relay(self, id: str) -> Arriving:  # noqa: A002  # the row's
        """What another node of ours asks for. Raises NotFound, UpstreamError."""
        async with self._means.database.read() as tx:
            row = await fetches.find_by_id(tx, id)
            first = await repositories.find_by_id(tx, row.repository_id) if row else None
        if row is None or first is None or first.source is None or row.node != self._means.node:
            raise NotFound("there is no such fetch here")
        fetch = self._running.get((row.upstream_id, row.digest))
        if fetch is None:
            fetch = self._start(first, Digest.parse(row.digest))
        return await self._read(fetch, first, Digest.parse(row.digest))

    async def close(self) -> None:
        """Stop all fetches; other processes may go on with them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, repository: Repository, digest: Digest) -> Fetch:
        key = (source_of(repository).upstream_id, str(digest))
        fetch = Fetch(self._means, self._relays, repository, digest)
        self._running[key] = fetch
        task = asyncio.create_task(fetch.run())
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._forget(key, fetch)

        task.add_done_callback(ended)
        return fetch

    def _forget(self, key: tuple[int, str], fetch: Fetch) -> None:
        if self._running.get(key) is fetch:
            del self._running[key]

    async def _read(self, fetch: Fetch, repository: Repository, digest: Digest) -> Arriving:
        """The fetch's bytes, for those who may have them."""

        async def require() -> None:
            if not fetch.holders.has(repository):
                await self._prove(repository, digest)
                fetch.holders.prove(repository)

        reader = Reader(fetch.progress, require)  # at first, so that it stays open
        try:
            await fetch.claimed()
            await require()
            await fetch.announced(repository)
            await require()  # another may lead by now
        except BaseException:
            reader.close()
            raise
        return reader

    async def _prove(self, repository: Repository, digest: Digest) -> None:
        """See that the repository holds the blob, or that its own credential and path reach it.

        Raises BlobUnknown, UpstreamError.
        """

        async def prove() -> None:
            async with self._means.database.read() as tx:
                linked = await blobs.find(tx, repository.id, str(digest))
            if linked is None:
                await self._ask_once(repository, digest)

        await _shared(self._proving, (repository.id, str(digest)), prove)

    async def _stored(self, repository: Repository, digest: Digest) -> File | Stored | None:
        """The blob, if somebody has it and this repository may."""
        async with self._means.database.read() as tx:
            blob = await blobs.find_from(tx, source_of(repository).upstream_id, str(digest))
            # Asked last: a fetch that ends between the two has linked what the first one found.
            linked = await blobs.find(tx, repository.id, str(digest))
        file = await self._open(linked or blob)
        if file is None or linked is not None:
            return file
        # Somebody else's: what one credential fetched is another's once that has proved access.
        proof = await self._ask_once(repository, digest)
        if not await self._means.database.write(
            lambda tx: self._link(tx, repository, digest, proof)
        ):
            return None
        return file

    async def _open(self, blob: LinkedBlob | None) -> File | Stored | None:
        if blob is None:
            return None
        try:
            return await self._means.objects.open(blob)
        except ObjectMissing:
            return None

    async def _link(
        self, tx: Transaction, repository: Repository, digest: Digest, proof: _Proof
    ) -> bool:
        """Make a blob that is here one of this repository's too; False when one of them went."""
        now, upstream_id = self._means.clock.now(), source_of(repository).upstream_id
        blob = await blobs.find_from(tx, upstream_id, str(digest))
        holder = await repositories.find_by_id(tx, repository.id)
        upstream = await upstreams.get(tx, upstream_id)
        if blob is None or holder is None or upstream is None:
            return False
        if upstream.origin != proof.origin:
            return False  # this process asked where the upstream was before it was led elsewhere
        await hold_blob(
            tx,
            holder,
            str(digest),
            blob.size,
            now=now,
            protected_until=now + self._means.limits.grace,
        )
        return True

    async def _ask_once(self, repository: Repository, digest: Digest) -> _Proof:
        """HEAD at the upstream with the repository's own credential and path, once for all.

        Raises BlobUnknown, UpstreamError.
        """
        source = source_of(repository)

        async def ask() -> _Proof:
            try:
                async with self._means.remotes.calling(source.upstream_id) as remote:
                    return _Proof(remote.origin, await remote.head_blob(source.path, digest))
            except UpstreamMissing as error:
                raise _unknown(digest) from error

        return await _shared(self._once, (repository.id, str(digest)), ask)


async def _shared(
    running: dict[tuple[int, str], asyncio.Task[T]],
    key: tuple[int, str],
    work: Callable[[], Awaitable[T]],
) -> T:
    """What `work` answers, done once for all who ask meanwhile; it outlives each of them."""

    async def run() -> T:
        return await work()

    task = running.get(key)
    if task is None:
        task = running[key] = asyncio.create_task(run())
        task.add_done_callback(lambda _: running.pop(key, None))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


def _unknown(digest: Digest) -> BlobUnknown:
    return BlobUnknown("neither this registry nor its upstream has such a blob", digest=str(digest))
