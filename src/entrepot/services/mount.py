"""Mounting: a blob that another repository holds becomes part of this one without being sent."""

from entrepot.db import blobs
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import Denied, NameUnknown, Unauthenticated
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses
from entrepot.services.holdings import hold_blob
from entrepot.services.quotas import judge

_CANDIDATES = 16  # how many holders an anonymous mount looks at


class Mount:
    """Links blobs across repositories. `grace` is how long an unused link is protected, in µs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        addresses: Addresses,
        *,
        grace: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self._grace = grace

    async def blob(
        self, actor: Actor, address: Address, source: Address | None, digest: Digest
    ) -> bool:
        """Make `digest` part of the repository at `address`; False where a push must send it.

        Without `source` any repository of the same organisation will do that the credential may
        pull. False does not tell whether a repository or a blob that the caller may not see exists.
        Raises Denied, Unauthenticated.
        """

        async def work(tx: Transaction) -> bool:
            where = await self._access.admit(tx, actor, Action.PUSH, address)
            now = self._clock.now()
            protected_until = now + self._grace
            for holder in await self._holders(tx, actor, where, source, digest):
                # Locks the holder's link, so that the blob cannot go while it is being linked here.
                if not await blobs.protect(
                    tx, holder.id, str(digest), protected_until=protected_until
                ):
                    continue
                blob = await blobs.find(tx, holder.id, str(digest))
                if blob is None:
                    continue
                repository = await self._addresses.ensure(tx, actor, address, where, now)
                grew = await hold_blob(
                    tx,
                    repository,
                    str(digest),
                    blob.size,
                    now=now,
                    protected_until=protected_until,
                )
                await judge(tx, repository, grew=grew)
                return True
            return False

        return await self._database.write(work)

    async def _holders(
        self,
        tx: Transaction,
        actor: Actor,
        where: Repository | Place,
        source: Address | None,
        digest: Digest,
    ) -> list[Repository]:
        """Repositories that the caller may pull and that may have the blob."""
        if source is not None:
            try:
                origin = await self._access.admit(tx, actor, Action.PULL, source)
            except (Denied, NameUnknown, Unauthenticated):
                return []
            return [origin] if isinstance(origin, Repository) else []
        candidates = await blobs.holders(tx, where.organisation_id, str(digest), limit=_CANDIDATES)
        # A bearer token covers the names in it and no other.
        here = [c for c in candidates if actor.granted is None or c.path == where.path]
        fresh = await self._access.renewed(tx, actor)
        return [c for c in here if Action.PULL in self._access.allowed(fresh.credential, c)]
