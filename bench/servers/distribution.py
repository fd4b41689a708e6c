"""distribution 2.8 (Debian's docker-registry) with its token authentication.

Its other ways of letting people in are no fair peers: htpasswd computes bcrypt on every request
(about 50 ms), and "silly" checks nothing. A token costs it one RSA verification, the cheapest
signature to check, and the key is found by its id, so that no certificate chain is verified.
"""

import base64
import datetime as dt
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from bench.servers.process import Ready, find_program, free_port, running
from bench.servers.server import Server

_ISSUER = "bench"
_SERVICE = "bench"
_LIFE_SECONDS = 24 * 3600

# The in-memory descriptor cache is on, as in Debian's own configuration; request logs are off.
_CONFIGURATION = """\
version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {folder}/data
    maxthreads: 100
  maintenance:
    uploadpurging:
      enabled: false
http:
  addr: 127.0.0.1:{port}
  secret: bench
auth:
  token:
    realm: http://127.0.0.1:{port}/token
    service: {service}
    issuer: {issuer}
    rootcertbundle: {folder}/issuer.pem
"""


class Distribution:
    """A distribution registry on a folder."""

    def __init__(self, folder: Path) -> None:
        """Keep everything of this server in `folder`."""
        self._folder = folder
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server until the block ends."""
        program = find_program("docker-registry", "docker-registry")
        self._folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        (self._folder / "issuer.pem").write_bytes(self._certificate())
        file = self._folder / "registry.yml"
        file.write_text(
            _CONFIGURATION.format(folder=self._folder, port=port, service=_SERVICE, issuer=_ISSUER)
        )
        with running(
            [program, "serve", str(file)],
            log=self._folder / "output.log",
            ready=Ready(port, "/v2/", 401),
            environment=os.environ,
        ) as process:
            yield Server("distribution", port, process.pid, self._authorize)

    def _authorize(self, repositories: Sequence[str]) -> str:
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "sub": "bench",
            "aud": _SERVICE,
            "nbf": now - 60,
            "iat": now,
            "exp": now + _LIFE_SECONDS,
            "jti": os.urandom(8).hex(),
            "access": [
                {"type": "repository", "name": name, "actions": ["pull", "push"]}
                for name in repositories
            ],
        }
        token = jwt.encode(claims, self._key, "RS256", headers={"kid": self._key_id()})
        return f"Bearer {token}"

    def _key_id(self) -> str:
        # libtrust: 240 bits of the SHA-256 of the public key, base32, in groups of four.
        public = self._key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
        return ":".join(text[start : start + 4] for start in range(0, len(text), 4))

    def _certificate(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ISSUER)])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)
