"""The registry under test over TLS: two organisations, prepared by its administrator."""

import json
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.images import Layout
from tests.support.private_site import PrivateSite
from tests.support.server import Client, Server, running_server


@dataclass(frozen=True, slots=True)
class Target:
    """A repository as clients name it, and by the form that needs no sub-domain."""

    host: str
    name: str
    full_name: str

    def reference(self, tag: str) -> str:
        return f"{self.host}/{self.name}:{tag}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A target with the tag `seed`; its organisation, and a project that may use it."""

    target: Target
    organisation: str
    project: str


@dataclass(frozen=True, slots=True)
class Content:
    """Tiny images: one to push, as a layout and as a tar of its layer, and one that is there."""

    probe: str
    layer: Path
    blobs: tuple[bytes, ...]
    manifest: dict[str, Any]


def make_content(folder: Path) -> Content:
    layout = Layout(folder / "layout")
    stored = layout.folder / "blobs/sha256"
    probe = layout.add_image("probe", megabytes=0.01, layers=1)
    seed = layout.add_image("seed", megabytes=0.01, layers=1)
    manifest = json.loads((stored / seed.digest.removeprefix("sha256:")).read_text())
    # oras pulls what has a title.
    manifest["layers"][0]["annotations"] = {"org.opencontainers.image.title": "seed.tar.gz"}
    named = [manifest["config"], *manifest["layers"]]
    blobs = tuple((stored / each["digest"].removeprefix("sha256:")).read_bytes() for each in named)
    (folder / "content").write_bytes(secrets.token_bytes(5_000))
    with tarfile.open(folder / "layer.tar", "w") as tar:
        tar.add(folder / "content", "content")
    return Content(probe.reference, folder / "layer.tar", blobs, manifest)


class TlsRegistry:
    """Makes targets and tokens through the management API."""

    def __init__(self, server: Server, site: PrivateSite, content: Content) -> None:
        self.site = site
        self._content = content
        self._admin = Client(server, token=server.token)
        self.ask("POST", "/organisations", {"slug": "acme"})

    @property
    def http(self) -> httpx.Client:
        """A client that trusts the server and is nobody."""
        return self._admin.http

    def close(self) -> None:
        self._admin.close()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the management API answers to the administrator."""
        bearer = {"authorization": f"Bearer {self._admin.token}"}
        answer = self.http.request(method, f"/api/v1{path}", json=body, headers=bearer)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def scene(self, form: str) -> Scene:
        """A new repository with a project of its own, addressed in one of the forms.

        The project is linked to it, or it is the project's own; `elsewhere` is neither.
        """
        organisation = "main" if form == "default" else "acme"
        project = self.ask("POST", f"/organisations/{organisation}/projects", {"name": "ci"})["id"]
        path = f"{'other' if form == 'elsewhere' else 'team'}/{secrets.token_hex(6)}"
        full = f"{organisation}/{path}"
        target = {
            "sub-domain": Target(self.site.below("acme"), path, full),
            "elsewhere": Target(self.site.below("acme"), path, full),
            "path": Target(self.site.name, full, full),
            "default": Target(self.site.name, path, full),
            "project id": Target(self.site.name, project, project),
        }[form]
        for blob in self._content.blobs:
            self._admin.push_blob(target.full_name, blob)
        self._admin.push_manifest(target.full_name, "seed", self._content.manifest)
        if form not in {"project id", "elsewhere"}:
            repository = self.repository_id(target)
            self.ask("PUT", f"/projects/{project}/repositories/{repository}")
        return Scene(target, organisation, project)

    def repository_id(self, target: Target) -> str:
        """By which the management API knows it."""
        organisation, _, path = target.full_name.partition("/")
        found = self.ask("GET", f"/organisations/{organisation}/repositories?path={path}")
        repository_id: str = found["items"][0]["id"]
        return repository_id

    def new_token(self, kind: str, scene: Scene) -> dict[str, Any]:
        """A token of one of the kinds that the matrix knows; its `token` is the secret."""
        path = "/tokens" if kind == "user" else f"/organisations/{scene.organisation}/tokens"
        fields: dict[str, dict[str, object]] = {
            "user": {},
            "organisation": {"kind": "org"},
            "project": {"kind": "project", "project": scene.project},
            "pull of project": {"kind": "pull", "project": scene.project},
            "pull of organisation": {"kind": "pull"},
            "patterns": {"kind": "org", "patterns": ["team/**"]},
            "actions": {"kind": "org", "actions": ["pull"]},
        }
        made: dict[str, Any] = self.ask("POST", path, fields[kind])
        return made

    def has(self, target: Target, tag: str) -> bool:
        """Whether there is such a tag."""
        path = f"/v2/{target.full_name}/manifests/{tag}"
        return self._admin.request("HEAD", path).status_code == 200


@contextmanager
def running_tls_registry(
    folder: Path, site: PrivateSite, content: Content, database_url: str = ""
) -> Iterator[TlsRegistry]:
    """Start the server of a site, and stop it in the end."""
    with running_server(
        folder,
        port=site.port,
        environment=site.environment,
        database_url=database_url,
        origin=f"https://{site.address}:{site.port}",
        trust=site.trust,
    ) as server:
        registry = TlsRegistry(server, site, content)
        try:
            yield registry
        finally:
            registry.close()
