"""Host names and a certificate authority that only the programs of a test know.

The names are in no DNS, and nothing of the machine is changed: a program that is to know them runs
in a mount namespace of its own, where /etc/hosts and /etc/docker are ours.
"""

import shutil
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.programs import need_mounts

_ENTER = (
    'mount --bind "$0/hosts" /etc/hosts && '
    'mkdir -p /etc/docker && mount --bind "$0/docker" /etc/docker && exec "$@"'
)


@dataclass(frozen=True, slots=True)
class PrivateSite:
    """A host with sub-domains, their certificate, and the folder with all that says so."""

    folder: Path
    host: str
    port: int
    address: str
    trust: ssl.SSLContext

    @property
    def name(self) -> str:
        """The main host, with its port."""
        return f"{self.host}:{self.port}"

    def below(self, label: str) -> str:
        """A sub-domain, with its port."""
        return f"{label}.{self.name}"

    @property
    def ca_file(self) -> Path:
        """What a client must trust."""
        return self.folder / "certs/ca.crt"

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the server of this site."""
        return {
            "ENTREPOT_HOST": self.address,
            "ENTREPOT_PUBLIC_URL": f"https://{self.name}",
            "ENTREPOT_TLS__CERT_FILE": str(self.folder / "server.pem"),
            "ENTREPOT_TLS__KEY_FILE": str(self.folder / "server.key"),
        }

    @property
    def within(self) -> tuple[str, ...]:
        """The words that start a program which knows the names, and the authority as Docker does."""
        return ("unshare", "--mount", "sh", "-c", _ENTER, str(self.folder))


def make_site(folder: Path, host: str, port: int, labels: tuple[str, ...]) -> PrivateSite:
    """A host and these of its sub-domains; and `stranger`, whose authority Docker does not know.

    Skips where nothing can be mounted.
    """
    need_mounts("host names of a test are mounted over /etc/hosts")
    address = _own_address()
    authority = trustme.CA()
    certificate = authority.issue_cert(host, f"*.{host}", address)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    site = PrivateSite(folder, host, port, address, trust)
    site.ca_file.parent.mkdir(parents=True)
    authority.cert_pem.write_to_path(site.ca_file)
    (folder / "server.key").touch(0o600)
    certificate.private_key_pem.write_to_path(folder / "server.key")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(folder / "server.pem", append=True)
    names = [host, *(f"{label}.{host}" for label in labels)]
    hosts = "".join(f"{address} {name}\n" for name in names)
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}{address} stranger.{host}\n")
    for name in names:
        trusted = folder / f"docker/certs.d/{name}:{port}"
        trusted.mkdir(parents=True)
        shutil.copy(site.ca_file, trusted)
    return site


def _own_address() -> str:
    """An address of this machine, better none of 127.0.0.0/8: Docker checks no certificate there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
