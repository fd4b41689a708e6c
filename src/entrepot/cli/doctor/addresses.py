"""Where this server listens, how clients reach it, and who is believed on the way."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings, is_loopback

_PART = Part("addresses")


def examine(settings: Settings) -> Iterator[Finding]:
    """Whether listen address, public address, TLS and proxies fit together."""
    faults = [*_public(settings), *_encrypted(settings), *_believed(settings)]
    if faults:
        yield from faults
        return
    public = settings.public_url or "none, for this machine alone"
    yield _PART.ok(f"listens on {settings.host}:{settings.port}, public address: {public}")


def _public(settings: Settings) -> Iterator[Finding]:
    """Clients are sent to the public address for their tokens."""
    host = urlsplit(settings.public_url).hostname or ""
    if not is_loopback(settings.host) and not settings.public_url:
        yield _PART.warning(
            f"it listens on {settings.host}, and clients on other machines are told no address"
            " that they can reach",
            "set ENTREPOT_PUBLIC_URL to the address that clients use, such as"
            " https://registry.example.com",
        )
    if is_loopback(settings.host) and host and not is_loopback(host):
        if not settings.trusted_proxies:
            yield _PART.warning(
                f"only this machine reaches {settings.host}, but clients are to use"
                f" {settings.public_url}",
                "with a proxy on this machine set ENTREPOT_TRUSTED_PROXIES=127.0.0.1/32;"
                " without one set ENTREPOT_HOST=0.0.0.0",
            )
    elif settings.public_url and is_loopback(host) and not is_loopback(settings.host):
        yield _PART.warning(
            f"the public address {settings.public_url} is this machine's alone, but"
            f" {settings.host} lets others in",
            "set ENTREPOT_PUBLIC_URL to the address that they use, or ENTREPOT_HOST=127.0.0.1",
        )


def _encrypted(settings: Settings) -> Iterator[Finding]:
    """Tokens must not cross a network unsealed; who ends TLS must be known."""
    has_tls = settings.tls.cert_file is not None
    scheme = urlsplit(settings.public_url).scheme
    for unwise in settings.warnings():
        yield _PART.warning(
            unwise, "put TLS in front, or set ENTREPOT_TLS__CERT_FILE and ENTREPOT_TLS__KEY_FILE"
        )
    if has_tls and scheme == "http":
        yield _PART.error(
            f"this server speaks HTTPS alone, but its public address is {settings.public_url}",
            f"set ENTREPOT_PUBLIC_URL=https{settings.public_url.removeprefix('http')}",
        )
    if scheme == "https" and not has_tls and not settings.trusted_proxies:
        yield _PART.warning(
            f"nothing here makes the HTTPS of {settings.public_url}: neither a certificate nor a"
            " trusted proxy is set",
            "set ENTREPOT_TRUSTED_PROXIES to the proxy's network, or ENTREPOT_TLS__CERT_FILE and"
            " ENTREPOT_TLS__KEY_FILE",
        )
    if not (has_tls or is_loopback(settings.host) or settings.trusted_proxies or scheme):
        yield _PART.warning(
            f"whoever reaches {settings.host}:{settings.port} sends tokens over plain HTTP",
            "set ENTREPOT_TLS__CERT_FILE and ENTREPOT_TLS__KEY_FILE, or listen on 127.0.0.1"
            " behind a proxy",
        )


def _believed(settings: Settings) -> Iterator[Finding]:
    """Networks that are everybody's, and callers without a credential."""
    everybody = [str(net) for net in settings.trusted_proxies if net.prefixlen == 0]
    if everybody:
        yield _PART.error(
            f"every caller may say whose request it is: ENTREPOT_TRUSTED_PROXIES has"
            f" {everybody[0]}",
            "set it to the address of the proxy in front, such as 10.0.0.5/32",
        )
    if any(net.prefixlen == 0 for net in settings.ops.allow):
        yield _PART.warning(
            "everybody may read /metrics and /readyz", "set ENTREPOT_OPS__ALLOW to your network"
        )
    if settings.anonymous and settings.anonymous_force:
        yield _PART.warning(
            f"callers without a credential may {settings.anonymous}, from other machines too",
            "unset ENTREPOT_ANONYMOUS_FORCE once that was tried out",
        )
