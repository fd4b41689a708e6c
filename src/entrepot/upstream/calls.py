"""Authorised requests about one repository of an upstream, redirects followed by hand.

A credential is dropped at the first change of origin and never taken up again; every hop passes the
guard.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote

from yarl import URL

from entrepot.model.clock import Clock
from entrepot.model.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
    UpstreamForbidden,
    UpstreamMissing,
    UpstreamRefused,
    UpstreamUnsafe,
)
from entrepot.model.upstreams import Observation
from entrepot.upstream.authorise import PULL, Authoriser
from entrepot.upstream.challenge import parse_challenges
from entrepot.upstream.observed import observe, retry_after
from entrepot.upstream.origins import Origin, follow
from entrepot.upstream.outbound import Answer, Outbound

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
OK = frozenset({200})


class Calls:
    """Requests to one upstream with one credential."""

    def __init__(
        self,
        outbound: Outbound,
        name: str,
        origin: Origin,
        authoriser: Authoriser,
        clock: Clock,
        observe: Callable[[Observation], None],
    ) -> None:
        self._outbound = outbound
        self._clock = clock
        self._observe = observe
        self._authoriser = authoriser
        self.name = name
        self.called = f"the upstream {name}"
        self.origin = origin

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        path: str,
        rest: str,
        *,
        at: URL | None = None,
        kind: str = PULL,
        headers: Mapping[str, str] | None = None,
        expected: frozenset[int] = OK,
    ) -> AsyncIterator[Answer]:
        """The answer at the end of all redirects, with an expected status.

        `rest` is what follows the repository's name, encoded; `at` an address of the upstream that
        stands for both. Raises UpstreamError.
        """
        url = at or self.origin.url(f"/v2/{quote(path, safe='/')}/{rest}")
        given = dict(headers or {})
        authorization = await self._authoriser.header(path, kind)
        for is_last in (False, True):
            async with self._hops(method, url, given, authorization) as answer:
                # Where a redirect led, the proof may have been left behind.
                is_direct = answer.url == url
                if answer.status in self._authoriser.doubts and is_direct and not is_last:
                    challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", ()))
                    better = await self._authoriser.again(path, kind, challenges, authorization)
                    if better is not None:
                        authorization = better
                        continue
                if answer.status not in expected:
                    raise self._failure(answer, is_named=authorization is not None)
                yield answer
                return

    @asynccontextmanager
    async def _hops(
        self, method: str, url: URL, headers: Mapping[str, str], authorization: str | None
    ) -> AsyncIterator[Answer]:
        sent = dict(headers)
        if authorization is not None:
            sent["Authorization"] = authorization
        for _ in range(_MOST_REDIRECTS + 1):
            called = self.called if self._is_own(url) else f"the storage host of {self.called}"
            async with self._outbound.ask(method, url, called=called, headers=sent) as answer:
                if self._is_own(url):
                    now = self._clock.now()
                    self._observe(observe(answer.status, answer.headers, now))
                location = answer.headers.get("Location")
                if answer.status not in _REDIRECTS or location is None:
                    yield answer
                    return
                target = self._target(url, location)
            if Origin.of(target) != Origin.of(url):
                sent.pop("Authorization", None)
            url = target
        message = f"{self.called} redirects more than {_MOST_REDIRECTS} times"
        raise UpstreamBroken(message, reason="redirect")

    def _target(self, url: URL, location: str) -> URL:
        try:
            target = follow(url, location)
            if url.scheme == "https" and target.scheme != "https":
                raise UpstreamUnsafe("an address that is not https")  # noqa: TRY301
        except UpstreamUnsafe as error:
            message = f"{self.called} redirects to {error.message}"
            raise UpstreamUnsafe(message, reason="redirect") from None
        return target

    def _is_own(self, url: URL) -> bool:
        return Origin.of(url) == self.origin

    def _failure(self, answer: Answer, *, is_named: bool) -> UpstreamError:
        """What an unexpected status means."""
        status, called = answer.status, answer.called
        if status == 404:  # noqa: PLR2004
            return UpstreamMissing(f"{called} does not have this", status=status)
        wait = retry_after(answer.headers.get("Retry-After"), self._clock.now())
        if status == 429:  # noqa: PLR2004
            message = f"{called} has us wait (429)" + (f"; again in {wait} s" if wait else "")
            return UpstreamBusy(message, retry_after=wait, status=status, reason="busy")
        if status == 508:  # noqa: PLR2004
            message = (
                f"{called} leads back to this registry (508); give it the address of another, or"
                " this repository another path"
            )
            return UpstreamBroken(message, status=status, reason="loop")
        if status >= 500:  # noqa: PLR2004
            message = f"{called} fails ({status}); try again later, or look at its status page"
            told = {"retry_after": wait} if wait is not None and self._is_own(answer.url) else {}
            return UpstreamDown(message, status=status, reason="status", **told)
        if status in {401, 403}:
            return self._forbidden(answer, is_named=is_named)
        message = f"{called} answers {status}, which is not in the protocol"
        return UpstreamBroken(message, status=status, reason="status")

    def _forbidden(self, answer: Answer, *, is_named: bool) -> UpstreamError:
        """What 401 and 403 mean; only the first, of the credential itself, is about all of it."""
        status = answer.status
        if not self._is_own(answer.url):
            message = f"{answer.called} refuses what the registry sent us for ({status}); try again"
            return UpstreamBroken(message, status=status, reason="storage")
        if is_named and status == 401 and self._authoriser.is_plain:  # noqa: PLR2004
            message = f"{self.called} refuses the credential (401); {self._authoriser.remedy}"
            return UpstreamRefused(message, status=status, reason="refused")
        message = f"{self.called} says that this does not exist or is not for us ({status}); " + (
            "check the path, and what its credential may read"
            if is_named
            else f"if it is private, give it a credential: entrepot upstream rotate {self.name}"
        )
        return UpstreamForbidden(message, status=status, reason="forbidden")
