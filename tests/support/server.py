"""A real `entrepot serve` on a free port, and a small client that speaks the protocol to it."""

import base64
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

ENTREPOT = Path(sys.executable).with_name("entrepot")
_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
# Who speaks plain HTTP proves nothing, and a client that may meet nobody else need not read all the
# authorities of this machine, which takes longer than most tests.
PLAIN = False

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Server:
    """A running registry."""

    process: subprocess.Popen[bytes]
    port: int
    data: Path
    database_url: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""  # where it answers, if not by plain HTTP on 127.0.0.1
    trust: ssl.SSLContext | bool = PLAIN
    ending: ExitStack = field(default_factory=ExitStack)  # what is closed before it stops

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.origin or f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The administrator's token of the first start."""
        return (self.data / "admin.token").read_text().strip()

    def make_token(self, *arguments: str) -> str:
        """What `entrepot admin token create` prints."""
        done = subprocess.run(
            [ENTREPOT, "admin", "token", "create", *arguments],
            env={**os.environ, **self.environment},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Stop it and wait; the exit code."""
        self.process.send_signal(how)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def running_server(
    data: Path,
    *,
    database_url: str = "",
    workers: int = 1,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (),
    origin: str = "",
    trust: ssl.SSLContext | bool = PLAIN,
) -> Iterator[Server]:
    """Start, wait until ready, and stop in the end. `command` goes before, such as strace.

    `origin` is where it answers with what `environment` says, and `trust` what it proves that by.
    """
    data.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    ours = {"ENTREPOT_DATA": str(data), **(environment or {})}
    if database_url:
        ours["ENTREPOT_DATABASE__URL"] = database_url
    log = data / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, ENTREPOT, "serve", "--port", str(port), "--workers", str(workers)],
            env={**os.environ, **ours},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    server = Server(process, port, data, database_url, log, ours, origin, trust)
    try:
        _wait_until_ready(server)
        with server.ending:
            yield server
    finally:
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                server.stop()
        if process.poll() is None:
            server.stop(signal.SIGKILL)


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{server.log.read_text()[-4000:]}")
        with suppress(httpx.TransportError):
            # 404 means that this caller is no operator; the server answers all the same.
            if httpx.get(f"{server.url}/readyz", verify=server.trust).status_code in {200, 404}:
                return
        time.sleep(0.02)  # it has no other way to tell
    raise RuntimeError(f"the server did not start:\n{server.log.read_text()[-4000:]}")


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest of bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def basic(token: str) -> dict[str, str]:
    """The header that presents a token by Basic authentication."""
    pair = base64.b64encode(f"x-token:{token}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


class Address(Protocol):
    """A registry that answers: an Entrepot server, or another one."""

    @property
    def url(self) -> str: ...

    @property
    def trust(self) -> ssl.SSLContext | bool: ...


class Client:
    """One caller of one registry: open, Basic or Bearer, as a real client would be.

    In `bearer` mode a 401 is answered by asking the realm of the challenge for its scope, once.
    """

    def __init__(self, server: Address, *, token: str | None = None, mode: str = "basic") -> None:
        self.mode = mode
        self.token = token
        self._bearer: dict[str, str] = {}
        self.http = httpx.Client(base_url=server.url, timeout=60, verify=server.trust)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request with this caller's credential. A body that is an iterator is sent once."""
        headers = httpx.Headers(options.pop("headers", None))
        name = _name_of(path)
        if self.mode == "basic" and self.token:
            headers.update(basic(self.token))
        if self.mode == "bearer" and name in self._bearer:
            headers["authorization"] = self._bearer[name]
        answer = self.http.request(method, path, headers=headers, **options)
        if self.mode == "bearer" and answer.status_code == 401:
            self._bearer[name] = f"Bearer {self.fetch_bearer(answer)}"
            headers["authorization"] = self._bearer[name]
            answer = self.http.request(method, path, headers=headers, **options)
        return answer

    def fetch_bearer(self, refused: httpx.Response) -> str:
        """A token for the challenge of a 401."""
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["www-authenticate"]))
        answer = self.http.get(
            challenge["realm"],
            params={"service": challenge["service"], "scope": challenge.get("scope", "")},
            headers=basic(self.token) if self.token else {},
        )
        answer.raise_for_status()
        token: str = answer.json()["token"]
        return token

    def push_blob(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        """POST, PUT; the digest."""
        digest = digest_of(content, algorithm)
        begun = self.request("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status_code == 202, begun.text
        # `params` would replace the query that other registries put into the location.
        place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        done = self.request("PUT", str(place), content=content)
        assert done.status_code == 201, done.text
        return digest

    def push_manifest(
        self, name: str, reference: str, body: bytes | dict[str, Any], media_type: str | None = None
    ) -> str:
        """PUT a manifest; its digest."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        media_type = media_type or json.loads(content)["mediaType"]
        done = self.request(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            content=content,
            headers={"content-type": media_type},
        )
        assert done.status_code == 201, done.text
        return digest_of(content)

    def push_image(self, name: str, reference: str = "latest", layers: int = 1) -> str:
        """Push an image of random layers; its digest."""
        return self.push_manifest(name, reference, self.make_image(name, layers))

    def make_image(self, name: str, layers: int = 1) -> dict[str, Any]:
        """Push random layers and a configuration; the manifest that joins them, not pushed."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "id": secrets.token_hex(8)})
        contents = [config.encode(), *(secrets.token_bytes(1_000) for _ in range(layers))]
        descriptors = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.push_blob(name, content),
                "size": len(content),
            }
            for content in contents
        ]
        descriptors[0]["mediaType"] = "application/vnd.oci.image.config.v1+json"
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptors[0],
            "layers": descriptors[1:],
        }


def _name_of(path: str) -> str:
    match = re.match(r"/v2/(.+)/(?:blobs|manifests|tags|referrers)/", path)
    return match[1] if match else path.partition("?")[0]
