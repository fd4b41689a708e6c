"""The secret key and what is sealed with it: the check at each start, and the move to a new key.

The database knows the id of the key that everybody needs. A rotation puts a new key before the old
ones, records its id, and seals every stored secret anew while servers go on. Killed anywhere, it is
finished by the next run: the old keys stay in the ring, and what still names one is found again.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

from entrepot.db import installation, sealed
from entrepot.db.database import Database, Transaction
from entrepot.db.sealed import SEALED, SealedColumn, SealedValue
from entrepot.identity.keys import KeyRing
from entrepot.identity.seal import Seal, key_id_of
from entrepot.model.errors import SealBroken, SealKeyMissing, StartRefused

SECRET_KEY = "secret_key"  # noqa: S105  # a name in the table `installation`; its value is a key's id

_BATCH = 200
_PASSES = 10
_NAMED = 10

Progress = Callable[[int, int], None]
"""Is told how many values were looked at, and how many there are."""


async def recorded_key(database: Database, *, scan: bool = False) -> str | None:
    """The id of the key that this registry needs; None before its first start with this check."""
    async with database.read(scan=scan) as tx:
        return await installation.find(tx, SECRET_KEY)


async def require_key(database: Database, ring: KeyRing) -> None:
    """Check that `ring` has the registry's key; the first to ask makes its current key that.

    Raises StartRefused with what to do.
    """
    recorded = await recorded_key(database)
    if recorded is None:
        current = ring.current.id
        recorded = await database.write(lambda tx: installation.keep(tx, SECRET_KEY, current))
    refuse_without(recorded, ring)


def refuse_without(recorded: str, ring: KeyRing) -> None:
    """Raises StartRefused, with what to do, unless `ring` has the key of this id."""
    if ring.find(recorded) is None:
        ids = ", ".join(key.id for key in ring.keys)
        raise StartRefused(
            f"this is not the secret key of this registry: that one has the id {recorded}, this"
            f" one {ids}; set ENTREPOT_SECRET_KEY or ENTREPOT_SECRET_KEY_FILE to the key that the"
            " other nodes have, or put secret.key back from the backup. If it is lost for good:"
            " entrepot admin rotate-key --lost"
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """What `Rotation.finish` did. `unreadable` names up to ten of the values it had to leave."""

    was_needed: bool
    resealed: int
    unreadable_count: int
    unreadable: tuple[str, ...]


class Rotation:
    """Brings a registry to the current key of a ring.

    A batch is read, sealed in memory, and written in one transaction that replaces a value only if
    it is still what was read: what a server writes meanwhile wins.
    """

    def __init__(self, database: Database, ring: KeyRing, *, batch: int = _BATCH) -> None:
        self._database = database
        self._ring = ring
        self._seal = Seal(ring)
        self._batch = batch

    async def finish(self, progress: Progress) -> Finished:
        """Record the current key and seal with it whatever is sealed with another.

        Values that no key of the ring opens stay as they are. Raises StartRefused when the ring
        lacks the recorded key, Unavailable, StorageFull, StorageFailed.
        """
        await require_key(self._database, self._ring)
        current = self._ring.current.id
        was_needed = await recorded_key(self._database) != current
        if was_needed:
            await self._record(current)
        resealed, passes = 0, 0
        while True:
            count = _Count()
            await self._pass(count, progress)
            resealed += count.resealed
            passes += 1
            # A server that has not noticed the new key writes behind our back: look once more.
            if not (count.resealed or count.lost) or passes == _PASSES:
                break
        return Finished(was_needed or resealed > 0, resealed, count.unreadable, tuple(count.names))

    async def accept_loss(self) -> None:
        """Take the current key for the registry's, although that one is not in the ring.

        What was sealed with it stays unreadable, and bearer tokens signed with it are refused.
        """
        await self._record(self._ring.current.id)

    async def in_use(self) -> Counter[str]:
        """How often each old key of the ring is needed, by its id; those that are not, are not in.

        A sealed value counts once, and so does the record of the registry's key.
        """
        old = {key.id for key in self._ring.keys[1:]}
        found = Counter(old & {await recorded_key(self._database)})
        for where in SEALED:
            async for values in self._pages(where):
                found.update(id_ for value in values if (id_ := key_id_of(value.text)) in old)
        return found

    async def _record(self, key_id: str) -> None:
        await self._database.write(lambda tx: installation.put(tx, SECRET_KEY, key_id))

    async def _pass(self, count: "_Count", progress: Progress) -> None:
        async with self._database.read(scan=True) as tx:
            total = sum([await sealed.count(tx, where) for where in SEALED])
        done = 0
        for where in SEALED:
            async for values in self._pages(where):
                anew = self._sealed_anew(where, values, count)
                if anew:
                    replaced = await self._database.write(_replacing(where, anew))
                    count.resealed += replaced
                    count.lost += len(anew) - replaced
                done += len(values)
                progress(done, max(done, total))

    async def _pages(self, where: SealedColumn) -> AsyncIterator[list[SealedValue]]:
        after = None
        while True:
            async with self._database.read(scan=True) as tx:
                values = await sealed.page(tx, where, after, self._batch)
            if not values:
                return
            yield values
            after = values[-1].key

    def _sealed_anew(
        self, where: SealedColumn, values: list[SealedValue], count: "_Count"
    ) -> list[tuple[SealedValue, str]]:
        """What to put in the place of values that are not sealed with the current key."""
        current = self._ring.current.id
        anew = []
        for value in values:
            if key_id_of(value.text) == current:
                continue
            bound_to = where.bound_to(*value.key)
            try:
                secret = self._seal.open(value.text, bound_to)
            except (SealBroken, SealKeyMissing):
                count.leave(f"{where.table} {value.key}")
                continue
            anew.append((value, self._seal.seal(secret, bound_to)))
        return anew


class _Count:
    """What one pass met."""

    def __init__(self) -> None:
        self.resealed = 0
        self.lost = 0
        self.unreadable = 0
        self.names: list[str] = []

    def leave(self, name: str) -> None:
        self.unreadable += 1
        if len(self.names) < _NAMED:
            self.names.append(name)


def _replacing(
    where: SealedColumn, anew: list[tuple[SealedValue, str]]
) -> Callable[[Transaction], Coroutine[object, object, int]]:
    async def work(tx: Transaction) -> int:
        return sum([await sealed.replace(tx, where, old, text) for old, text in anew])

    return work
