"""Members of an organisation: who they are, their roles, and leaving."""

from entrepot.db import members
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Role
from entrepot.model.clock import Clock
from entrepot.model.errors import Denied, NotFound, Stale, Unsupported
from entrepot.model.ids import to_text
from entrepot.model.tenancy import Change, Member, Organisation
from entrepot.services.access import Access
from entrepot.services.audit import record
from entrepot.services.organisations import STALE, require_version
from entrepot.services.users import require_user


class Members:
    """Who belongs to an organisation. Whatever it takes away counts from the next write on."""

    def __init__(self, database: Database, clock: Clock, access: Access) -> None:
        self._database = database
        self._clock = clock
        self._access = access

    async def page(
        self, actor: Actor, organisation: str, *, after: str, limit: int
    ) -> tuple[list[Member], bool]:
        """Up to `limit` members by name, and whether more follow.

        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read(scan=True) as tx:
            entered = await self._access.enter(tx, actor, Action.BROWSE, organisation)
            found = await members.page(
                tx, entered.id, after=after, limit=limit + 1, now=self._clock.now()
            )
        return found[:limit], len(found) > limit

    async def get(self, actor: Actor, organisation: str, user: str) -> Member:
        """One member, by name. Raises Unauthenticated, NotFound, Denied."""
        async with self._database.read() as tx:
            entered = await self._access.enter(tx, actor, Action.BROWSE, organisation)
            return await self._find(tx, entered, user)

    async def set_role(
        self, actor: Actor, organisation: str, user: str, role: Role, *, version: int | None
    ) -> Member:
        """Give a member another role, for good. Owners are made and unmade by owners.

        `version` is the one that the caller read; None changes whatever there is.
        Raises Unauthenticated, NotFound, Denied, Unsupported (for the last owner), Stale.
        """

        async def work(tx: Transaction) -> Member:
            entered = await self._access.enter(tx, actor, Action.MANAGE_MEMBERS, organisation)
            owners = await members.lock_owners(tx, entered.id)
            before = await self._find(tx, entered, user)
            needed = _needed(before.role, role)
            await self._access.enter(tx, actor, needed, entered.id)  # as it is behind the lock
            require_version(before.version, version)
            if before.expires_at is not None and before.user_id == actor.credential.user_id:
                raise Denied("your own membership ends by itself; an owner can invite you")
            if role is not Role.OWNER:
                _require_another(owners, before)
            # Of this version: an invitation may just now have made an owner of who was none.
            if not await members.set_role(
                tx, entered.id, before.user_id, role, version=before.version
            ):
                raise Stale(STALE)
            details: dict[str, object] = {"from": str(before.role), "to": str(role)}
            await self._record(tx, actor, "member.changed", entered, before, details)
            return await self._find(tx, entered, user)

        return await self._database.write(work)

    async def remove(
        self, actor: Actor, organisation: str, user: str, *, version: int | None
    ) -> None:
        """Take a member out of an organisation; members may take out themselves.

        Raises Unauthenticated, NotFound, Denied, Unsupported (for the last owner), Stale.
        """

        async def work(tx: Transaction) -> None:
            entered = await self._access.enter(tx, actor, Action.SEE_ORGANISATION, organisation)
            is_leaving = user == actor.credential.name and _is_own(actor)
            if not is_leaving:
                await self._access.enter(tx, actor, Action.MANAGE_MEMBERS, entered.id)
            owners = await members.lock_owners(tx, entered.id)
            before = await self._find(tx, entered, user)
            if not is_leaving:
                await self._access.enter(tx, actor, _needed(before.role), entered.id)
            require_version(before.version, version)
            _require_another(owners, before)
            if not await members.delete(tx, entered.id, before.user_id, version=before.version):
                raise Stale(STALE)
            details: dict[str, object] = {"role": str(before.role), "left": is_leaving}
            await self._record(tx, actor, "member.removed", entered, before, details)

        await self._database.write(work)

    async def _find(self, tx: Transaction, organisation: Organisation, user: str) -> Member:
        found = await members.find(tx, organisation.id, user)
        now = self._clock.now()
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            raise NotFound(f"{organisation.slug} has no member of this name")
        return found

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        organisation: Organisation,
        member: Member,
        details: dict[str, object],
    ) -> None:
        change = Change(
            action, "user", to_text(member.user_id), member.user, organisation.id, details
        )
        await record(tx, actor, change, now=self._clock.now())


def _is_own(actor: Actor) -> bool:
    """Whether a token reaches as far as its user; a limited one takes nobody out of anything."""
    try:
        require_user(actor.credential)
    except Denied:
        return False
    return True


def _needed(*roles: Role) -> Action:
    return Action.MANAGE_OWNERS if Role.OWNER in roles else Action.MANAGE_MEMBERS


def _require_another(owners: frozenset[int], member: Member) -> None:
    """Raises Unsupported when nobody else owns the organisation for good."""
    if owners == {member.user_id}:
        raise Unsupported(
            f"{member.user} is the last owner; make somebody else an owner first:"
            " entrepot member set NAME --role owner"
        )
