"""Tokens of a registry's token service (distribution token specification), kept until they end.

One request per scope at a time: who comes meanwhile waits for the same token.
"""

import asyncio
import re
from base64 import b64encode, urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

import msgspec
from yarl import URL

from entrepot.model.clock import SECOND, Clock
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamRefused,
)
from entrepot.model.upstreams import Observation
from entrepot.upstream.observed import observe
from entrepot.upstream.outbound import Answer, Outbound

_EARLY = 10 * SECOND  # a token that ends sooner than this is taken for ended
_DEFAULT_LIFE = 60  # seconds, where nothing is said (token specification, "expires_in")
_LONGEST_LIFE = 86_400
_MOST_SCOPES = 1024
_LARGEST_ANSWER = 256 << 10
_BUSY = 429
# What an `Authorization` header can carry (RFC 6750, b64token).
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it is no longer to be used."""

    text: str
    until: int


class TokenCache:
    """Tokens by scope, asked for once each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, Token] = OrderedDict()
        self._asked: dict[str, asyncio.Task[Token]] = {}

    async def get(self, scope: str, ask: Callable[[], Awaitable[Token]]) -> str:
        """A token for `scope`, from `ask` unless one is kept."""
        kept = self._kept.get(scope)
        if kept is not None and self._clock.now() < kept.until:
            return kept.text
        if (task := self._asked.get(scope)) is None:
            self._asked[scope] = task = asyncio.create_task(self._fill(scope, ask))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: one caller's leaving must not take the token from the others.
        return (await asyncio.shield(task)).text

    def reject(self, text: str) -> None:
        """Forget a token that the registry did not take."""
        for scope in [scope for scope, kept in self._kept.items() if kept.text == text]:
            del self._kept[scope]

    async def _fill(self, scope: str, ask: Callable[[], Awaitable[Token]]) -> Token:
        try:
            token = self._kept[scope] = await ask()
            self._kept.move_to_end(scope)
            if len(self._kept) > _MOST_SCOPES:
                self._kept.popitem(last=False)
            return token
        finally:
            del self._asked[scope]


class TokenService:
    """The token service that an upstream named, and how it answers.

    `remedy` is what to do about a credential that it refuses.
    """

    def __init__(
        self,
        outbound: Outbound,
        name: str,
        clock: Clock,
        observe: Callable[[Observation], None],
        remedy: str,
    ) -> None:
        self._outbound = outbound
        self._clock = clock
        self._observe = observe
        self._name = name
        self._remedy = remedy
        self._called = f"the token service of the upstream {name}"

    async def token(self, realm: str, service: str, scope: str, basic: str | None) -> Token:
        """Ask for a token. Raises UpstreamRefused, UpstreamForbidden, UpstreamBusy, UpstreamDown.

        `basic` is a whole header value, or None for an anonymous token; without `scope` the
        credential alone is proved.
        """
        query = [("service", service)] if service else []
        query += [("scope", scope)] if scope else []
        url = URL(realm, encoded=True).extend_query(query)
        headers = {"Authorization": basic} if basic else {}
        async with self._outbound.ask("GET", url, called=self._called, headers=headers) as answer:
            return await self.read(answer, is_anonymous=basic is None, has_scope=bool(scope))

    async def post(self, url: URL, form: dict[str, str], *, has_scope: bool) -> Token:
        """The same by form (RFC 6749); the secret is part of the form."""
        async with self._outbound.ask("POST", url, called=self._called, form=form) as answer:
            return await self.read(answer, is_anonymous=False, has_scope=has_scope, has_claims=True)

    async def read(
        self, answer: Answer, *, is_anonymous: bool, has_scope: bool, has_claims: bool = False
    ) -> Token:
        """Take the token out of an answer; with `has_claims` it may itself say when it ends."""
        now = self._clock.now()
        seen = observe(answer.status, answer.headers, now)
        if answer.status != 200:  # noqa: PLR2004  # OK
            self._observe(seen)
            raise self._failure(seen, is_anonymous=is_anonymous, has_scope=has_scope)
        answer.require_identity()
        try:
            grant = msgspec.json.decode(await answer.body(_LARGEST_ANSWER), type=_Grant)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._broken() from None
        text = grant.token or grant.access_token or grant.refresh_token or ""
        if _B64TOKEN.fullmatch(text) is None:
            raise self._broken()
        life = _claimed_life(text) if has_claims and grant.expires_in is None else None
        return Token(text, now + (life or _life(grant, answer)) - _EARLY)

    def _failure(self, seen: Observation, *, is_anonymous: bool, has_scope: bool) -> UpstreamError:
        status = seen.status
        if status == _BUSY:
            message = f"{self._called} has us wait (429); try again later"
            return UpstreamBusy(message, retry_after=seen.retry_after, reason="busy")
        if status >= 500:  # noqa: PLR2004  # a server's errors
            return UpstreamDown(f"{self._called} fails ({status}); try again later", status=status)
        if status in {401, 403} or (status == 400 and not has_scope):  # noqa: PLR2004
            # 403 for one scope speaks of the repository; so does a no to nobody in particular.
            if has_scope and (status == 403 or is_anonymous):  # noqa: PLR2004
                message = (
                    f"the upstream {self._name} says that this does not exist or is not for us"
                    + ("; if it is private, give the upstream a credential" if is_anonymous else "")
                )
                return UpstreamForbidden(message, status=status, reason="forbidden")
            what = "wants a credential" if is_anonymous else f"refuses the credential ({status})"
            message = f"{self._called} {what}; {self._remedy}"
            return UpstreamRefused(message, status=status, reason="refused")
        message = f"{self._called} answers {status}, which is not in its protocol"
        if 300 <= status < 400:  # noqa: PLR2004  # redirects
            message = f"{self._called} redirects, and a credential is not sent on"
        return UpstreamBroken(message, status=status, reason="realm")

    def _broken(self) -> UpstreamBroken:
        return UpstreamBroken(f"{self._called} answers without a token", reason="realm")


class _Grant(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | str | None = None
    issued_at: str | None = None


class _Claims(msgspec.Struct):
    iat: float
    exp: float


def _life(grant: _Grant, answer: Answer) -> int:
    """Microseconds from now on. Its age is told by the service's own clock, which may differ."""
    try:
        seconds = float(grant.expires_in) if grant.expires_in is not None else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_LIFE:
        seconds = _LONGEST_LIFE if seconds > _LONGEST_LIFE else _DEFAULT_LIFE
    return int((seconds - _age(grant.issued_at, answer.headers.get("Date"))) * SECOND)


def _claimed_life(text: str) -> int | None:
    """Microseconds, by the claims of a token that is for others to verify; None without any."""
    try:
        middle = text.split(".")[1]
        claims = msgspec.json.decode(
            urlsafe_b64decode(middle + "=" * (-len(middle) % 4)), type=_Claims
        )
    except (IndexError, ValueError):
        return None
    return int(max(0, min(claims.exp - claims.iat, _LONGEST_LIFE))) * SECOND


def _age(issued_at: str | None, date: str | None) -> float:
    """Seconds that a token has lived already: some services hand out the same one again."""
    try:
        issued, now = datetime.fromisoformat(issued_at or ""), parsedate_to_datetime(date or "")
        return max(0.0, (now - issued).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def basic(username: str, password: str) -> str:
    """The value of a Basic `Authorization` header (RFC 7617, as UTF-8)."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()
