"""Fsck: whether database and store fit together, both ways, while the registry runs.

What comes or goes meanwhile looks broken for a moment: whatever takes more than one statement or
system call to see is looked at twice before it is reported.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from entrepot.blobs.store import BlobStore, StoredObject
from entrepot.db import fsck, fsck_accounts, scrub, tombstones
from entrepot.db.database import Database, Transaction
from entrepot.db.fsck import StoredBody
from entrepot.db.fsck_accounts import Account
from entrepot.db.scrub import Affected
from entrepot.model.clock import Clock
from entrepot.model.digests import is_named
from entrepot.model.errors import (
    DigestInvalid,
    ManifestInvalid,
    ObjectMissing,
    StorageFailed,
    Unavailable,
)
from entrepot.model.ids import new_id
from entrepot.model.manifests import ManifestLimits, read_manifest
from entrepot.model.stored import LinkedBlob, upload_of
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.objects import require_there

UNKNOWN = "object that nothing knows"
_PAGE = 500
_BODIES = 16
_FOLDERS = 256  # of objects
_AT_ONCE = 8  # questions to the store: over a network each takes its time
_AWAY = (StorageFailed, Unavailable)
_MOST = 1_000  # that one question reports
_UNLIMITED = ManifestLimits(layers=1 << 30, index_children=1 << 30, annotation_bytes=1 << 30)

Progress = Callable[[str, int, int], None]
Mend = Callable[[Transaction], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not fit. `can_mend`: without anybody losing what they have."""

    kind: str
    what: str
    where: str = ""
    can_mend: bool = False
    is_mended: bool = False


@dataclass(frozen=True, slots=True)
class FsckLimits:
    """In µs: how old an object is that is known to nobody, and how long one stays after that."""

    grace: int
    delay: int


class Fsck:
    """One check. `progress` hears the name of a part, how much of it is done, and how much it is.

    When nothing is left that does not fit, collection may go on.
    """

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        clock: Clock,
        guard: CollectionGuard,
        limits: FsckLimits,
        *,
        repair: bool,
        progress: Progress,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._guard = guard
        self._limits = limits
        self._repair = repair
        self._progress = progress

    async def run(self) -> AsyncIterator[Finding]:
        """Everything that does not fit. Raises Unavailable, StorageFailed."""
        left = 0
        for part in (
            self._tombstones,  # first: an object in use must not go meanwhile
            self._blobs,
            self._objects,
            self._references,
            self._manifests,
            self._accounts,
        ):
            async for finding in part():
                left += not finding.is_mended
                yield finding
        if not left:
            await self._guard.accept()

    async def _tombstones(self) -> AsyncIterator[Finding]:
        """Objects that are to be deleted although a blob or an upload needs them."""
        async with self._database.read(scan=True) as tx:
            keys = await fsck.find_buried_in_use(tx, limit=_MOST)
        for key in keys:
            finding = Finding("tombstone of an object in use", key, can_mend=True)
            yield await self._mended(finding, partial(fsck.unbury, storage_key=key))

    async def _blobs(self) -> AsyncIterator[Finding]:
        """Blobs whose object is missing or has another size; known damage is no news."""
        async with self._database.read(scan=True) as tx:
            total, _ = await fsck.count(tx)
        after, done = "", 0
        while True:
            async with self._database.read(scan=True) as tx:
                found = await scrub.page(tx, after=after, limit=_PAGE)
            for blob in await self._suspects(found):
                finding = await self._look_again(blob)
                if finding is not None:
                    yield finding
            done += len(found)
            self._progress("blobs", done, total)
            if len(found) < _PAGE:
                return
            after = found[-1].digest

    async def _suspects(self, found: list[LinkedBlob]) -> list[LinkedBlob]:
        """Undamaged blobs whose object the store does not show as it should be."""
        known = [blob for blob in found if not blob.is_damaged]
        looking = (self._require_all(known[number::_AT_ONCE]) for number in range(_AT_ONCE))
        return [blob for suspects in await asyncio.gather(*looking) for blob in suspects]

    async def _require_all(self, found: list[LinkedBlob]) -> list[LinkedBlob]:
        """Those of some blobs that are not there; in one thread, but for those in segments."""
        whole = [blob for blob in found if upload_of(blob.storage_key) is None]
        suspects = await asyncio.to_thread(self._missing, whole)
        for blob in found:
            if upload_of(blob.storage_key) is not None:
                try:
                    await require_there(self._database, self._store, blob)
                except (ObjectMissing, *_AWAY):
                    suspects.append(blob)
        return suspects

    def _missing(self, found: list[LinkedBlob]) -> list[LinkedBlob]:
        missing: list[LinkedBlob] = []
        for blob in found:
            try:
                self._store.require(blob.storage_key, blob.size)
            except (ObjectMissing, *_AWAY):
                missing.append(blob)
        return missing

    async def _look_again(self, seen: LinkedBlob) -> Finding | None:
        async with self._database.read() as tx:
            blob = await scrub.find(tx, seen.digest)
            holders = await scrub.find_affected(tx, seen.digest, limit=1)
        if blob is None or blob.is_damaged:
            return None
        where = _where(holders)
        try:
            await require_there(self._database, self._store, blob)
        except _AWAY:
            return Finding("object that the store cannot read", blob.digest, where)
        except ObjectMissing:
            now = self._clock.now()
            kind = "blob whose object is missing or cut"
            finding = Finding(kind, blob.digest, where, can_mend=True)
            return await self._mended(
                finding, lambda tx: scrub.note_damaged(tx, blob, stamp=blob.stamp, now=now)
            )
        return None

    async def _objects(self) -> AsyncIterator[Finding]:
        """Objects that nothing knows, once they are older than the grace."""
        pages = self._store.listed()
        while (found := await asyncio.to_thread(next, pages, None)) is not None:
            for start in range(0, len(found), _PAGE):
                async for finding in self._strays(found[start : start + _PAGE]):
                    yield finding
            if found:
                self._progress("objects", int(found[-1].folder, 16), _FOLDERS)
        self._progress("objects", _FOLDERS, _FOLDERS)

    async def _strays(self, found: list[StoredObject]) -> AsyncIterator[Finding]:
        moment = (self._clock.now() - self._limits.grace) * 1_000
        old = [stored for stored in found if stored.stamp < moment]
        async with self._database.read(scan=True) as tx:
            unknown = set(await fsck.find_unknown(tx, {stored.name for stored in old}))
        for stored in old:
            if stored.name not in unknown:
                continue
            if not await asyncio.to_thread(self._store.is_there, stored):
                continue  # collection has just deleted it
            finding = Finding(UNKNOWN, stored.name, can_mend=stored.is_object)
            yield await self._mended(finding, partial(self._bury, stored=stored))

    async def _bury(self, tx: Transaction, stored: StoredObject) -> None:
        if await fsck.find_unknown(tx, [stored.name]):
            due_at = self._clock.now() + self._limits.delay
            await tombstones.bury(
                tx, storage_key=stored.name, digest="", size=stored.size, due_at=due_at
            )

    async def _references(self) -> AsyncIterator[Finding]:
        for number, kind in enumerate(fsck.BROKEN, start=1):
            async with self._database.read(scan=True) as tx:
                found = await fsck.find_broken(tx, kind, limit=_MOST)
            for broken in found:
                yield Finding(kind, broken.what, broken.where)
            self._progress("references", number, len(fsck.BROKEN))

    async def _manifests(self) -> AsyncIterator[Finding]:
        """Manifests with other bytes, or with other references than are recorded."""
        async with self._database.read(scan=True) as tx:
            _, total = await fsck.count(tx)
        after, done = (0, ""), 0
        while True:
            async with self._database.read(scan=True) as tx:
                found = await fsck.page_of_bodies(tx, after=after, limit=_BODIES)
            for stored in found:
                if await self._is_wrong(stored):
                    finding = await self._read_again(stored)
                    if finding is not None:
                        yield finding
            done += len(found)
            self._progress("manifests", done, total)
            if len(found) < _BODIES:
                return
            after = (found[-1].repository_id, found[-1].digest)

    async def _is_wrong(self, stored: StoredBody) -> str:
        """What is wrong with a manifest; nothing where nothing is."""
        if not await asyncio.to_thread(is_named, stored.digest, stored.body):
            return "manifest with other bytes"
        if not stored.is_whole:
            return ""
        async with self._database.read() as tx:
            recorded = await fsck.find_references(tx, stored.repository_id, stored.digest)
        try:
            facts = await asyncio.to_thread(
                read_manifest, stored.body, stored.media_type, _UNLIMITED
            )
        except (ManifestInvalid, DigestInvalid):
            return "manifest that cannot be read"
        if facts.blobs | facts.children | facts.either != recorded:
            return "manifest with other references than its bytes say"
        return ""

    async def _read_again(self, seen: StoredBody) -> Finding | None:
        async with self._database.read() as tx:
            stored = await fsck.find_body(tx, seen.repository_id, seen.digest)
            affected = await scrub.find_affected_by_manifest(
                tx, seen.repository_id, seen.digest, limit=1
            )
        kind = await self._is_wrong(stored) if stored is not None else ""
        return Finding(kind, seen.digest, _where(affected)) if kind else None

    async def _accounts(self) -> AsyncIterator[Finding]:
        """Counts of holders, and sums of bytes and tags, that are not what is there."""
        async with self._database.read(scan=True) as tx:
            holders = await fsck_accounts.find_wrong_holders(tx, limit=_MOST)
        for account in holders:
            yield await self._mended(
                _account("count of holders", account, account.digest),
                partial(fsck_accounts.correct_holders, account=account),
            )
        self._progress("accounts", 1, 3)
        async with self._database.read(scan=True) as tx:
            sums = await fsck_accounts.find_wrong_bytes(tx, limit=_MOST)
        for account in sums:
            line = f"repository {account.repository_id}" if account.repository_id else "all"
            yield await self._corrected("sum of bytes", account, line, of_tags=False)
        self._progress("accounts", 2, 3)
        async with self._database.read(scan=True) as tx:
            counts = await fsck_accounts.find_wrong_tags(tx, limit=_MOST)
        for account in counts:
            yield await self._corrected("count of tags", account, "all", of_tags=True)
        self._progress("accounts", 3, 3)

    async def _corrected(self, kind: str, account: Account, line: str, *, of_tags: bool) -> Finding:
        return await self._mended(
            _account(kind, account, line),
            partial(
                fsck_accounts.correct_sum,
                account=account,
                of_tags=of_tags,
                id=new_id(),
                now=self._clock.now(),
            ),
        )

    async def _mended(self, finding: Finding, mend: Mend) -> Finding:
        """The finding, once it is put right where that was asked for and is safe."""
        if not self._repair or not finding.can_mend:
            return finding
        done = await self._database.write(mend)
        return replace(finding, is_mended=done is not False)


def _where(affected: list[Affected]) -> str:
    """The first repository that has it."""
    return f"{affected[0].organisation}/{affected[0].repository}" if affected else ""


def _account(kind: str, account: Account, what: str) -> Finding:
    return Finding(
        f"{kind} that is wrong",
        f"{what}: {account.kept} instead of {account.actual}",
        f"organisation {account.organisation_id}",
        can_mend=True,
    )
