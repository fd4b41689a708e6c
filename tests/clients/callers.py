"""Each client by the same three words, with a sign-in of its own and trust in a private CA."""

import json
import re
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.support.programs import Program
from tests.support.server import OCI_MANIFEST, basic, digest_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended, and what was said."""

    is_done: bool
    said: str

    @classmethod
    def of(cls, done: subprocess.CompletedProcess[str]) -> "Outcome":
        return cls(done.returncode == 0, done.stdout)


class Caller(Protocol):
    """Somebody with a client. References are `host/name:tag`."""

    def sign_in(self, host: str, token: str) -> Outcome: ...

    def push(self, reference: str) -> Outcome: ...

    def pull(self, reference: str) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Docker:
    """An engine's client; it pushes `probe`. The engine trusts by /etc/docker/certs.d."""

    docker: Program

    @classmethod
    def at(cls, docker: Program, folder: Path) -> "Docker":
        """With its sign-ins in `folder`."""
        return cls(Program(docker.words, {**docker.environment, "DOCKER_CONFIG": str(folder)}))

    def sign_in(self, host: str, token: str) -> Outcome:
        words = ("login", host, "-u", "x-token", "--password-stdin")
        return Outcome.of(self.docker.try_run(*words, text=token))

    def push(self, reference: str) -> Outcome:
        self.docker("tag", "probe", reference)
        outcome = Outcome.of(self.docker.try_run("push", reference))
        self.docker("rmi", reference)
        return outcome

    def pull(self, reference: str) -> Outcome:
        outcome = Outcome.of(self.docker.try_run("pull", reference))
        if outcome.is_done:
            self.docker("rmi", reference)
        return outcome


@dataclass(frozen=True, slots=True)
class Podman:
    """podman; it pushes `probe`."""

    podman: Program
    own: tuple[str, ...]

    @classmethod
    def at(cls, podman: Program, ca_file: Path, folder: Path) -> "Podman":
        """With its sign-ins in `folder`; podman wants the file to be there."""
        (folder / "auth.json").write_text("{}")
        return cls(podman, ("--cert-dir", str(ca_file.parent), f"--authfile={folder}/auth.json"))

    def sign_in(self, host: str, token: str) -> Outcome:
        words = ("login", *self.own, "-u", "x-token", "--password-stdin", host)
        return Outcome.of(self.podman.try_run(*words, text=token))

    def push(self, reference: str) -> Outcome:
        return Outcome.of(self.podman.try_run("push", *self.own, "localhost/probe", reference))

    def pull(self, reference: str) -> Outcome:
        outcome = Outcome.of(self.podman.try_run("pull", *self.own, reference))
        if outcome.is_done:
            self.podman("rmi", reference)
        return outcome


@dataclass(frozen=True, slots=True)
class Skopeo:
    """skopeo; it copies from a layout and to folders."""

    skopeo: Program
    certificates: Path
    probe: str
    folder: Path

    def sign_in(self, host: str, token: str) -> Outcome:
        words = (f"--cert-dir={self.certificates}", "-u", "x-token", "--password-stdin", host)
        return Outcome.of(self.skopeo.try_run("login", self._auth, *words, text=token))

    def push(self, reference: str) -> Outcome:
        words = ("--preserve-digests", f"--dest-cert-dir={self.certificates}")
        target = f"docker://{reference}"
        return Outcome.of(self.skopeo.try_run("copy", self._auth, *words, self.probe, target))

    def pull(self, reference: str) -> Outcome:
        trust = f"--src-cert-dir={self.certificates}"
        target = f"dir:{self.folder}/pulled"
        return Outcome.of(
            self.skopeo.try_run("copy", self._auth, trust, f"docker://{reference}", target)
        )

    @property
    def _auth(self) -> str:
        return f"--authfile={self.folder}/auth.json"


@dataclass(frozen=True, slots=True)
class Oras:
    """oras; it pushes a file and pulls to a folder."""

    oras: Program
    ca_file: Path
    folder: Path

    def sign_in(self, host: str, token: str) -> Outcome:
        words = ("login", *self._own, "-u", "x-token", "--password-stdin", host)
        return Outcome.of(self.oras.try_run(*words, text=token))

    def push(self, reference: str) -> Outcome:
        (self.folder / "probe.txt").write_text("pushed\n")
        words = ("push", "--concurrency=1", *self._own, reference, "probe.txt:text/plain")
        outcome = Outcome.of(self.oras.try_run(*words, folder=self.folder))
        tries = 1
        # Told no for two blobs at once, oras 1.2 may panic instead of saying so.
        while "panic: sync/atomic" in outcome.said and tries < 5:
            outcome = Outcome.of(self.oras.try_run(*words, folder=self.folder))
            tries += 1
        return outcome

    def pull(self, reference: str) -> Outcome:
        words = ("pull", *self._own, "-o", f"{self.folder}/pulled", reference)
        return Outcome.of(self.oras.try_run(*words))

    @property
    def _own(self) -> tuple[str, ...]:
        return (f"--ca-file={self.ca_file}", f"--registry-config={self.folder}/config.json")


@dataclass(slots=True)
class HelmRequests:
    """What helm 3.19 sends, request by request; docs/reference/clients.md lists them."""

    http: httpx.Client
    tokens: dict[str, str] = field(default_factory=dict)

    def sign_in(self, host: str, token: str) -> Outcome:
        asked = self._send("GET", host, "/v2/")
        form = {
            "client_id": "oras-go",
            "grant_type": "password",
            "password": token,
            "service": host,
            "username": "x-token",
        }
        answer = self._send("POST", host, _realm(asked, host), data=form)
        if answer.is_error:
            return Outcome(False, answer.text)
        self.tokens[host] = token
        bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
        confirmed = self._send("GET", host, "/v2/", headers=bearer)
        return Outcome(confirmed.status_code == 200, confirmed.text)

    def push(self, reference: str) -> Outcome:
        host, base, tag = _parts(reference)
        config, chart = b"{}", secrets.token_bytes(500)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": _descriptor("application/vnd.cncf.helm.config.v1+json", config),
                "layers": [
                    _descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chart)
                ],
            }
        ).encode()
        by_digest = f"{base}/manifests/{digest_of(manifest)}"
        pull = self._bearer(self._send("HEAD", host, by_digest), host)
        known = [self._send("HEAD", host, by_digest, headers=pull)]
        known += [
            self._send("HEAD", host, f"{base}/blobs/{digest_of(blob)}", headers=pull)
            for blob in (config, chart)
        ]
        assert {answer.status_code for answer in known} == {404}
        push = self._bearer(self._send("POST", host, f"{base}/blobs/uploads/"), host)
        for blob in (config, chart):
            begun = self._send("POST", host, f"{base}/blobs/uploads/", headers=push)
            if begun.status_code != 202:
                return Outcome(False, begun.text)
            stored = self._send(
                "PUT",
                host,
                begun.headers["location"],
                params={"digest": digest_of(blob)},
                content=blob,
                headers=push | {"content-type": "application/octet-stream"},
            )
            assert stored.status_code == 201, stored.text
        typed = push | {"content-type": OCI_MANIFEST}
        for path in (by_digest, f"{base}/manifests/{tag}"):
            stored = self._send("PUT", host, path, content=manifest, headers=typed)
            assert stored.status_code == 201, stored.text
        return Outcome(True, "")

    def pull(self, reference: str) -> Outcome:
        host, base, tag = _parts(reference)
        bearer = self._bearer(self._send("GET", host, f"{base}/tags/list"), host)
        listed = self._send("GET", host, f"{base}/tags/list", headers=bearer)
        if listed.status_code != 200:
            return Outcome(False, listed.text)
        assert tag in listed.json()["tags"]
        manifest = self._send("GET", host, f"{base}/manifests/{tag}", headers=bearer).json()
        for part in (manifest["config"], *manifest["layers"]):
            blob = self._send("GET", host, f"{base}/blobs/{part['digest']}", headers=bearer)
            assert digest_of(blob.content) == part["digest"]
        return Outcome(True, "")

    def _bearer(self, refused: httpx.Response, host: str) -> dict[str, str]:
        """The header that the challenge of a 401 asks for; none where everybody may."""
        if refused.status_code != 401:
            return {}
        asked = _challenge(refused)
        answer = self._send(
            "GET",
            host,
            _realm(refused, host),
            params={"scope": asked["scope"], "service": asked["service"]},
            headers=basic(self.tokens[host]) if host in self.tokens else {},
        )
        if answer.is_error:
            return {}
        return {"authorization": f"Bearer {answer.json()['access_token']}"}

    def _send(self, method: str, host: str, path: str, **options: Any) -> httpx.Response:
        headers = {"host": host} | options.pop("headers", {})
        return self.http.request(method, path, headers=headers, **options)


def _challenge(refused: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["www-authenticate"]))


def _realm(refused: httpx.Response, host: str) -> str:
    """The path of the realm, which is of this host."""
    realm = _challenge(refused)["realm"]
    assert realm.startswith(f"https://{host}/")
    return realm.removeprefix(f"https://{host}")


def _parts(reference: str) -> tuple[str, str, str]:
    """Host, the path below which the repository is, and tag."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    return host, f"/v2/{name}", tag


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
