"""What the Host header may mean: an organisation's sub-domain, and the address to answer with."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from entrepot.web.requests import Request

# A name or address and a port. Anything else, such as `localhost:1@elsewhere`, would make another
# address of the realm that it is repeated in.
_HOST = re.compile(r"(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?")
_REMEMBERED = 10_000  # hosts; anybody can send any

# With the port that some proxies add.
_HOP = re.compile(r"(?P<v4>[0-9.]+)(?::\d{1,5})?|\[(?P<v6>[^\]]+)\](?::\d{1,5})?")

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]


class Hosts:
    """The names this registry is known by.

    A Host header is echoed (realm, audience) only when it is on the list: the public address and
    its sub-domains, loopback, and the listen address. For any other the public or listen address
    stands.
    """

    def __init__(
        self, *, public_url: str | None, listen: str, is_tls: bool, trusted_proxies: Networks = ()
    ) -> None:
        parts = urlsplit(public_url or "")
        self._public_name = (parts.hostname or "").lower()
        self._public_host = parts.netloc.lower()
        self._public_scheme = parts.scheme
        self._listen = listen.lower()
        self._listen_name = _name_of(self._listen)
        self._is_tls = is_tls
        self._trusted = trusted_proxies
        self._known: dict[str, tuple[str | None, str]] = {}

    def service(self, request: Request) -> str:
        """The host by which this registry speaks to the caller: `name[:port]`."""
        return self.names(request)[1]

    def origin(self, request: Request) -> str:
        """`scheme://host` as the caller can reach it."""
        service = self.service(request)
        name = _name_of(service)
        if self._public_name and (name == self._public_name or self._is_below(name)):
            return f"{self._public_scheme}://{service}"
        scheme = "https" if self._is_tls else "http"
        if self.is_from_proxy(request):
            forwarded = request.header(b"x-forwarded-proto")
            if forwarded in {"http", "https"}:
                scheme = forwarded
        return f"{scheme}://{service}"

    def is_from_proxy(self, request: Request) -> bool:
        """Whether the peer is a proxy whose X-Forwarded-* headers count."""
        if not self._trusted:
            return False
        client = request.scope.get("client")
        address = _address(str(client[0])) if client else None
        return address is not None and self._is_trusted(address)

    def _is_trusted(self, address: Address) -> bool:
        return _is_in(address, self._trusted)

    def is_client_in(self, request: Request, networks: Networks) -> bool:
        """Whether whoever asks is in one of these networks."""
        address = _address(self.client_address(request)) if networks else None
        return address is not None and _is_in(address, networks)

    def client_address(self, request: Request) -> str:
        """The address of whoever asks, without port; empty when the server knows none.

        It is the peer. Behind trusted proxies it is the last address in X-Forwarded-For that is
        not one of them: what stands before that one is its sender's word alone. A value that is
        no address hides what is before it, and the proxy that handed it on stands.
        """
        client = request.scope.get("client")
        peer = str(client[0]) if client else ""
        if not self.is_from_proxy(request):
            return _shown(_address(peer)) or peer
        found = _address(peer)
        lines = [value for key, value in request.scope["headers"] if key == b"x-forwarded-for"]
        for hop in reversed(b",".join(lines).split(b",")):
            address = _address(hop.decode("latin-1"))
            if address is None:
                break
            found = address
            if not self._is_trusted(address):
                break
        return _shown(found)

    def names(self, request: Request) -> tuple[str | None, str]:
        """The organisation that the sub-domain names, if it names one; and the service."""
        host = self._asked(request)
        known = self._known.get(host)
        if known is None:
            if _HOST.fullmatch(host) is None:
                return None, self._public_host or self._listen
            known = self._parse(host)
            if len(self._known) < _REMEMBERED:
                self._known[host] = known
        return known

    def asked(self, request: Request) -> str:
        """The name by which the caller reached us, known or not, without port."""
        return _name_of(self._asked(request))

    def _asked(self, request: Request) -> str:
        host = request.header(b"host") or ""
        if self._trusted and self.is_from_proxy(request):
            host = request.header(b"x-forwarded-host") or host
        return host.lower()

    def _parse(self, host: str) -> tuple[str | None, str]:
        name = _name_of(host)
        if self._public_name:
            if name == self._public_name:
                return None, host
            if self._is_below(name):
                label = name.removesuffix(f".{self._public_name}")
                return (label, host) if "." not in label else (None, self._public_host)
        if name in {self._listen_name, "localhost"} or _is_loopback(name):
            return None, host
        return None, self._public_host or self._listen

    def _is_below(self, name: str) -> bool:
        return name.endswith(f".{self._public_name}")


def _name_of(host: str) -> str:
    """The host without its port; IPv6 without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _address(text: str) -> Address | None:
    stripped = text.strip(" \t")
    hop = _HOP.fullmatch(stripped)
    try:
        return ip_address((hop["v4"] or hop["v6"]) if hop else stripped)
    except ValueError:
        return None


def _is_in(address: Address, networks: Networks) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _shown(address: Address | None) -> str:
    """An IPv4 address as such, also where a socket of both kinds dresses it as IPv6."""
    if address is None:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
