"""The certificate that this server shows: whether clients will take it, and for how long."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from entrepot.cli.doctor.finding import Finding, Part
from entrepot.config import Settings

_PART = Part("certificate")
_SOON = timedelta(days=14)
_RENEW = "renew it; a running server takes the new files by itself"


def examine(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Key and chain belong together, are valid now, and cover the public address."""
    cert_file, key_file = settings.tls.cert_file, settings.tls.key_file
    if cert_file is None or key_file is None:
        return
    try:
        chain = x509.load_pem_x509_certificates(cert_file.read_bytes())
    except OSError as error:
        yield _PART.error(
            f"{cert_file} cannot be read ({error.strerror})", "let the user of the server read it"
        )
        return
    except ValueError:
        yield _PART.error(
            f"{cert_file} holds no certificates",
            "write the certificate and then its intermediates there, each as PEM",
        )
        return
    host = urlsplit(settings.public_url).hostname or ""
    faults = [
        *_key(chain[0], key_file, cert_file),
        *_order(chain, cert_file),
        *_times(chain, now),
        *_names(chain[0], host),
    ]
    if faults:
        yield from faults
        return
    left = min(each.not_valid_after_utc for each in chain) - now.astimezone(UTC)
    names = ", ".join(_covered(chain[0]))
    yield _PART.ok(f"for {names}, {left.days} days left, {len(chain)} in the chain")


def _key(certificate: x509.Certificate, key_file: Path, cert_file: Path) -> Iterator[Finding]:
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except OSError as error:
        yield _PART.error(
            f"{key_file} cannot be read ({error.strerror})",
            f"let the user of the server, and nobody else, read it: chmod 600 {key_file}",
        )
        return
    except TypeError:
        yield _PART.error(
            f"{key_file} is locked by a passphrase that nobody will type at a start",
            f"unlock it: openssl pkey -in {key_file} -out {key_file}",
        )
        return
    except ValueError:
        yield _PART.error(f"{key_file} holds no private key", "write the key there, as PEM")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        yield _PART.error(
            f"the key in {key_file} is not that of the first certificate in {cert_file}",
            "put a pair there; the server's own certificate comes first in its file",
        )


def _order(chain: list[x509.Certificate], cert_file: Path) -> Iterator[Finding]:
    for number, (signed, signer) in enumerate(pairwise(chain), 1):
        try:
            signed.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature):
            yield _PART.error(
                f"certificate {number} in {cert_file} was not signed by the one behind it",
                "put the server's own first, and behind each the one that signed it",
            )
            return


def _times(chain: list[x509.Certificate], now: datetime) -> Iterator[Finding]:
    first = min(chain, key=lambda each: each.not_valid_after_utc)
    ends = first.not_valid_after_utc
    if ends < now:
        yield _PART.error(f"the certificate of {_called(first)} ended on {ends:%Y-%m-%d}", _RENEW)
    elif ends < now + _SOON:
        days = (ends - now).days
        yield _PART.warning(f"the certificate of {_called(first)} ends in {days} days", _RENEW)
    begins = max(each.not_valid_before_utc for each in chain)
    if begins > now:
        yield _PART.error(
            f"the certificate counts from {begins:%Y-%m-%d %H:%M} UTC on, which is not yet",
            "set this machine's clock, or wait",
        )


def _names(certificate: x509.Certificate, host: str) -> Iterator[Finding]:
    if host and not any(_covers(name, host) for name in _covered(certificate)):
        yield _PART.error(
            f"it covers {', '.join(_covered(certificate)) or 'no name'}, not {host}",
            f"get one for {host} (and *.{host} where sub-domains are organisations), or correct"
            " ENTREPOT_PUBLIC_URL",
        )


def _covered(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that clients compare with; the common name is none of them."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _covers(name: str, host: str) -> bool:
    """RFC 6125: a wildcard stands for one label, the first."""
    try:
        return ip_address(host) == ip_address(name)
    except ValueError:
        pass
    pattern, asked = name.lower(), host.lower()
    if pattern.startswith("*."):
        return asked.partition(".")[2] == pattern[2:]
    return asked == pattern


def _called(certificate: x509.Certificate) -> str:
    return ", ".join(_covered(certificate)) or certificate.subject.rfc4514_string()
