"""The only judge of who may do what. It sees rows and rights, never a route or a driver.

Effective right = what the bearer token covers AND what the credential's own scope covers AND what
its owner may do now AND what the registry allows.
"""

from dataclasses import replace

from entrepot.db import organisations, repositories, tokens
from entrepot.db.database import Transaction
from entrepot.model.access import (
    Action,
    Actor,
    Credential,
    Kind,
    Place,
    Repository,
    Role,
    is_match,
)
from entrepot.model.clock import HOUR, Clock
from entrepot.model.errors import Denied, NameUnknown, NotFound, Unauthenticated
from entrepot.model.rights import (
    ADMINISTRATOR_ACTIONS,
    GIVES_RIGHTS,
    MANAGING_ACTIONS,
    ORGANISATION_ACTIONS,
    PROJECT_ACTIONS,
    PUBLIC_ACTIONS,
    PULL_ACTIONS,
    RANK,
    ROLE_ACTIONS,
    SCOPE_WORDS,
    WITHIN_PATTERNS,
    scope_word,
)
from entrepot.model.tenancy import Organisation
from entrepot.services.addresses import NO_REPOSITORY, Address, Addresses

# An upload opened under a valid right may be finished, and its manifest pushed, this long after the
# right expired.
FINISHING_TIME = HOUR

_LOG_IN = "log in first: docker login, or send a token by Basic authentication"
_CHANGES = frozenset({Action.PUSH, Action.DELETE, Action.DELETE_TAG, Action.CREATE_REPOSITORY})
_EVERYTHING = frozenset(Action)
NOBODY = Actor(Credential(token_id=0, kind=Kind.ANONYMOUS))
# Nobody, by way of a proxy: open access is for this machine, and a proxy speaks for others.
OUTSIDER = Actor(Credential(token_id=0, kind=Kind.ANONYMOUS, actions=frozenset()))
# Whoever can open the data folder or database needs no leave of ours.
OPERATOR = Actor(Credential(token_id=0, kind=Kind.OPERATOR, name="operator"))


class Access:
    """Judges actors. `anonymous`: what nobody in particular may do in the default organisation."""

    def __init__(
        self, clock: Clock, addresses: Addresses, anonymous: frozenset[Action] = frozenset()
    ) -> None:
        self._clock = clock
        self._addresses = addresses
        self._anonymous = anonymous
        self._default_organisation: int | None = None

    def set_default_organisation(self, organisation_id: int | None) -> None:
        """Where `anonymous` applies."""
        self._default_organisation = organisation_id

    def is_open_to(self, actor: Actor) -> bool:
        """Whether pushing needs no credential, so that nobody is ever asked for one."""
        return Action.PUSH in self._anonymous and actor != OUTSIDER

    def require_login(self, actor: Actor) -> None:
        """Let in who has a credential, or a bearer token. Raises Unauthenticated.

        Docker and podman learn how to authenticate from the ping alone, so it must not be open
        unless everything is.
        """
        if actor.is_anonymous and actor.granted is None and not self.is_open_to(actor):
            raise Unauthenticated(_LOG_IN)

    def allowed(self, credential: Credential, where: Place | Repository) -> frozenset[Action]:
        """What a credential may do to a repository there now, and to what it holds."""
        actions = self._of_owner(credential, where.organisation_id, where)
        if isinstance(where, Place) and not self._may_create(credential, where, actions):
            actions -= {Action.PUSH, Action.CREATE_REPOSITORY}
        if credential.patterns is not None and not any(
            is_match(pattern, where.path) for pattern in credential.patterns
        ):
            actions = frozenset()
        actions = _limited(credential, actions)
        if where.is_public:
            actions |= PUBLIC_ACTIONS
        return actions

    def allowed_in(self, credential: Credential, organisation_id: int) -> frozenset[Action]:
        """What a credential may do to an organisation as a whole now."""
        actions = self._of_owner(credential, organisation_id, None)
        if credential.patterns is not None:
            actions &= WITHIN_PATTERNS
        if credential.kind is Kind.ORGANISATION and credential.expires_at is not None:
            actions -= GIVES_RIGHTS  # what it gave would not end with it
        return _limited(credential, actions)

    def may_list(self, credential: Credential, organisation_id: int) -> bool:
        """Whether a credential may pull anything of an organisation; no is certain."""
        if credential.project_id is not None:
            return credential.organisation_id == organisation_id
        actions = self._of_owner(credential, organisation_id, Place(organisation_id, ""))
        return Action.PULL in actions

    def _of_owner(
        self, credential: Credential, organisation_id: int, where: Place | Repository | None
    ) -> frozenset[Action]:
        """What the kind of a credential and its owner's role give, before its own limits."""
        match credential.kind:
            case Kind.OPERATOR:
                return _EVERYTHING
            case Kind.USER:
                role = self._role(credential, organisation_id)
                actions = ROLE_ACTIONS[role] if role is not None else frozenset()
                if credential.is_administrator and where is None:
                    actions |= ADMINISTRATOR_ACTIONS
                return actions
            case Kind.ORGANISATION if credential.organisation_id == organisation_id:
                return MANAGING_ACTIONS if credential.may_manage else ORGANISATION_ACTIONS
            case Kind.PROJECT if self._is_of_project(credential, where):
                return PROJECT_ACTIONS
            case Kind.PULL if credential.project_id is not None:
                is_there = self._is_of_project(credential, where)
                return PULL_ACTIONS if is_there else frozenset()
            case Kind.PULL if credential.organisation_id == organisation_id:
                return PULL_ACTIONS
            case Kind.ANONYMOUS if organisation_id == self._default_organisation:
                return self._anonymous
            case _:
                return frozenset()

    def _role(self, credential: Credential, organisation_id: int) -> Role | None:
        ends = credential.role_ends.get(organisation_id)
        if ends is not None and ends <= self._clock.now():
            return None
        return credential.roles.get(organisation_id)

    @staticmethod
    def _is_of_project(credential: Credential, where: Place | Repository | None) -> bool:
        if where is None or credential.organisation_id != where.organisation_id:
            return False
        if credential.project_id == where.project_id is not None:
            return True
        return isinstance(where, Repository) and where.id in credential.linked

    def _may_create(self, credential: Credential, where: Place, actions: frozenset[Action]) -> bool:
        """Whether a push may make a repository there: a project's own, or the policy allows it."""
        if Action.CREATE_REPOSITORY not in actions:
            return False
        if where.project_id is not None or credential.kind is Kind.ANONYMOUS:
            return True
        role = self._role(credential, where.organisation_id)
        if credential.kind is Kind.USER and role is not None:
            return RANK[role] >= RANK[where.creators]
        return where.creators is Role.MEMBER or Action.MANAGE_REPOSITORY in actions

    def require(
        self, actor: Actor, action: Action, where: Place | Repository, address: Address
    ) -> None:
        """Let pass, or say no in a way that does not tell whether anything is there.

        Raises Unauthenticated (a credential, or a bearer token that covers more, would help),
        NameUnknown (a read by somebody known), Denied (a write by somebody known).
        """
        if action not in self.allowed(actor.credential, where):
            self.refuse(actor, action, address)
        self._require_covered(actor, action, address)
        if action in _CHANGES:
            require_writable(where)
        if action is Action.PUSH:
            _require_accepting(where, address)

    def refuse(self, actor: Actor, action: Action, address: Address) -> None:
        """Say no. Raises Unauthenticated, NameUnknown, Denied.

        Somebody known hears why, by a bearer token too if it was asked for this repository: the
        next one would cover no more, and clients that are sent for one show words of their own in
        the end. Of other repositories it tells its holder nothing.
        """
        if actor.is_anonymous and actor.granted is None:
            raise Unauthenticated(_LOG_IN)
        is_asked_for = actor.granted is None or address.name.text in actor.granted
        if actor.is_anonymous or not is_asked_for:
            self._require_covered(actor, action, address)
        if action is Action.PULL:
            raise NameUnknown(NO_REPOSITORY, name=str(address.name))
        message = f"this credential may not {action} here; ask an administrator of the organisation"
        raise Denied(message, action=str(action))

    @staticmethod
    def _require_covered(actor: Actor, action: Action, address: Address) -> None:
        """Raises Unauthenticated for what a bearer token was not asked to cover."""
        word = scope_word(action)
        if actor.granted is not None and word not in actor.granted.get(address.name.text, ()):
            message = f"this token does not cover {word} on {address.name}"
            if actor.is_anonymous:  # the client got it by itself, and shows this to its user
                message = _LOG_IN
            raise Unauthenticated(message, error="insufficient_scope")

    async def admit(
        self, tx: Transaction, actor: Actor, action: Action, address: Address
    ) -> Repository | Place:
        """Resolve and judge again inside a write's own transaction.

        What a request learnt earlier may be five seconds old; a change must not rest on it.
        Raises Unauthenticated, NameUnknown, Denied.
        """
        fresh = await self.renewed(tx, actor)
        try:
            where = await self._addresses.find(tx, address)
        except NameUnknown:
            self.refuse(fresh, action, address)
            raise
        self.require(fresh, action, where, address)
        return where

    async def enter(
        self, tx: Transaction, actor: Actor, action: Action, name: str | int
    ) -> Organisation:
        """The organisation by slug, id or row, to somebody who may do `action` to it now.

        Raises Unauthenticated, NotFound (also to whoever may not see it), Denied.
        """
        actor = await self.known(tx, actor)
        if isinstance(name, int):
            organisation = await organisations.get(tx, name)
        else:
            organisation = await organisations.find(tx, name)
        if organisation is None:
            raise NotFound(NO_ORGANISATION)
        actions = self.allowed_in(actor.credential, organisation.id)
        if action not in actions:
            if Action.SEE_ORGANISATION not in actions:
                raise NotFound(NO_ORGANISATION)
            raise Denied(_ask(action), action=str(action))
        return organisation

    async def enter_repository(
        self, tx: Transaction, actor: Actor, action: Action, repository_id: int
    ) -> Repository:
        """The repository in this row, to somebody who may do `action` to it now.

        Raises Unauthenticated, NotFound (also to whoever may not see it), Denied (also where it is
        read-only).
        """
        actor = await self.known(tx, actor)
        repository = await repositories.find_by_id(tx, repository_id)
        actions: frozenset[Action] = frozenset()
        if repository is not None:
            actions = self.allowed(actor.credential, repository)
        if repository is None or not actions & {action, Action.PULL}:
            raise NotFound(NO_REPOSITORY)
        if action not in actions:
            raise Denied(_ask(action), action=str(action))
        if action in _CHANGES:
            require_writable(repository)
        return repository

    async def administer(self, tx: Transaction, actor: Actor) -> None:
        """Let a server administrator pass. Raises Unauthenticated, Denied."""
        credential = (await self.known(tx, actor)).credential
        if credential.kind is Kind.OPERATOR:
            return
        is_limited = credential.patterns is not None or credential.actions is not None
        if not credential.is_administrator or is_limited:
            message = "this is for administrators of the server, with a token without limits"
            raise Denied(message, action=str(Action.ADMINISTER))

    async def known(self, tx: Transaction, actor: Actor) -> Actor:
        """The actor as the database knows it now; not nobody, and not expired.

        Raises Unauthenticated.
        """
        if actor.is_anonymous:
            raise Unauthenticated("log in first: entrepot login, or send a token")
        if actor.granted is not None:
            # It covers repositories alone, and may be in the hands of whoever sent for it.
            message = "a bearer token of /v2/token is for /v2/ alone; send the token that it is of"
            raise Unauthenticated(message, error="insufficient_scope")
        self.opened_before(actor)
        return await self.renewed(tx, actor)

    async def renewed(self, tx: Transaction, actor: Actor) -> Actor:
        """The actor as the database knows it now. Raises Unauthenticated."""
        if actor.credential.kind in {Kind.ANONYMOUS, Kind.OPERATOR}:
            return actor
        credential = await tokens.find(tx, actor.token_id)
        if credential is None:
            message = "this token was revoked, or its owner is gone"
            raise Unauthenticated(message)
        return replace(actor, credential=credential)

    def opened_before(self, actor: Actor, *, is_finishing: bool = False) -> int:
        """Only uploads opened before this moment may be used; the end of time for a valid right.

        Raises Unauthenticated once the right expired, except, for FINISHING_TIME, to finish.
        """
        now = self._clock.now()
        expires_at = actor.expires_at
        if expires_at is None or now < expires_at:
            return 2**62
        if is_finishing and now < expires_at + FINISHING_TIME:
            return expires_at
        message = "this token has expired; get a new one"
        raise Unauthenticated(message, error="invalid_token")


NO_ORGANISATION = "no such organisation, or none that you may see"


def require_writable(where: Place | Repository) -> None:
    """Raises Denied for what is read-only, or in something that is."""
    if where.read_only is not None:
        raise Denied(f"this {where.read_only} is read-only; pulls go on")


def _require_accepting(where: Place | Repository, address: Address) -> None:
    """Raises Denied for what an upstream fills, where people may not push beside it."""
    source = where.source
    if source is None or source.accepts_push:
        return
    path = f"{address.label}/{address.name}" if address.label else str(address.name)
    if isinstance(where, Place):
        message = (
            "names here are filled from an upstream registry as they are pulled; push to another "
            f"one, or make this one first: entrepot repository create {path}"
        )
    else:
        message = (
            f"this repository is filled from {source.path} of an upstream registry; push to "
            f"another one, or allow it: entrepot repository set {path} --accept-push"
        )
    raise Denied(message, upstream_path=source.path)


def _limited(credential: Credential, actions: frozenset[Action]) -> frozenset[Action]:
    """The part of `actions` that the words of a token let through."""
    words = credential.actions
    if words is None:
        return actions
    if not words >= set(SCOPE_WORDS):
        actions -= GIVES_RIGHTS
    return frozenset(action for action in actions if scope_word(action) in words)


def _ask(action: Action) -> str:
    """Who could, since the caller could not."""
    able = next((role for role, may in ROLE_ACTIONS.items() if action in may), None)
    return f"this needs the role {able} in the organisation, and a token that may manage"
