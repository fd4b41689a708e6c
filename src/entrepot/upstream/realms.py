"""Which token services belong to a registry: credentials go to no other."""

from functools import cache

from publicsuffixlist import PublicSuffixList
from yarl import URL

from entrepot.model.errors import UpstreamUnsafe
from entrepot.model.upstreams import Handshake
from entrepot.upstream.origins import Origin

# Where the presets' token services are.
_KNOWN = {
    "docker-hub": "https://auth.docker.io/token",
    "ghcr": "https://ghcr.io/token",
    "gitlab": "https://gitlab.com/jwt/auth",
    "quay": "https://quay.io/v2/auth",
    "ecr-public": "https://public.ecr.aws/token/",
}
_LONGEST = 2048


def require_own_realm(realm: str, origin: Origin, preset: str, *, pinning: bool) -> None:
    """Refuse a realm that is not the registry's own. Raises UpstreamUnsafe.

    While pinning, when a person sees the realm, the registrable domain may be shared; later and
    for what was never checked, it must be on the registry's own host.
    """
    try:
        own = Origin.of(url := URL(realm, encoded=True))
    except ValueError:
        raise UpstreamUnsafe("a token service without a readable address") from None
    if len(realm) > _LONGEST or url.raw_fragment or not realm.isascii() or not realm.isprintable():
        raise UpstreamUnsafe("a token service without a readable address")
    if own.scheme != "https" and origin.scheme == "https":
        raise UpstreamUnsafe("a token service that is not https")
    if own.host == origin.host or realm == _KNOWN.get(preset):
        return
    if pinning and _domain(own.host) is not None and _domain(own.host) == _domain(origin.host):
        return
    raise UpstreamUnsafe(f"a token service on another domain ({own.host[:253]})")


def is_pinned(realm: str, service: str, handshake: Handshake) -> bool:
    """Whether this is what the upstream said when it was checked."""
    return realm == handshake.realm and service == handshake.service


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()  # 10 ms to read, so only when it is needed


def _domain(host: str) -> str | None:
    """The registrable domain; None for addresses and bare suffixes."""
    if ":" in host or host.rpartition(".")[2].isdecimal():
        return None
    return _suffixes().privatesuffix(host.rstrip("."))
