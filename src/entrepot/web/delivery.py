"""Which blobs a client fetches from the object store itself."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from entrepot.blobs.stored import Stored
from entrepot.model.names import is_at_or_below
from entrepot.telemetry.observe import Observe, ignore
from entrepot.web.hosts import Hosts, Networks
from entrepot.web.requests import Request


@dataclass(frozen=True, slots=True)
class RedirectRules:
    """For how long an address is good, up to which size a blob is none worth, and to whom."""

    url_seconds: int
    direct_bytes: int
    stream_to: Networks


class Delivery:
    """How stored blobs leave; without `rules` all of them through this server."""

    def __init__(
        self, hosts: Hosts, rules: RedirectRules | None, observe: Observe = ignore
    ) -> None:
        self._hosts = hosts
        self._rules = rules
        self._observe = observe

    async def address(self, request: Request, blob: Stored) -> str | None:
        """Where the client is to fetch the blob from, if not from here. Raises StorageFailed.

        A secret for as long as it is good: whoever has it has the bytes.
        """
        rules = self._rules
        if rules is None or blob.size <= rules.direct_bytes or _is_for_us_alone(request):
            return None
        if self._hosts.is_client_in(request, rules.stream_to):
            return None
        url = await blob.url(rules.url_seconds)
        if url is None or self._would_tell_token(request, url):
            return None
        self._observe("redirects", 1)
        return url

    def _would_tell_token(self, request: Request, url: str) -> bool:
        """Whether the client's credential would follow to the store.

        The settings keep the store away from the public address; this one may be another.
        """
        name = self._hosts.asked(request)
        return bool(name) and is_at_or_below(urlsplit(url).hostname or "", name)


def _is_for_us_alone(request: Request) -> bool:
    """Whether several ranges are wanted: stores answer the first of them, or with all bytes."""
    return "," in (request.header(b"range") or "")
