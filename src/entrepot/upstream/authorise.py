"""Which `Authorization` goes with a request, and what to do when the answer is 401.

A credential goes to the upstream's origin and to the token service that was pinned when the
upstream was checked; whoever names another one gets nothing.
"""

from collections.abc import Callable, Sequence

from entrepot.model.clock import Clock
from entrepot.model.errors import UpstreamUnsafe
from entrepot.model.upstreams import (
    Auth,
    AzureAuth,
    BasicAuth,
    BearerAuth,
    Challenge,
    EcrAuth,
    GoogleAuth,
    Handshake,
    NoAuth,
    Observation,
)
from entrepot.upstream.azure import AzureTokens
from entrepot.upstream.bearer import Token, TokenCache, TokenService, basic
from entrepot.upstream.challenge import AuthChallenge, find
from entrepot.upstream.ecr import EcrPasswords
from entrepot.upstream.google import as_basic
from entrepot.upstream.origins import Origin
from entrepot.upstream.outbound import Outbound
from entrepot.upstream.realms import is_pinned, require_own_realm

PULL = "pull"
# What a registry may have us ask for: reading, under the names that are in use.
_READING = frozenset({"pull", "metadata_read"})


class Authoriser:
    """The proofs for one upstream and one credential; `remedy` is for one that is refused."""

    def __init__(
        self,
        outbound: Outbound,
        name: str,
        origin: Origin,
        handshake: Handshake | None,
        auth: Auth,
        preset: str,
        clock: Clock,
        observe: Callable[[Observation], None],
        remedy: str,
    ) -> None:
        self.remedy = remedy
        self._name = name
        self._origin = origin
        self._preset = preset
        self._pinned = handshake
        self._auth = auth
        # What counts now: what was pinned, or what an unchecked upstream has said since.
        self._handshake = handshake or Handshake(Challenge.NONE)
        self._service = TokenService(outbound, name, clock, observe, remedy)
        self._tokens = TokenCache(clock)
        self._ecr = self._azure = None
        if isinstance(auth, EcrAuth):
            self._ecr = EcrPasswords(
                auth, origin, name, clock, proxy=outbound.proxy, ca_file=outbound.ca_file
            )
        elif isinstance(auth, AzureAuth):
            self._azure = AzureTokens(auth, name, self._service, clock)
        self._actions: dict[str, str] = {}

    @property
    def doubts(self) -> frozenset[int]:
        """The statuses after which another proof may help."""
        # ECR answers 403 to a password that has ended.
        return frozenset({401, 403}) if self._ecr else frozenset({401})

    @property
    def is_plain(self) -> bool:
        """Whether the credential itself goes with every request, so that a 401 speaks of it."""
        is_basic = self._handshake.challenge is Challenge.BASIC
        return is_basic or isinstance(self._auth, BearerAuth)

    async def header(self, path: str, kind: str) -> str | None:
        """What to send with a request about `path`; `kind` is what differs in needed rights."""
        if isinstance(self._auth, BearerAuth):
            return f"Bearer {self._auth.token}"
        if self._handshake.challenge is Challenge.BASIC:
            return await self._basic()
        if self._handshake.challenge is Challenge.BEARER:
            return await self._bearer(path, self._actions.get(kind, PULL))
        return None

    async def prove(self) -> str | None:
        """A header that shows who we are, without a repository. Raises UpstreamRefused."""
        if self._handshake.challenge is not Challenge.BEARER or isinstance(self._auth, BearerAuth):
            return await self.header("", PULL)
        if self._azure is not None:
            await self._azure.prove(self._handshake)
            return None  # an access token is for a repository
        return f"Bearer {(await self._ask('')).text}"

    async def again(
        self, path: str, kind: str, challenges: Sequence[AuthChallenge], sent: str | None
    ) -> str | None:
        """What to send after a 401; None where there is nothing better than what was sent.

        Raises UpstreamUnsafe for a token service that is not the pinned one.
        """
        if isinstance(self._auth, BearerAuth):
            return None
        if self._ecr is not None:
            self._ecr.reject(sent)
        bearer = find(challenges, "bearer")
        pinned = self._pinned.challenge if self._pinned else Challenge.NONE
        if bearer is not None and pinned is not Challenge.BASIC:
            self._accept(bearer)
            self._actions[kind] = _actions(bearer.parameters.get("scope", ""), path) or PULL
        elif find(challenges, "basic") is not None and pinned is not Challenge.BEARER:
            self._handshake = Handshake(Challenge.BASIC)
        elif challenges and pinned is not Challenge.NONE:
            raise self._changed()
        if sent is not None and self._handshake.challenge is Challenge.BEARER:
            self._tokens.reject(sent.removeprefix("Bearer "))
        header = await self.header(path, kind)
        return None if header == sent else header

    def _accept(self, bearer: AuthChallenge) -> None:
        """Take a bearer challenge for ours, or refuse it."""
        realm = bearer.parameters.get("realm", "")
        service = bearer.parameters.get("service", "")
        if self._pinned is not None and self._pinned.challenge is Challenge.BEARER:
            if not is_pinned(realm, service, self._pinned):
                raise self._changed()
            return
        try:
            require_own_realm(realm, self._origin, self._preset, pinning=False)
        except UpstreamUnsafe as error:
            raise UpstreamUnsafe(
                f"the upstream {self._name} sends us for a token to {error.message};"
                " no credential was sent there",
                reason="realm",
            ) from None
        self._handshake = Handshake(Challenge.BEARER, realm, service)

    def _changed(self) -> UpstreamUnsafe:
        return UpstreamUnsafe(
            f"the upstream {self._name} names another token service than when it was checked;"
            " no credential was sent there. If that is meant: entrepot upstream check"
            f" {self._name}",
            reason="realm",
        )

    async def _basic(self) -> str | None:
        match self._auth:
            case BasicAuth():
                return basic(self._auth.username, self._auth.password)
            case GoogleAuth():
                named = as_basic(self._auth)
                return basic(named.username, named.password)
            case EcrAuth():
                return await self._ecr.header() if self._ecr else None
            case NoAuth() | BearerAuth() | AzureAuth():
                return None

    async def _bearer(self, path: str, actions: str) -> str:
        scope = f"repository:{path}:{actions}"
        return "Bearer " + await self._tokens.get(scope, lambda: self._ask(scope))

    async def _ask(self, scope: str) -> Token:
        if self._azure is not None:
            return await self._azure.token(self._handshake, scope)
        realm, service = self._handshake.realm, self._handshake.service
        return await self._service.token(realm, service, scope, await self._basic())


def _actions(scope: str, path: str) -> str:
    """The reading actions of a scope for `path`, else nothing."""
    for part in scope.split():
        kind, _, rest = part.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and name == path:
            wanted = [action for action in actions.split(",") if action in _READING]
            return ",".join(sorted(set(wanted)))
    return ""
