"""Entrepot as a pull-through cache: an upstream, a link to it, one node or several, and pulls."""

import base64
import hashlib
import json
import os
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.brake import braked
from bench.content import (
    CONFIG_TYPE,
    LAYER_TYPE,
    Blob,
    Image,
    image,
    manifest,
)
from bench.registry import push_blob, push_bytes, push_image, push_manifest
from bench.row import Place
from bench.scale import KIB
from bench.servers import Entrepot, Upstream
from bench.servers.postgres import running_postgres
from bench.servers.process import free_port
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import ACCEPT

SOURCE = "library/app"
_TAG = "first"


@dataclass(frozen=True, slots=True)
class Source:
    """Where to pull from: the upstream itself, or what a cache has of it."""

    port: int
    repository: str
    authorization: str = ""

    def path(self, rest: str) -> str:
        """Return the path of something in the repository, such as `manifests/v1`."""
        return f"/v2/{self.repository}/{rest}"

    def connect(self) -> Connection:
        """Connect as a client that knows the media types of today."""
        return Connection(self.port, self.authorization, accept=ACCEPT)


@dataclass(frozen=True, slots=True)
class Cache:
    """A cluster, which knows an upstream at the end of a link."""

    upstream: Upstream
    link: int
    """The port at which the upstream is reached, braked or not."""
    nodes: Sequence[Server]

    @property
    def authorization(self) -> str:
        """Return the administrator's Basic credential: the first node made the token."""
        return self.nodes[0].authorize([])

    @property
    def ports(self) -> list[int]:
        """Return where the nodes answer."""
        return [node.port for node in self.nodes]

    @property
    def direct(self) -> Source:
        """Return the upstream over the same link, without us."""
        return Source(self.link, SOURCE)

    def repository(self, freshness: int = 60) -> Source:
        """Make a pull-through repository of a new upstream; nothing is known of either yet."""
        upstream = f"up-{secrets.token_hex(4)}"
        name = f"cache/{secrets.token_hex(4)}"
        self._make("upstreams", {"name": upstream, "url": f"http://127.0.0.1:{self.link}"})
        source = {"name": upstream, "path": SOURCE, "freshness": freshness}
        self._make("repositories", {"path": name, "upstream": source})
        return Source(self.nodes[0].port, name, self.authorization)

    def _make(self, what: str, body: object) -> None:
        _, _, pair = self.authorization.partition(" ")
        _, _, token = base64.b64decode(pair).decode().partition(":")
        with Connection(self.nodes[0].port, f"Bearer {token}") as connection:
            target = f"/api/v1/organisations/main/{what}"
            content = json.dumps(body).encode()
            connection.request("POST", target, content, content_type="application/json", expect=201)


@contextmanager
def cache(place: Place, *, rate: int = 0, nodes: int = 1) -> Iterator[Cache]:
    """Run an upstream, a link to it of `rate` bytes per second if not 0, and the nodes."""
    with ExitStack() as stack:
        upstream = Upstream(place.folder / "upstream")
        stack.enter_context(upstream.running())
        publish(upstream, image(layers=1, layer_size=KIB), _TAG)
        link = upstream.port
        if rate:
            link = stack.enter_context(braked(link, rate, place.folder / "brake"))
        started = stack.enter_context(cluster(place, place.folder, nodes))
        running = Cache(upstream, link, started)
        pull(running.repository(), _TAG)  # so that what is loaded at first use is there
        yield running


@contextmanager
def peer(place: Place, running: Cache) -> Iterator[Source]:
    """Run distribution as a cache of the same upstream over the same link."""
    other = Upstream(place.folder / "distribution", remote=running.link)
    with other.running():
        source = Source(other.port, SOURCE)
        pull(source, _TAG)
        yield source


@contextmanager
def cluster(place: Place, folder: Path, count: int) -> Iterator[list[Server]]:
    """Run one node as a person starts it, or several on one PostgreSQL and one blobs folder."""
    settings = {**place.settings, "OUTBOUND__ALLOW": "127.0.0.1/32"}
    with ExitStack() as stack:
        if count == 1:
            yield [stack.enter_context(Entrepot(folder / "entrepot", settings).running())]
            return
        settings["DATABASE__URL"] = stack.enter_context(running_postgres())
        settings["BLOBS__URL"] = f"file://{folder}/blobs"
        settings["SECRET_KEY"] = secret_key()
        nodes = []
        for number in range(count):
            port = free_port()
            own = settings | {"NODE__URL": f"http://127.0.0.1:{port}"}
            node = Entrepot(folder / f"node-{number}", own, port)
            nodes.append(stack.enter_context(node.running()))
        yield nodes


def secret_key() -> str:
    """Return a key for nodes to share."""
    return base64.b64encode(os.urandom(32)).decode()


def publish(upstream: Upstream, content: Image, tag: str) -> None:
    """Push an image to the upstream itself."""
    with Connection(upstream.port) as connection:
        push_image(connection, SOURCE, tag, content)


def publish_blob(upstream: Upstream, blob: Blob) -> str:
    """Push a blob to the upstream itself; return the rest of its path."""
    with Connection(upstream.port) as connection:
        push_blob(connection, SOURCE, blob)
    return f"blobs/{blob.digest}"


def publish_layer(upstream: Upstream, blob: Blob, tag: str) -> None:
    """Push an image of one large layer to the upstream itself."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "id": tag}).encode()
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    publish_blob(upstream, blob)
    with Connection(upstream.port) as connection:
        push_bytes(connection, SOURCE, digest, config)
        body = manifest(
            {"mediaType": CONFIG_TYPE, "digest": digest, "size": len(config)},
            [{"mediaType": LAYER_TYPE, "digest": blob.digest, "size": blob.size}],
        )
        push_manifest(connection, SOURCE, tag, body)


def pull(source: Source, tag: str, at_once: int = 1) -> int:
    """Pull as clients do: the manifest by its tag, then all blobs, so many at once; the bytes."""
    with source.connect() as connection:
        found = json.loads(connection.request("GET", source.path(f"manifests/{tag}")).body)
    entries = (found["config"], *found["layers"])
    targets = deque(source.path(f"blobs/{entry['digest']}") for entry in entries)

    def work() -> int:
        received = 0
        with source.connect() as connection, suppress(IndexError):
            while True:
                received += connection.discard(targets.popleft())
        return received

    with ThreadPoolExecutor(at_once) as pool:
        return sum(task.result() for task in [pool.submit(work) for _ in range(at_once)])


def new_tag() -> str:
    """Return a tag that nobody has used."""
    return f"v{secrets.token_hex(6)}"
