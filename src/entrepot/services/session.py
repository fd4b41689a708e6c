"""Logging in for a token, asking who one is, and changing one's own password."""

from dataclasses import dataclass, replace

from entrepot.db import organisations, tokens, users
from entrepot.db.database import Database, Transaction
from entrepot.db.users import Account
from entrepot.identity.tokens import hash_token, new_token
from entrepot.model.access import Action, Actor, Credential, Kind, Role
from entrepot.model.clock import DAY, MINUTE, SECOND, Clock
from entrepot.model.errors import FieldInvalid, Unauthenticated
from entrepot.model.ids import new_id, to_text
from entrepot.model.tenancy import Change, Organisation, TokenFacts, User
from entrepot.services.access import Access
from entrepot.services.audit import record
from entrepot.services.login import REFUSED, Login, may_be_a_name
from entrepot.services.tokens import require_room
from entrepot.services.users import LOGIN_AS, LOGIN_FROM, end_logins, record_user, require_user

LIFETIME = 90 * DAY
SHORTEST, LONGEST = MINUTE, 366 * DAY
NAME_LIMIT = 90  # characters that a caller may add to the name of a token
_SHOWN_ORGANISATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever holds a credential: the user, if it is one's, and the organisations to be seen."""

    token: TokenFacts
    user: User | None
    organisations: list[tuple[Organisation, Role | None]]


class Session:
    """What people do before and beside everything else."""

    def __init__(self, database: Database, clock: Clock, access: Access, login: Login) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._login = login

    async def log_in(
        self,
        actor: Actor,
        name: str,
        password: str,
        *,
        token_name: str = "",
        expires_in: int = LIFETIME,
    ) -> tuple[TokenFacts, str]:
        """A user token without limits for whoever knows the password, and its secret.

        `actor` tells where the request came from; `expires_in` is in µs, a minute to 366 days.
        Raises Unauthenticated, the same whatever is not right, and recorded; TooManyRequests with
        `retry_after` in seconds; FieldInvalid; Unavailable.
        """
        if not SHORTEST <= expires_in <= LONGEST:
            message = "a login lasts for at least a minute and at most 366 days"
            raise FieldInvalid(message, field="expires_in")
        if len(token_name) > NAME_LIMIT:
            raise FieldInvalid(f"at most {NAME_LIMIT} characters", field="token_name")
        try:
            account = await self._login.by_password(name, password, actor.origin.address)
        except Unauthenticated:
            await self._database.write(lambda tx: self._record_refusal(tx, actor, name))
            raise
        token_id, secret = new_id(), new_token(Kind.USER)

        async def work(tx: Transaction) -> TokenFacts:
            found = await tokens.get(tx, token_id)
            if found is not None:  # ours: this runs again
                return found
            # The password may have changed since it was looked at, and ended all logins.
            if not await users.hold(tx, account.id, version=account.version):
                raise Unauthenticated(REFUSED)
            now = self._clock.now()
            credential = Credential(
                token_id,
                Kind.USER,
                user_id=account.id,
                name=account.name,
                expires_at=now + expires_in,
            )
            await require_room(tx, credential, now=now)
            facts = await add_login(
                tx, actor, credential, secret=secret, token_name=token_name, now=now
            )
            change = Change(
                "user.logged-in",
                "user",
                to_text(account.id),
                account.name,
                details={"token": facts.name, "expires_in_seconds": expires_in // SECOND},
            )
            await record(tx, replace(actor, credential=credential), change, now=now)
            return facts

        return await self._database.write(work), secret

    async def who(self, actor: Actor) -> Who:
        """Whose credential this is, and up to 1,000 organisations that it sees.

        Raises Unauthenticated.
        """
        async with self._database.read() as tx:
            credential = (await self._access.known(tx, actor)).credential
            token = await tokens.get(tx, credential.token_id)
            if token is None:
                raise Unauthenticated("this credential has no row here")
            user_id = credential.user_id
            user = await users.get(tx, user_id) if user_id is not None else None
            ids = sorted(set(credential.roles) | {credential.organisation_id or 0})
            seen = [
                organisation_id
                for organisation_id in ids
                if Action.SEE_ORGANISATION in self._access.allowed_in(credential, organisation_id)
            ]
            found = await organisations.page_of_ids(tx, seen, after="", limit=_SHOWN_ORGANISATIONS)
        return Who(token, user, [(each, credential.roles.get(each.id)) for each in found])

    async def change_password(self, actor: Actor, current: str | None, new: str) -> None:
        """Give oneself another password; ends one's other tokens that were made by logging in.

        Raises Denied for `current` and for tokens that are limited or no user's, PasswordInvalid,
        TooManyRequests, Unauthenticated, Conflict, Unavailable.
        """
        async with self._database.read() as tx:
            credential = (await self._access.known(tx, actor)).credential
        user_id = require_user(credential)

        async def then(tx: Transaction) -> None:
            require_user((await self._access.known(tx, actor)).credential)
            user = await users.get(tx, user_id)
            if user is None:
                raise Unauthenticated(REFUSED)
            now = self._clock.now()
            ended = await end_logins(tx, user_id, besides=credential.token_id, now=now)
            details = {"ended_logins": ended}
            await record_user(tx, actor, "user.password-changed", user, details, now=now)

        await self._login.set_password(user_id, current, new, then=then)

    async def _record_refusal(self, tx: Transaction, actor: Actor, name: str) -> None:
        # Only names that exist: into this field people type passwords by mistake.
        account: Account | None = (
            await users.find_account(tx, name) if may_be_a_name(name) else None
        )
        change = Change(
            "user.login-refused",
            "user",
            to_text(account.id) if account else "",
            account.name if account else "",
        )
        await record(tx, actor, change, now=self._clock.now())


async def add_login(
    tx: Transaction,
    actor: Actor,
    credential: Credential,
    *,
    secret: str,
    token_name: str = "",
    now: int,
) -> TokenFacts:
    """The row of a user token that a password was given for; its name says so."""
    address = actor.origin.address or "an unknown address"
    await tokens.add(
        tx,
        credential,
        token_hash=hash_token(secret),
        name=f"{LOGIN_AS}{token_name}" if token_name else f"{LOGIN_FROM}{address}",
        created_by=credential.user_id,
        now=now,
    )
    facts = await tokens.get(tx, credential.token_id)
    if facts is None:
        raise AssertionError("a token that was just made is there")
    return facts
