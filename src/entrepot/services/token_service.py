"""The token service: bearer tokens that cover what was asked for and is allowed now, no more."""

from dataclasses import dataclass

from entrepot.db.database import Database
from entrepot.identity.bearer import BearerClaims, BearerKey
from entrepot.model.access import Actor, Credential
from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import NameInvalid, NameUnknown
from entrepot.model.names import RepositoryName
from entrepot.model.rights import scope_word
from entrepot.model.scopes import Scope
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses

CATALOG_SCOPE = "registry:catalog"
_CONTENT = frozenset({"pull", "push", "delete"})


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that was issued, when, for how long, and for what."""

    text: str
    issued_at: int
    expires_in: int
    scope: str


class TokenService:
    """Issues bearer tokens of `lifetime` seconds."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        access: Access,
        addresses: Addresses,
        key: BearerKey,
        lifetime: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self._key = key
        self._lifetime = lifetime

    async def issue(
        self, actor: Actor, scopes: list[Scope], *, audience: str, label: str | None, ns: str = ""
    ) -> BearerToken:
        """A token for the part of `scopes` that `actor` has. Raises Unauthenticated.

        `ns` is the registry in whose name a mirror's client asks.

        An unknown or unpermitted scope is no error (distribution, "Token Authentication"): clients
        ask for the source of a mount before they know whether they may.
        """
        self._access.opened_before(actor)  # refuses a credential that has expired
        granted: dict[str, frozenset[str]] = {}
        for scope in scopes:
            found = await self._granted(actor.credential, scope, label, ns)
            if found is not None:
                key, actions = found
                granted[key] = granted.get(key, frozenset()) | actions
        now = self._clock.now()
        expires_at = now + self._lifetime * SECOND
        if actor.expires_at is not None:
            expires_at = min(expires_at, actor.expires_at)
        text = self._key.sign(
            BearerClaims(actor.token_id, audience, granted, issued_at=now, expires_at=expires_at)
        )
        return BearerToken(
            text,
            issued_at=now,
            expires_in=max(60, (expires_at - now) // SECOND),
            scope=" ".join(
                _as_scope(name, actions) for name, actions in granted.items() if actions
            ),
        )

    async def _granted(
        self, credential: Credential, scope: Scope, label: str | None, ns: str
    ) -> tuple[str, frozenset[str]] | None:
        """The name of a scope and what of it is allowed; None for what is no scope of ours.

        A repository that was asked for is named in the token even where nothing is allowed: its
        holder may then be told so, and of no other repository.
        """
        if scope.type == "registry" and scope.name == "catalog" and "*" in scope.actions:
            return CATALOG_SCOPE, frozenset({"*"})
        if scope.type != "repository":
            return None
        try:
            address = Address(label, RepositoryName.parse(scope.name), ns)
        except NameInvalid:
            return None
        try:
            async with self._database.read() as tx:
                where = await self._addresses.find(tx, address)
        except NameUnknown:
            return scope.name, frozenset()
        words = {scope_word(action) for action in self._access.allowed(credential, where)}
        wanted = _CONTENT if "*" in scope.actions else scope.actions
        return scope.name, _CONTENT & words & wanted


def _as_scope(name: str, actions: frozenset[str]) -> str:
    prefix = "" if name == CATALOG_SCOPE else "repository:"
    return f"{prefix}{name}:{','.join(sorted(actions))}"
