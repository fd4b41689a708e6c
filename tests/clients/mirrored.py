"""A registry that mirrors Docker Hub, a stand-in of Docker Hub, and machines that pull through."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from tests.support.images import Layout
from tests.support.private_site import PrivateSite, make_site
from tests.support.programs import Program
from tests.support.server import ENTREPOT, Server, free_port, running_server
from tests.support.upstreams.distribution import Distribution, Served, running_distribution

HOST = "registry.example.com"
PAGE = Path(__file__).parents[2] / "docs/mirrors.md"


def file_of(name: str) -> str:
    """The file that the documentation gives under this name."""
    block = rf"(?ms)^{re.escape(name)}:\n\n```\w+\n(.*?)^```$"
    found = re.search(block, PAGE.read_text())
    assert found, f"{PAGE.name} has no {name}"
    return found[1]


@dataclass(frozen=True, slots=True)
class Published:
    """An image in Docker Hub's library, and how long the access log was when it got there."""

    name: str
    blobs: set[str]
    before: int


@dataclass(slots=True)
class Stand:
    """Our registry, and the upstream, which has the same port whenever it is started again."""

    site: PrivateSite
    server: Server
    http: httpx.Client
    entrepot: Program
    layout: Layout
    upstream: Distribution
    stack: ExitStack

    @property
    def within(self) -> tuple[str, ...]:
        """The words that start a program which knows our names and trusts our authority."""
        return (*self.site.within, "env", f"SSL_CERT_FILE={self.site.ca_file}")

    @property
    def token(self) -> str:
        """The token in base 64, as `Authorization: Basic` and Docker's settings have it."""
        return base64.b64encode(f"x-token:{self.server.token}".encode()).decode()

    def file(self, name: str, organisation: str) -> str:
        """A file of the documentation with our names and the token."""
        text = file_of(name)
        text = text.replace(f"{HOST}/hub", f"{HOST}/{organisation}")
        text = text.replace(f"{HOST}/v2/hub", f"{HOST}/v2/{organisation}")
        text = text.replace(f"hub.{HOST}", f"{organisation}.{HOST}")
        return text.replace(HOST, self.site.name).replace("BASE64", self.token)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the management API answers to the administrator; the command line takes longer."""
        bearer = {"authorization": f"Bearer {self.server.token}"}
        answer = self.http.request(method, f"/api/v1{path}", json=body, headers=bearer)
        assert answer.is_success, answer.text
        return answer.json()

    def expire(self, path: str) -> None:
        """Have every pull of a repository's tags ask the upstream."""
        organisation, _, name = path.partition("/")
        found = self.ask("GET", f"/organisations/{organisation}/repositories?path={name}")
        changes = {"upstream": {"freshness": 0}}
        self.ask("PATCH", f"/repositories/{found['items'][0]['id']}", changes)

    def add_hub(self, organisation: str) -> None:
        """An organisation that knows Docker Hub, which the upstream stands in for."""
        self.ask("POST", "/organisations", {"slug": organisation})
        self.entrepot(
            "upstream", "add", "docker-hub", "--org", organisation, "--url", self.upstream.url,
            "--anonymous",
        )  # fmt: skip

    def add_mirror(self, organisation: str, prefix: str = "/", *words: str) -> None:
        """Such an organisation with a mirror of all that is there."""
        self.add_hub(organisation)
        self.entrepot(
            "mirror", "add", prefix, "--org", organisation, "--upstream", "docker-hub",
            "--freshness", "3600", *words,
        )  # fmt: skip

    def publish(self, skopeo: Program, name: str) -> Published:
        """Put an image that shares nothing with others into Docker Hub's library."""
        image = self.layout.add_image(name, megabytes=0.2, layers=2)
        target = f"docker://127.0.0.1:{self.upstream.port}/library/{name}:latest"
        skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", image.reference, target)
        stored = self.layout.folder / "blobs/sha256" / image.digest.removeprefix("sha256:")
        manifest = json.loads(stored.read_bytes())
        named = {each["digest"] for each in (manifest["config"], *manifest["layers"])}
        return Published(name, named, len(self.upstream.served()))

    def asked(self, image: Published) -> list[Served]:
        """What the upstream was asked of an image since it was published."""
        lines = self.upstream.served()[image.before :]
        return [line for line in lines if f"/library/{image.name}/" in line.path]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have no upstream for a while."""
        self.upstream.stop()
        yield
        again = running_distribution(self.upstream.folder, self.upstream.port)
        self.upstream = self.stack.enter_context(again)


@contextmanager
def running_stand(folder: Path, labels: tuple[str, ...]) -> Iterator[Stand]:
    """Start everything; `labels` are the organisations that get a sub-domain."""
    site = make_site(folder / "site", HOST, free_port(), labels)
    with ExitStack() as stack:
        upstream = stack.enter_context(running_distribution(folder / "upstream"))
        server = stack.enter_context(
            running_server(
                folder / "data",
                port=site.port,
                environment={**site.environment, "ENTREPOT_OUTBOUND__ALLOW": "127.0.0.0/8"},
                origin=f"https://{site.address}:{site.port}",
                trust=site.trust,
            )
        )
        home = {"HOME": str(folder / "home"), "SSL_CERT_FILE": str(site.ca_file)}
        entrepot = Program((*site.within, str(ENTREPOT)), home)
        entrepot("login", f"https://{site.name}", "--token-stdin", text=server.token)
        http = stack.enter_context(httpx.Client(base_url=server.url, verify=site.trust))
        yield Stand(site, server, http, entrepot, Layout(folder / "layout"), upstream, stack)


class Machine(Protocol):
    """Somebody's machine with one client."""

    def pull(self, reference: str) -> None:
        """Get all of an image that is not there."""

    def forget(self, reference: str) -> None:
        """Have it no more."""


@dataclass(frozen=True, slots=True)
class DockerMachine:
    """A Docker engine."""

    docker: Program

    def pull(self, reference: str) -> None:
        assert "Already exists" not in self.docker("pull", reference)

    def forget(self, reference: str) -> None:
        self.docker("rmi", "--force", reference)


@dataclass(frozen=True, slots=True)
class ContainerdMachine:
    """`ctr`, with words for its pulls."""

    ctr: Program
    words: tuple[str, ...]

    def pull(self, reference: str) -> None:
        assert " exists" not in self.ctr("images", "pull", *self.words, reference)

    def forget(self, reference: str) -> None:
        self.ctr("images", "rm", "--sync", reference)


@dataclass(frozen=True, slots=True)
class PodmanMachine:
    """podman."""

    podman: Program

    def pull(self, reference: str) -> None:
        assert "already exists" not in self.podman("pull", reference)

    def forget(self, reference: str) -> None:
        self.podman("rmi", "--force", reference)


@dataclass(frozen=True, slots=True)
class SkopeoMachine:
    """skopeo, which copies into a folder."""

    skopeo: Program
    folder: Path

    def pull(self, reference: str) -> None:
        self.skopeo("copy", f"docker://{reference}", f"dir:{self.folder}")

    def forget(self, reference: str) -> None:
        del reference
        shutil.rmtree(self.folder)
