"""Tokens of every kind: making, listing and revoking them. A secret is shown once, and never kept.

Nobody makes a token that may more than the credential that asks for it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from entrepot.db import projects, tokens, users
from entrepot.db.database import Database, Transaction
from entrepot.identity.tokens import hash_token, new_token
from entrepot.model.access import Action, Actor, Credential, Kind
from entrepot.model.clock import DAY, HOUR, MINUTE, SECOND, Clock
from entrepot.model.errors import Denied, FieldInvalid, NotFound
from entrepot.model.ids import new_id, to_text
from entrepot.model.rights import SCOPE_WORDS
from entrepot.model.tenancy import Change, TokenFacts
from entrepot.services.access import OPERATOR, Access
from entrepot.services.audit import record

FIRST_USER = "admin"
OF_ORGANISATION, OF_USER = 10_000, 1_000  # tokens at once
PULL_LIFETIME = HOUR  # of pull tokens, unless they say otherwise
_SHORTEST, _LONGEST = MINUTE, 3_660 * DAY
_PATTERNS, _NAME = 20, 100
_PATTERN = re.compile(r"[a-z0-9._/*-]{1,255}")
_KINDS = frozenset({Kind.USER, Kind.ORGANISATION, Kind.PROJECT, Kind.PULL})
_OF_PROJECTS = frozenset({Kind.PROJECT, Kind.PULL})
NO_TOKEN = "no such token, or none that you may see"  # noqa: S105  # a sentence


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token to make; `user` is for the operator, who has no tokens of an own.

    `organisation` is a slug or id, `project` an id, `expires_in` in µs; `patterns` match paths of
    repositories, `actions` are words of SCOPE_WORDS; None limits nothing.
    """

    kind: Kind
    organisation: str | None = None
    user: str | None = None
    project: str | None = None
    patterns: tuple[str, ...] | None = None
    actions: frozenset[str] | None = None
    expires_in: int | None = None
    may_manage: bool = False
    name: str = ""

    def require_valid(self) -> None:
        """Raises FieldInvalid."""
        if self.kind not in _KINDS:
            raise FieldInvalid("a token's kind is user, org, project or pull", field="kind")
        if len(self.name) > _NAME:
            raise FieldInvalid(f"a name has at most {_NAME} characters", field="name")
        patterns, actions = self.patterns, self.actions
        if patterns is not None and (
            not 1 <= len(patterns) <= _PATTERNS
            or not all(_PATTERN.fullmatch(pattern) for pattern in patterns)
        ):
            message = f"patterns are 1 to {_PATTERNS} paths with * and **, such as team/**"
            raise FieldInvalid(message, field="patterns")
        if actions is not None and (not actions or not actions <= set(SCOPE_WORDS)):
            message = f"actions are some of {', '.join(SCOPE_WORDS)}"
            raise FieldInvalid(message, field="actions")
        if self.expires_in is not None and not _SHORTEST <= self.expires_in <= _LONGEST:
            message = "a token lives for at least a minute and at most ten years"
            raise FieldInvalid(message, field="expires_in")
        if self.may_manage and self.kind is not Kind.ORGANISATION:
            message = "only an organisation token can be made to manage"
            raise FieldInvalid(message, field="may_manage")
        if self.project is not None and self.kind not in _OF_PROJECTS:
            message = "a project goes with project and pull tokens"
            raise FieldInvalid(message, field="project")
        if self.project is None and self.kind is Kind.PROJECT:
            raise FieldInvalid("a project token needs a project", field="project")


class Tokens:
    """The credentials that can be made and revoked."""

    def __init__(self, database: Database, clock: Clock, access: Access) -> None:
        self._database = database
        self._clock = clock
        self._access = access

    async def create(self, actor: Actor, request: TokenRequest) -> tuple[TokenFacts, str]:
        """Make a token; its row, and the secret, which is nowhere else.

        Raises FieldInvalid, NotFound, Denied, Unauthenticated.
        """
        request.require_valid()
        token_id, secret = new_id(), new_token(request.kind)

        async def work(tx: Transaction) -> TokenFacts:
            asking = await self._access.known(tx, actor)
            now = self._clock.now()
            credential = await self._credential(tx, asking, request, token_id, now)
            _require_within(asking.credential, credential)
            if await tokens.get(tx, token_id) is None:  # it is there when this runs again
                await require_room(tx, credential, now=now)
                await tokens.add(
                    tx,
                    credential,
                    token_hash=hash_token(secret),
                    name=request.name,
                    created_by=asking.credential.user_id,
                    now=now,
                )
                ends = credential.expires_at
                more: dict[str, object] = {
                    "may_manage": credential.may_manage,
                    "expires_at": _rfc_3339(ends) if ends is not None else None,
                }
                made = await self._get(tx, token_id)
                await self._record(tx, actor, "token.created", made, more)
            return await self._get(tx, token_id)

        return await self._database.write(work), secret

    async def page_of_user(
        self, actor: Actor, *, before: int, limit: int
    ) -> tuple[list[TokenFacts], bool]:
        """The caller's own user tokens, newest first, and whether more follow.

        Raises Unauthenticated, Denied.
        """
        async with self._database.read(scan=True) as tx:
            asking = await self._access.known(tx, actor)
            user_id = _require_user(asking.credential)
            if not _may_manage(asking.credential):
                raise Denied("a limited token tells of no others; log in with your own")
            found = await tokens.page_of_user(tx, user_id, before=before, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def page_of_organisation(
        self, actor: Actor, organisation: str, *, before: int, limit: int
    ) -> tuple[list[TokenFacts], bool]:
        """An organisation's tokens, newest first, and whether more follow.

        Who may not manage organisation tokens sees those of projects and for pulling.
        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read(scan=True) as tx:
            entered = await self._access.enter(tx, actor, Action.CREATE_PULL_TOKEN, organisation)
            asking = await self._access.known(tx, actor)
            actions = self._access.allowed_in(asking.credential, entered.id)
            kinds = _KINDS if Action.MANAGE_TOKENS in actions else _OF_PROJECTS
            found = await tokens.page_of_organisation(
                tx, entered.id, kinds=kinds, before=before, limit=limit + 1
            )
        return found[:limit], len(found) > limit

    async def get(self, actor: Actor, token_id: int) -> TokenFacts:
        """One token: the one in use, one's own, or the organisation's. Raises NotFound."""
        async with self._database.read() as tx:
            return await self._reach(tx, actor, token_id)

    async def revoke(self, actor: Actor, token_id: int) -> None:
        """End a token for good, everywhere within 10 s; once more changes nothing.

        Raises NotFound, Unauthenticated.
        """

        async def work(tx: Transaction) -> None:
            token = await self._reach(tx, actor, token_id)
            if await tokens.revoke(tx, token.id, self._clock.now()):
                await self._record(tx, actor, "token.revoked", token)

        await self._database.write(work)

    async def revoke_secret(self, secret: str) -> bool:
        """End a token of which the operator has the secret; whether it was good until now."""

        async def work(tx: Transaction) -> bool:
            credential = await tokens.find_by_hash(tx, hash_token(secret))
            if credential is None:
                return False
            await self._record(
                tx, OPERATOR, "token.revoked", await self._get(tx, credential.token_id)
            )
            return await tokens.revoke(tx, credential.token_id, self._clock.now())

        return await self._database.write(work)

    async def _reach(self, tx: Transaction, actor: Actor, token_id: int) -> TokenFacts:
        """A token that the caller may see and revoke: what may make it may end it."""
        asking = (await self._access.known(tx, actor)).credential
        token = await tokens.get(tx, token_id)
        if token is None:
            raise NotFound(NO_TOKEN)
        if token.id == asking.token_id:
            return token
        if token.kind is Kind.USER:
            if token.user_id != asking.user_id or not _may_manage(asking):
                raise NotFound(NO_TOKEN)
            return token
        needed = Action.CREATE_PULL_TOKEN if token.kind in _OF_PROJECTS else Action.MANAGE_TOKENS
        if needed not in self._access.allowed_in(asking, token.organisation_id or 0):
            raise NotFound(NO_TOKEN)
        return token

    async def _credential(
        self, tx: Transaction, asking: Actor, request: TokenRequest, token_id: int, now: int
    ) -> Credential:
        expires_in = request.expires_in
        if expires_in is None and request.kind is Kind.PULL:
            expires_in = PULL_LIFETIME
        organisation_id, user_id, project_id = None, None, None
        if request.kind is Kind.USER:
            user_id = await self._user(tx, asking, request.user)
        else:
            organisation_id, project_id = await self._place(tx, asking, request)
        return Credential(
            token_id=token_id,
            kind=request.kind,
            user_id=user_id,
            organisation_id=organisation_id,
            may_manage=request.may_manage,
            project_id=project_id,
            patterns=request.patterns,
            actions=request.actions,
            expires_at=now + expires_in if expires_in is not None else None,
        )

    async def _user(self, tx: Transaction, asking: Actor, name: str | None) -> int:
        if asking.credential.kind is not Kind.OPERATOR:
            if not _may_manage(asking.credential):
                raise Denied("a limited token makes no user tokens; log in with your own")
            return _require_user(asking.credential)
        user_id = await users.find(tx, name or FIRST_USER)
        if user_id is None:
            raise NotFound(f"there is no user {name}")
        return user_id

    async def _place(
        self, tx: Transaction, asking: Actor, request: TokenRequest
    ) -> tuple[int, int | None]:
        """The organisation and the project of a token, to somebody who may make it."""
        of_project = request.kind in _OF_PROJECTS
        action = Action.CREATE_PULL_TOKEN if of_project else Action.MANAGE_TOKENS
        entered = await self._access.enter(tx, asking, action, request.organisation or "")
        if request.project is None:
            return entered.id, None
        project = await projects.find(tx, request.project)
        if project is None or project.organisation_id != entered.id:
            raise NotFound(f"{entered.slug} has no project {request.project}")
        return entered.id, project.id

    @staticmethod
    async def _get(tx: Transaction, token_id: int) -> TokenFacts:
        token = await tokens.get(tx, token_id)
        if token is None:
            raise AssertionError("a token that was just made or found is there")
        return token

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        token: TokenFacts,
        more: dict[str, object] | None = None,
    ) -> None:
        details: dict[str, object] = {
            "kind": str(token.kind),
            "patterns": token.patterns,
            "actions": sorted(token.actions) if token.actions is not None else None,
            "project": token.project_public_id,
            "user": token.user,
            **(more or {}),
        }
        change = Change(
            action, "token", to_text(token.id), token.name, token.organisation_id, details
        )
        await record(tx, actor, change, now=self._clock.now())


async def require_room(tx: Transaction, credential: Credential, *, now: int) -> None:
    """Raises Denied where a user or an organisation has as many tokens as there may be."""
    if credential.organisation_id is not None:
        place, limit = credential.organisation_id, OF_ORGANISATION
        if await tokens.count_of_organisation(tx, place, limit=limit, now=now) >= limit:
            message = f"this organisation has {limit:,} tokens; revoke some, or let them end sooner"
            raise Denied(message)
    elif credential.user_id is not None:
        limit = OF_USER
        if await tokens.count_of_user(tx, credential.user_id, limit=limit, now=now) >= limit:
            message = (
                f"this user has {limit:,} tokens; revoke some with one of them, or set a new "
                "password, which ends those of log-ins"
            )
            raise Denied(message)


def _rfc_3339(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / SECOND, UTC).isoformat().replace("+00:00", "Z")


def _require_user(credential: Credential) -> int:
    if credential.kind is not Kind.USER or credential.user_id is None:
        raise Denied("only people have tokens of their own; this token belongs to no user")
    return credential.user_id


def _may_manage(credential: Credential) -> bool:
    """Whether a user's token reaches as far as the user, for what has no organisation."""
    words = credential.actions
    return credential.patterns is None and (words is None or "manage" in words)


def _require_within(asking: Credential, wanted: Credential) -> None:
    """Raises Denied for a token that may more, or lives longer, than a limited one that asks."""
    words = asking.actions
    needed = frozenset({"pull"}) if wanted.kind is Kind.PULL else wanted.actions
    if words is not None and (needed is None or not needed <= words):
        message = f"a token like this one can only make such with {', '.join(sorted(words))}"
        raise Denied(message)
    if asking.kind is Kind.ORGANISATION:
        ends, what = asking.expires_at, "a token"
    else:  # an owner for an hour leaves nothing behind that lasts
        ends, what = asking.role_ends.get(wanted.organisation_id or 0), "a role"
    if ends is not None and (wanted.expires_at is None or wanted.expires_at > ends):
        message = f"{what} that ends can only make tokens that end before it; say when"
        raise Denied(message)
