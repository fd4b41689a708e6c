"""Which addresses this server may call: none inside the operator's network, unless they allow it.

An address is judged where it is used: what a name resolved to is judged before the connection is
made, by the code that makes it, so that a second answer of the DNS changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from entrepot.model.errors import UpstreamUnsafe
from entrepot.upstream.origins import is_host

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]

# IANA's special-purpose registries: what is not the public internet.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; metadata service of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public address that Azure answers inside every machine
        "169.254.0.0/16",  # link-local, and the metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which holds an IPv4 address of anybody's choice
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")

REMEDY = "its operator can allow it: ENTREPOT_OUTBOUND__ALLOW"


class AddressRefused(OSError):
    """An address that was about to be connected to, and is not allowed."""


class Guard:
    """The judge of addresses. `allow` are the networks that the operator lets us reach as well."""

    def __init__(self, allow: Sequence[Network] = ()) -> None:
        self._allow = tuple(allow)

    def allows(self, address: str) -> bool:
        """Whether a connection to this numeric address may be made."""
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return self._judge(parsed)

    def _judge(self, address: Address) -> bool:
        if isinstance(address, IPv6Address):
            if (mapped := address.ipv4_mapped) is not None:
                return self._judge(mapped)
            if address in _NAT64 and not self._judge(_embedded(address)):
                return False  # however it is reached, the IPv4 address is what counts
        return _is_public(address) or any(
            address.version == network.version and address in network for network in self._allow
        )

    def check_literal(self, host: str, called: str) -> None:
        """Refuse `host` if it is an address that may not be reached, or of an unusual form.

        Raises UpstreamUnsafe. Names pass: they are judged by what they resolve to.
        """
        if not is_host(host) or (_is_numeric(host) and not self.allows(host)):
            raise refused(called)

    def open_socket(self, address: "aiohttp.AddrInfoType") -> socket.socket:
        """A socket for an address that is about to be connected to. Raises AddressRefused."""
        family, kind, protocol, _, where = address
        if not self.allows(str(where[0])):
            raise AddressRefused("an address that must not be reached")
        return socket.socket(family=family, type=kind, proto=protocol)


def refused(called: str) -> UpstreamUnsafe:
    """What the caller is told, whatever the address was: nothing of who lives where."""
    return UpstreamUnsafe(
        f"{called} is at an address that this server must not reach; {REMEDY}", reason="address"
    )


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


def _embedded(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


# Threads of their own: whoever has a name that is never answered must not hold up those that read
# files, of which there are few.
_LOOKUPS = ThreadPoolExecutor(32, thread_name_prefix="lookups")


class GuardedResolver(AbstractResolver):
    """Names to addresses, those that may not be reached left out."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises AddressRefused where the name has addresses, and none that may be reached."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(_LOOKUPS, _look_up, host, port, family)
        allowed = [result for result in found if self._guard.allows(result["host"])]
        if found and not allowed:
            raise AddressRefused("no address that may be reached")
        return allowed

    async def close(self) -> None:
        """Nothing to close."""


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    """In a thread. Raises socket.gaierror."""
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
    )
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]
