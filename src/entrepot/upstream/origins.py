"""Origins: scheme, host and port, which is as far as a credential may travel (RFC 6454)."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urljoin

from yarl import URL

from entrepot.model.errors import FieldInvalid, UpstreamUnsafe

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
# What a C library would read as a number: decimal, octal, hex (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_LONGEST_NAME = 253
_LONGEST_URL = 16_384


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go; well-formed once built. Read by the parser that also connects."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str, field: str = "url") -> Self:
        """Read what a person typed: `https://registry.example.com[:port]`. Raises FieldInvalid."""
        try:
            url = URL(text.strip())
            origin = cls.of(url)
        except (ValueError, UpstreamUnsafe):
            message = (
                f"{text[:200]!r} is not the address of a registry;"
                " give https:// (or http://) and a host, such as https://registry.example.com"
            )
            raise FieldInvalid(message, field=field) from None
        if url.raw_path.strip("/") not in {"", "v2"} or url.raw_query_string or url.raw_fragment:
            message = (
                "an upstream is a whole registry: give its scheme and host alone"
                f" ({origin}); the path belongs to the repository or mirror"
            )
            raise FieldInvalid(message, field=field)
        return origin

    @classmethod
    def of(cls, url: URL) -> Self:
        """The origin of a URL. Raises UpstreamUnsafe where it is none that we call."""
        host, port = (url.raw_host or "").lower(), url.port
        if url.scheme not in {"http", "https"} or not port or not is_host(host):
            raise UpstreamUnsafe("an address must be http:// or https:// and a plain host name")
        if url.raw_user is not None or url.raw_password is not None:
            raise UpstreamUnsafe("an address must not carry a user name or password")
        return cls(url.scheme, host, port)

    def url(self, path_and_query: str) -> URL:
        """The URL of something at this origin; the path is encoded already."""
        return URL(f"{self}{path_and_query}", encoded=True)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


def is_host(host: str) -> bool:
    """Whether this is a DNS name or an IP address in its usual form, and nothing in between."""
    try:
        return "%" not in host and str(ipaddress.ip_address(host)) == host
    except ValueError:
        pass
    if len(host) > _LONGEST_NAME or _NAME.fullmatch(host) is None:
        return False
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is None


def follow(current: URL, location: str) -> URL:
    """Where a `Location` or `Link` leads, kept as it was written. Raises UpstreamUnsafe.

    A presigned address breaks when one of its characters is encoded otherwise.
    """
    if len(location) > _LONGEST_URL:
        raise UpstreamUnsafe("an address that is too long")
    try:
        joined = urljoin(str(current), quote(location, safe="%:/?#[]@!$&'()*+,;=-._~"))
        target = URL(joined.partition("#")[0], encoded=True)
        Origin.of(target)
    except ValueError:
        raise UpstreamUnsafe("an address that cannot be read") from None
    return target
