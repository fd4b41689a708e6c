"""Invitations: a link that lets whoever has it join an organisation, once.

Its secret has 178 random bits, so that guesses need no limit: a thousand million a second would
not find one before the sun is gone.
"""

from dataclasses import dataclass, replace

from entrepot.db import invitations, members, organisations, tokens, users
from entrepot.db.database import Database, Transaction
from entrepot.identity.passwords import Passwords, require_acceptable
from entrepot.identity.tokens import hash_token, is_invitation, new_invitation, new_token
from entrepot.model.access import Action, Actor, Credential, Kind, Role
from entrepot.model.clock import DAY, HOUR, Clock
from entrepot.model.errors import Denied, FieldInvalid, NotFound
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import UserName
from entrepot.model.rights import RANK
from entrepot.model.tenancy import Change, Invitation, Organisation, User
from entrepot.services.access import NOBODY, OPERATOR, Access
from entrepot.services.audit import record
from entrepot.services.session import LIFETIME as LOGIN_LIFETIME
from entrepot.services.session import add_login
from entrepot.services.users import add_user, record_user, require_user

LIFETIME = 7 * DAY
SHORTEST, LONGEST = HOUR, 30 * DAY
NOTE_LIMIT = 200
OPEN = 1_000  # of one organisation, at once
_NO_INVITATION = "no such invitation, or it was used, revoked or has expired; ask for another"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What came of an invitation; `token` is the secret of a user who was made by it."""

    organisation: Organisation
    user: User
    role: Role
    token: str | None


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A user to make, with the token that the user gets."""

    user_id: int
    token_id: int
    name: str
    password_hash: str
    token: str


class Invitations:
    """Offers to become a member: they give no more than the inviter may give when they are used."""

    def __init__(
        self, database: Database, clock: Clock, access: Access, passwords: Passwords
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._passwords = passwords

    async def create(
        self,
        actor: Actor,
        organisation: str,
        *,
        role: Role = Role.MEMBER,
        note: str = "",
        expires_in: int = LIFETIME,
    ) -> tuple[Invitation, str]:
        """Invite somebody; the secret is nowhere else. `expires_in` is in µs, 1 hour to 30 days.

        Raises FieldInvalid, Unauthenticated, NotFound, Denied.
        """
        if not SHORTEST <= expires_in <= LONGEST:
            message = "an invitation is open for at least an hour and at most 30 days"
            raise FieldInvalid(message, field="expires_in")
        if len(note) > NOTE_LIMIT:
            raise FieldInvalid(f"a note has at most {NOTE_LIMIT} characters", field="note")
        invitation_id, secret, now = new_id(), new_invitation(), self._clock.now()

        async def work(tx: Transaction) -> Invitation:
            entered = await self._access.enter(tx, actor, _needed(role), organisation)
            made = Invitation(
                id=invitation_id,
                organisation_id=entered.id,
                role=role,
                note=note,
                created_by=actor.credential.user_id or actor.token_id,
                inviter=actor.credential.name,
                created_at=now,
                expires_at=now + expires_in,
            )
            if await invitations.add(tx, made, invitation_hash=hash_token(secret)):
                count = await invitations.count_open(tx, entered.id, limit=OPEN + 1, now=now)
                if count > OPEN:
                    message = f"{entered.slug} has {OPEN:,} open invitations; revoke some first"
                    raise Denied(message)
                await self._record(tx, actor, "invitation.created", made)
            return made

        return await self._database.write(work), secret

    async def page(
        self, actor: Actor, organisation: str, *, before: int, limit: int
    ) -> tuple[list[Invitation], bool]:
        """Open invitations, newest first, and whether more follow.

        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read(scan=True) as tx:
            entered = await self._access.enter(tx, actor, Action.MANAGE_MEMBERS, organisation)
            found = await invitations.page(
                tx, entered.id, before=before, limit=limit + 1, now=self._clock.now()
            )
        return found[:limit], len(found) > limit

    async def revoke(self, actor: Actor, organisation: str, invitation_id: int) -> None:
        """End an open invitation. Raises Unauthenticated, NotFound, Denied."""

        async def work(tx: Transaction) -> None:
            entered = await self._access.enter(tx, actor, Action.MANAGE_MEMBERS, organisation)
            now = self._clock.now()
            found = await invitations.find(tx, entered.id, invitation_id, now=now)
            if found is None:
                raise NotFound(_NO_INVITATION)
            await self._access.enter(tx, actor, _needed(found.role), entered.id)
            if not await invitations.revoke(tx, found.id, now=now):
                raise NotFound(_NO_INVITATION)
            await self._record(tx, actor, "invitation.revoked", found)

        await self._database.write(work)

    async def accept(
        self, actor: Actor, secret: str, *, name: str | None = None, password: str | None = None
    ) -> Accepted:
        """Join: a user by a user token, anybody else as the new user `name`, who gets a token.

        A member's higher role stays. Raises NotFound for an invitation that does not count (used,
        expired, revoked, or the inviter may invite nobody any more), FieldInvalid, NameInvalid,
        PasswordInvalid, Taken, Denied, Unauthenticated, Unavailable.
        """
        if not is_invitation(secret):
            raise NotFound(_NO_INVITATION)
        newcomer = await self._newcomer(
            hash_token(secret), name, password, is_known=not actor.is_anonymous
        )
        at = self._clock.now()

        async def work(tx: Transaction) -> Accepted:
            taken = await invitations.take(tx, hash_token(secret), now=at)
            user_id = newcomer.user_id if newcomer else actor.credential.user_id or 0
            invitation = taken or await invitations.find_taken(
                tx, hash_token(secret), user_id=user_id, at=at
            )
            if invitation is None:
                raise NotFound(_NO_INVITATION)
            organisation = await organisations.get(tx, invitation.organisation_id)
            role = await self._granted(tx, invitation)
            if organisation is None or role is None:
                raise NotFound(_NO_INVITATION)
            user, joining = await self._user(tx, actor, newcomer, at)
            if taken is not None:
                await invitations.set_taker(tx, invitation.id, user.id)
                await self._join(tx, joining, invitation, user, role)
            member = await members.get(tx, organisation.id, user.id)
            return Accepted(
                organisation,
                user,
                member.role if member is not None else role,
                newcomer.token if newcomer else None,
            )

        return await self._database.write(work)

    async def _newcomer(
        self, invitation_hash: str, name: str | None, password: str | None, *, is_known: bool
    ) -> _Newcomer | None:
        """What a new user needs; nothing for one that is known. Hashes for open invitations only.

        Raises FieldInvalid, NameInvalid, PasswordInvalid, NotFound, Unavailable.
        """
        if is_known:
            if name is not None or password is not None:
                message = "you are logged in: leave this out, or come without a token"
                field = "name" if name is not None else "password"
                raise FieldInvalid(message, field=field)
            return None
        if name is None or password is None:
            message = (
                "whoever has no user here yet chooses a name and a password; others send a token"
            )
            raise FieldInvalid(message, field="name" if name is None else "password")
        UserName.parse(name)
        require_acceptable(name, password)
        async with self._database.read() as tx:
            if not await invitations.is_open(tx, invitation_hash, now=self._clock.now()):
                raise NotFound(_NO_INVITATION)
        kept = await self._passwords.hash(name, password)
        return _Newcomer(new_id(), new_id(), name, kept, new_token(Kind.USER))

    async def _granted(self, tx: Transaction, invitation: Invitation) -> Role | None:
        """What the inviter may still give of the role that was offered."""
        inviter = await self._inviter(tx, invitation)
        may = self._access.allowed_in(inviter, invitation.organisation_id)
        return next(
            (
                role
                for role in sorted(RANK, key=RANK.__getitem__, reverse=True)
                if RANK[role] <= RANK[invitation.role] and _needed(role) in may
            ),
            None,
        )

    async def _inviter(self, tx: Transaction, invitation: Invitation) -> Credential:
        """Whoever stands behind an invitation, as of now; nobody, if they are gone."""
        if invitation.created_by == OPERATOR.token_id:
            return OPERATOR.credential
        organisation_id, inviter_id = invitation.organisation_id, invitation.created_by
        member = await members.get(tx, organisation_id, inviter_id)
        if member is not None:
            ends = {} if member.expires_at is None else {organisation_id: member.expires_at}
            return Credential(
                token_id=0,
                kind=Kind.USER,
                user_id=member.user_id,
                roles={organisation_id: member.role},
                role_ends=ends,
            )
        token = await tokens.find(tx, inviter_id)
        if token is None or (token.expires_at or 2**62) <= self._clock.now():
            return NOBODY.credential
        return token

    async def _user(
        self, tx: Transaction, actor: Actor, newcomer: _Newcomer | None, now: int
    ) -> tuple[User, Actor]:
        """The user who joins, and as whom the log names them. Raises Taken, Denied."""
        if newcomer is None:
            joining = await self._access.known(tx, actor)
            user = await users.get(tx, require_user(joining.credential))
            if user is None:
                raise NotFound(_NO_INVITATION)
            return user, joining
        user = await add_user(
            tx, newcomer.user_id, newcomer.name, now=now, password_hash=newcomer.password_hash
        )
        credential = Credential(
            newcomer.token_id,
            Kind.USER,
            user_id=user.id,
            name=user.name,
            expires_at=now + LOGIN_LIFETIME,
        )
        joining = replace(actor, credential=credential)
        if await tokens.get(tx, newcomer.token_id) is None:  # else this runs again
            await add_login(tx, actor, credential, secret=newcomer.token, now=now)
            await record_user(tx, joining, "user.created", user, {"invited": True}, now=now)
        return user, joining

    async def _join(
        self, tx: Transaction, joining: Actor, invitation: Invitation, user: User, role: Role
    ) -> None:
        await members.put_at_least(
            tx,
            organisation_id=invitation.organisation_id,
            user_id=user.id,
            role=role,
            lower=[lower for lower in RANK if RANK[lower] < RANK[role]],
            now=self._clock.now(),
        )
        details = {"user": user.name, "given": str(role), "invited_by": invitation.inviter}
        await self._record(tx, joining, "invitation.accepted", invitation, details)

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        invitation: Invitation,
        details: dict[str, str] | None = None,
    ) -> None:
        change = Change(
            action,
            "invitation",
            to_text(invitation.id),
            invitation.note,
            invitation.organisation_id,
            {"role": str(invitation.role), **(details or {})},
        )
        await record(tx, actor, change, now=self._clock.now())


def _needed(role: Role) -> Action:
    return Action.MANAGE_OWNERS if role is Role.OWNER else Action.MANAGE_MEMBERS
