"""Organisations: making, changing and deleting them."""

from dataclasses import replace

from entrepot.db import collection, installation, members, organisations, repositories
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Role
from entrepot.model.clock import HOUR, Clock
from entrepot.model.errors import Denied, FieldInvalid, NotFound, Stale, Taken
from entrepot.model.ids import new_id, new_public_id
from entrepot.model.names import Slug, is_public_id
from entrepot.model.tenancy import Change, Organisation
from entrepot.services.access import Access, require_writable
from entrepot.services.addresses import DEFAULT_ORGANISATION
from entrepot.services.audit import record

BREAK_GLASS = HOUR
_OWNERS_OWN = frozenset({"price_micros", "quota"})


class Organisations:
    """What can be done to organisations as a whole."""

    def __init__(self, database: Database, clock: Clock, access: Access) -> None:
        self._database = database
        self._clock = clock
        self._access = access

    async def page(
        self, actor: Actor, *, after: str, limit: int
    ) -> tuple[list[Organisation], bool]:
        """Up to `limit` organisations that the caller may see, by slug, and whether more follow.

        Raises Unauthenticated.
        """
        async with self._database.read(scan=True) as tx:
            actor = await self._access.known(tx, actor)
            credential = actor.credential
            # What an administrator may see of any organisation, within the limits of the token.
            if Action.SEE_ORGANISATION in self._access.allowed_in(credential, 0):
                found = await organisations.page(tx, after=after, limit=limit + 1)
            else:
                ids = set(credential.roles) | {credential.organisation_id or 0}
                may_see = [
                    organisation_id
                    for organisation_id in sorted(ids)
                    if Action.SEE_ORGANISATION
                    in self._access.allowed_in(credential, organisation_id)
                ]
                found = await organisations.page_of_ids(tx, may_see, after=after, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def get(self, actor: Actor, name: str) -> Organisation:
        """One organisation, by slug or id. Raises Unauthenticated, NotFound."""
        async with self._database.read() as tx:
            return await self._access.enter(tx, actor, Action.SEE_ORGANISATION, name)

    async def create(
        self, actor: Actor, slug: str, *, name: str = "", public_id: str | None = None
    ) -> Organisation:
        """Make an organisation; a user who makes it owns it. For server administrators.

        Raises NameInvalid, FieldInvalid, Taken, Unauthenticated, Denied.
        """
        Slug.parse(slug)
        require_public_id(public_id)
        organisation_id, public_id = new_id(), public_id or new_public_id()

        async def work(tx: Transaction) -> Organisation:
            await self._access.administer(tx, actor)
            if (ours := await organisations.get(tx, organisation_id)) is not None:
                return ours  # made by this, before an unknown COMMIT
            made = await self.add(tx, organisation_id, public_id=public_id, slug=slug, name=name)
            if actor.credential.user_id is not None:
                await members.put(
                    tx,
                    organisation_id=made.id,
                    user_id=actor.credential.user_id,
                    role=Role.OWNER,
                    now=self._clock.now(),
                )
            await self._record(tx, actor, "organisation.created", made)
            return made

        return await self._database.write(work)

    async def add(
        self, tx: Transaction, organisation_id: int, *, public_id: str, slug: str, name: str = ""
    ) -> Organisation:
        """The row of a new organisation. Raises Taken."""
        await require_free(tx, slug, field="slug")
        await require_free(tx, public_id, field="id")
        await organisations.add(
            tx,
            id=organisation_id,
            public_id=public_id,
            slug=slug,
            name=name,
            now=self._clock.now(),
        )
        made = await organisations.get(tx, organisation_id)
        if made is None:
            raise AssertionError("an organisation that was just made is there")
        return made

    async def update(
        self, actor: Actor, name: str, changes: dict[str, object], *, version: int | None
    ) -> Organisation:
        """Change settings: fields of `Organisation` by name. Raises Stale, NotFound, Denied, ….

        Of a `quota`, the limits that are named. `version` is the one that the caller read; None
        changes whatever there is.
        """

        async def work(tx: Transaction) -> Organisation:
            action = (
                Action.OWN_ORGANISATION
                if _OWNERS_OWN & set(changes)
                else Action.MANAGE_ORGANISATION
            )
            before = await self._access.enter(tx, actor, action, name)
            require_version(before.version, version)
            given = dict(changes)
            if isinstance(limits := given.get("quota"), dict):
                given["quota"] = replace(before.quota, **limits)
            changed = replace(before, **given)  # type: ignore[arg-type]  # checked by the surface
            if not await organisations.update(tx, changed):
                raise Stale(STALE)
            details: dict[str, object] = {"fields": sorted(changes)}
            if "retention" in changes:
                details["retention"] = str(changed.retention) if changed.retention else None
            await self._record(tx, actor, "organisation.changed", before, details)
            return replace(changed, version=before.version + 1)

        return await self._database.write(work)

    async def delete(self, actor: Actor, name: str, *, version: int | None) -> None:
        """Delete an organisation with all that is in it; its slug is never given to another.

        Raises Denied (also for the default organisation, and where it is read-only), NotFound,
        Stale.
        """

        async def work(tx: Transaction) -> None:
            found = await self._access.enter(tx, actor, Action.OWN_ORGANISATION, name)
            require_version(found.version, version)
            if await installation.find(tx, DEFAULT_ORGANISATION) == str(found.id):
                message = f"{found.slug} is the default organisation of this registry and stays"
                raise Denied(message)
            place = await organisations.find_place(tx, found.public_id, "")
            if place is not None:
                require_writable(place)
            now = self._clock.now()
            await organisations.delete(tx, found.id, now=now)
            await collection.review(tx, "organisation", found.id, "", due_at=now)
            await self._record(tx, actor, "organisation.deleted", found)

        await self._database.write(work)

    async def break_glass(self, actor: Actor, name: str, *, reason: str) -> int:
        """Make a server administrator an owner of an organisation for an hour; until when.

        The organisation's own log says so. Raises Denied, NotFound.
        """

        async def work(tx: Transaction) -> int:
            await self._access.administer(tx, actor)
            credential = (await self._access.known(tx, actor)).credential
            found = await organisations.find(tx, name)
            user_id = credential.user_id
            if found is None:
                raise NotFound("no such organisation")
            if user_id is None:
                raise Denied("only a user can become a member; the operator has no need to")
            if found.id in credential.roles and found.id not in credential.role_ends:
                raise Denied("you are a member of this organisation already; ask an owner")
            now = self._clock.now()
            until = now + BREAK_GLASS
            await members.put(
                tx,
                organisation_id=found.id,
                user_id=user_id,
                role=Role.OWNER,
                now=now,
                expires_at=until,
            )
            await self._record(tx, actor, "organisation.break-glass", found, {"reason": reason})
            return until

        return await self._database.write(work)

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        organisation: Organisation,
        details: dict[str, object] | None = None,
    ) -> None:
        change = Change(
            action,
            "organisation",
            organisation.public_id,
            organisation.slug,
            organisation.id,
            details or {},
        )
        await record(tx, actor, change, now=self._clock.now())


NONE_PUBLIC = "this organisation allows no public repositories; one of its owners can"
STALE = "this was changed since you read it; read it again and repeat the change"


def require_version(found: int, expected: int | None) -> None:
    """Raises Stale when somebody changed the row since the caller read it."""
    if expected is not None and found != expected:
        raise Stale(STALE)


def require_public_id(public_id: str | None) -> None:
    """Raises FieldInvalid for a given id that is none of ours in form."""
    if public_id is not None and not is_public_id(public_id):
        message = "an id is 10 characters of 0-9 and bcdfghjklmnpqrstvwxz"
        raise FieldInvalid(message, field="id")


async def require_free(tx: Transaction, component: str, *, field: str) -> None:
    """A slug or id must be nobody's, ever, and hide no repository of the default organisation.

    Raises Taken.
    """
    await installation.lock(tx, DEFAULT_ORGANISATION)
    if await organisations.is_taken(tx, component):
        message = f"{component} is taken, or was once; choose another"
        raise Taken(message, field=field)
    value = await installation.find(tx, DEFAULT_ORGANISATION)
    if value is not None and await repositories.has_first_component(tx, int(value), component):
        message = (
            f"the default organisation has a repository that begins with {component}; "
            "choose another"
        )
        raise Taken(message, field=field)
