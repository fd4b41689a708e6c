"""Reading the audit log, and how long it is kept."""

from dataclasses import dataclass

from entrepot.db import audit
from entrepot.db.database import Database
from entrepot.model.access import Action, Actor
from entrepot.model.clock import DAY, Clock
from entrepot.model.tenancy import AuditEvent
from entrepot.services.access import Access

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events: by action, actor's and object's name, from `since` until before `until`."""

    action: str | None = None
    actor: str | None = None
    object_name: str | None = None
    since: int = 0
    until: int = 2**62


class AuditLog:
    """Reading the log, and its own retention of `keep_days` days."""

    def __init__(self, database: Database, clock: Clock, access: Access, *, keep_days: int) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._keep = keep_days * DAY

    async def page(
        self,
        actor: Actor,
        organisation: str | None,
        wanted: AuditFilter,
        *,
        before: int,
        limit: int,
    ) -> tuple[list[AuditEvent], bool]:
        """Up to `limit` events, newest first, and whether there are more.

        Without an organisation those of the installation itself.
        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read(scan=True) as tx:
            organisation_id: int | None = None
            if organisation is None:
                await self._access.administer(tx, actor)
            else:
                entered = await self._access.enter(tx, actor, Action.AUDIT, organisation)
                organisation_id = entered.id
            events = await audit.page(
                tx,
                organisation_id,
                action=wanted.action,
                actor=wanted.actor,
                object_name=wanted.object_name,
                since=wanted.since,
                until=wanted.until,
                before=before,
                limit=limit + 1,
            )
        return events[:limit], len(events) > limit

    async def sweep(self) -> int:
        """Forget events that are older than the log is kept; how many."""
        moment = self._clock.now() - self._keep
        forgotten = 0
        while True:
            count = await self._database.write(
                lambda tx: audit.forget_before(tx, moment, limit=_BATCH), durable=False
            )
            forgotten += count
            if count < _BATCH:
                return forgotten
