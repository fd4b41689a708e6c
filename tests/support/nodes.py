"""Nodes of one registry that share PostgreSQL and an object store, and nginx in front of them.

Each node reaches the store by a line of its own, which can be made slow, and can be killed.
"""

import base64
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests.support.bucket import Bucket
from tests.support.eventually import eventually
from tests.support.fault_proxy import FaultProxy, Line, Way
from tests.support.nginx import Nginx, running_nginx
from tests.support.server import ENTREPOT, Server, free_port, running_server

PREFIX = "registry/"  # of the objects in the bucket
_NODES = 2
_BUSY = 1 << 20  # bytes to or from the store
_SECONDS = 60.0


@dataclass(slots=True)
class Node:
    """One with the folder and the port that it keeps when it is started again."""

    data: Path
    port: int
    environment: Mapping[str, str]
    database_url: str
    line: FaultProxy  # to the store
    server: Server | None = None
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Where the other nodes find it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run, and wait until it is ready."""
        self.server = self._running.enter_context(
            running_server(
                self.data,
                port=self.port,
                database_url=self.database_url,
                environment=self.environment,
            )
        )

    def kill(self) -> None:
        """End all its processes at once."""
        assert self.server is not None
        parent = psutil.Process(self.server.process.pid)
        parent.suspend()  # or it would start another worker for the one that died
        for child in parent.children(recursive=True):
            child.kill()
        self.server.stop(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Stop it, if it runs."""
        self._running.close()
        self.server = None

    def passed(self, way: Way) -> int:
        """The bytes to or from the store until now."""
        return sum(each.passed[way] for each in list(self.line.connections))

    def entrepot(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The program with the settings of this node."""
        ours = {"ENTREPOT_DATA": str(self.data), "ENTREPOT_DATABASE__URL": self.database_url}
        return subprocess.run(
            [ENTREPOT, *words],
            env={**os.environ, **self.environment, **ours},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@dataclass(slots=True)
class Nodes:
    """All of them, and what is in front; `tests.support.server.Client` speaks to that."""

    nodes: list[Node]
    front: Nginx
    bucket: Bucket
    database_url: str
    trust: bool = True

    @property
    def port(self) -> int:
        """Where clients are served."""
        return self.front.port

    @property
    def host(self) -> str:
        """As clients name it; every one takes `localhost` as itself."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}"

    @property
    def token(self) -> str:
        """The administrator's token of the first start."""
        return (self.nodes[0].data / "admin.token").read_text().strip()

    @contextmanager
    def slow(self, rate: float) -> Iterator[None]:
        """Have so many bytes a second on each connection to the store for a while."""
        for node in self.nodes:
            node.line.line = Line(rate=rate)
        try:
            yield
        finally:
            self.hurry()

    def hurry(self) -> None:
        """Have the lines as fast as they are again."""
        for node in self.nodes:
            node.line.line = Line()

    def kill_first_busy(self, way: Way) -> Node:
        """Kill the node that is the first from now on to move a megabyte; which that was."""
        before = [node.passed(way) for node in self.nodes]
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            for node, count in zip(self.nodes, before, strict=True):
                if node.passed(way) - count > _BUSY:
                    node.kill()
                    return node
            time.sleep(0.01)  # there is no other way to tell
        raise AssertionError("no node moved anything")

    def restart(self, node: Node) -> None:
        """Start one that was killed, and wait until clients are sent to it again."""
        node.start()
        before = len(self.front.asked())

        def is_asked() -> bool:
            httpx.get(f"{self.url}/healthz")
            return urlsplit(node.url).netloc in self.front.asked()[before:]

        eventually(is_asked)

    def at(self, url: str) -> Node:
        """The one that others find there."""
        return next(node for node in self.nodes if node.port == urlsplit(url).port)


@contextmanager
def running_nodes(
    folder: Path, database_url: str, bucket: Bucket, settings: Mapping[str, str] | None = None
) -> Iterator[Nodes]:
    """Start them all; `settings` are names of the environment without ENTREPOT_, and values."""
    ports = [free_port() for _ in range(_NODES)]
    with ExitStack() as stack:
        addresses = [f"127.0.0.1:{port}" for port in ports]
        front = stack.enter_context(running_nginx(folder / "nginx", addresses))
        common = {
            "PUBLIC_URL": f"http://localhost:{front.port}",
            "TRUSTED_PROXIES": "127.0.0.1/32",
            "SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "BLOBS__LOW_WATER_BYTES": "0",
            **(settings or {}),
        }
        nodes = []
        for number, port in enumerate(ports):
            store = urlsplit(bucket.server.endpoint)
            line = FaultProxy(store.hostname or "", store.port or 0)
            stack.enter_context(line.running())
            own = {**common, "NODE__URL": f"http://127.0.0.1:{port}"}
            environment = {f"ENTREPOT_{name}": value for name, value in own.items()}
            environment |= bucket.behind(line.origin).settings(PREFIX)
            node = Node(folder / f"node-{number}", port, environment, database_url, line)
            stack.callback(node.close)
            node.start()
            nodes.append(node)
        yield Nodes(nodes, front, bucket, database_url)
