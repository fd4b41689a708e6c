"""Users of the server: making them, and what its administrators may change of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from entrepot.db import tokens, users
from entrepot.db.database import Database, Transaction
from entrepot.identity.passwords import Passwords
from entrepot.model.access import Actor, Credential, Kind
from entrepot.model.clock import Clock
from entrepot.model.errors import Conflict, Denied, NotFound, Stale, Taken
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import UserName
from entrepot.model.tenancy import Change, User
from entrepot.services.access import Access
from entrepot.services.audit import record
from entrepot.services.organisations import STALE, require_version

# What the names of tokens begin with that a password was given for; a new password ends them.
LOGIN_FROM, LOGIN_AS = "login from ", "login: "
_NO_USER = "there is no user of this name"


@dataclass(frozen=True, slots=True)
class UserChanges:
    """What to change of a user; None stays as it is. The password is in no log."""

    is_disabled: bool | None = None
    is_administrator: bool | None = None
    password: str | None = field(default=None, repr=False)


class Users:
    """Everybody with a name on this server; all of it is for its administrators."""

    def __init__(
        self, database: Database, clock: Clock, access: Access, passwords: Passwords
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._passwords = passwords

    async def page(self, actor: Actor, *, after: str, limit: int) -> tuple[list[User], bool]:
        """Up to `limit` users by name, disabled ones too, and whether more follow.

        Raises Unauthenticated, Denied.
        """
        async with self._database.read() as tx:
            await self._access.administer(tx, actor)
            found = await users.page(tx, after=after, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def get(self, actor: Actor, name: str) -> User:
        """One user. Raises Unauthenticated, Denied, NotFound."""
        async with self._database.read() as tx:
            await self._access.administer(tx, actor)
            return await _find(tx, name)

    async def create(
        self, actor: Actor, name: str, *, password: str | None = None, is_administrator: bool
    ) -> User:
        """Make a user; without a password only tokens let them in.

        Raises NameInvalid, PasswordInvalid, Taken, Unauthenticated, Denied, Unavailable.
        """
        UserName.parse(name)
        async with self._database.read() as tx:
            await self._access.administer(tx, actor)
        kept = await self._passwords.hash(name, password) if password is not None else None
        user_id = new_id()

        async def work(tx: Transaction) -> User:
            await self._access.administer(tx, actor)
            now = self._clock.now()
            made = await add_user(
                tx, user_id, name, now=now, password_hash=kept, is_administrator=is_administrator
            )
            details = {"is_administrator": is_administrator}
            await record_user(tx, actor, "user.created", made, details, now=now)
            return made

        return await self._database.write(work)

    async def update(
        self, actor: Actor, name: str, changes: UserChanges, *, version: int | None
    ) -> User:
        """Change a user. Disabling one ends all their tokens within 10 s, until they are enabled.

        A new password ends the tokens that were made by logging in. `version` is the one that the
        caller read; None changes whatever there is. Raises Denied (also for the last
        administrator), NotFound, PasswordInvalid, Stale, Unauthenticated, Unavailable.
        """
        kept = None
        async with self._database.read() as tx:
            await self._access.administer(tx, actor)
            await _find(tx, name)
        if changes.password is not None:
            kept = await self._passwords.hash(name, changes.password)

        async def work(tx: Transaction) -> User:
            administrators = await users.lock_administrators(tx)
            await self._access.administer(tx, actor)  # as it is behind the lock
            before = await _find(tx, name)
            require_version(before.version, version)
            if kept is not None:
                await self._set_password(tx, actor, before, kept)
            if changes.is_disabled is not None or changes.is_administrator is not None:
                await self._set_flags(tx, actor, await _find(tx, name), changes, administrators)
            return await _find(tx, name)

        return await self._database.write(work)

    async def _set_password(self, tx: Transaction, actor: Actor, before: User, kept: str) -> None:
        if not await users.set_password(tx, before.id, kept, version=before.version):
            raise Stale(STALE)
        now = self._clock.now()
        ended = await end_logins(tx, before.id, besides=actor.token_id, now=now)
        details = {"ended_logins": ended}
        await record_user(tx, actor, "user.password-changed", before, details, now=now)

    async def _set_flags(
        self,
        tx: Transaction,
        actor: Actor,
        before: User,
        changes: UserChanges,
        administrators: frozenset[int],
    ) -> None:
        now = self._clock.now()
        is_disabled, is_administrator = changes.is_disabled, changes.is_administrator
        if is_disabled is None:
            is_disabled = before.disabled_at is not None
        if is_administrator is None:
            is_administrator = before.is_administrator
        if administrators == {before.id} and (is_disabled or not is_administrator):
            message = f"{before.name} is the last administrator; make another one first"
            raise Denied(message)
        disabled_at = (before.disabled_at or now) if is_disabled else None
        if not await users.set_flags(
            tx,
            before.id,
            is_administrator=is_administrator,
            disabled_at=disabled_at,
            version=before.version,
        ):
            raise Stale(STALE)
        details = {"is_disabled": is_disabled, "is_administrator": is_administrator}
        await record_user(tx, actor, "user.changed", before, details, now=now)


async def add_user(
    tx: Transaction,
    user_id: int,
    name: str,
    *,
    now: int,
    password_hash: str | None,
    is_administrator: bool = False,
) -> User:
    """The row of a new user, which is there already when this runs again. Raises Taken."""
    taken = Taken(f"there is a user {name} already; choose another name", field="name")
    found = await users.find_by_name(tx, name)
    if found is None:
        try:
            await users.add(
                tx,
                id=user_id,
                name=name,
                is_administrator=is_administrator,
                now=now,
                password_hash=password_hash,
            )
        except Conflict as error:  # somebody else was first, this very moment
            raise taken from error
        found = await _find(tx, name)
    if found.id != user_id:
        raise taken
    return found


async def end_logins(tx: Transaction, user_id: int, *, besides: int, now: int) -> int:
    """Revoke the tokens that a user got for a password, but not the row `besides`; how many."""
    return await tokens.revoke_logins(
        tx, user_id, besides=besides, prefixes=(LOGIN_FROM, LOGIN_AS), now=now
    )


async def record_user(
    tx: Transaction,
    actor: Actor,
    action: str,
    user: User,
    details: Mapping[str, object] | None = None,
    *,
    now: int,
) -> None:
    """Append what `actor` did to a user, in the log of the server."""
    change = Change(action, "user", to_text(user.id), user.name, details=details or {})
    await record(tx, actor, change, now=now)


def require_user(credential: Credential) -> int:
    """The user whose token, without limits, this is. Raises Denied."""
    is_limited = credential.patterns is not None or credential.actions is not None
    if credential.kind is not Kind.USER or credential.user_id is None or is_limited:
        raise Denied("this is for people, with a token of their own without limits")
    return credential.user_id


async def _find(tx: Transaction, name: str) -> User:
    found = await users.find_by_name(tx, name)
    if found is None:
        raise NotFound(_NO_USER)
    return found
