"""distribution 2.8 (Debian's docker-registry) as a true upstream, on loopback."""

import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.programs import need
from tests.support.server import PLAIN, free_port

_START_SECONDS = 30.0
_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<sent>\d+)')
_CONFIGURATION = """\
version: 0.1
log:
  level: error
storage:
  filesystem:
    rootdirectory: {folder}/data
  maintenance:
    uploadpurging:
      enabled: false
http:
  addr: 127.0.0.1:{port}
  secret: played
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A line of its access log."""

    method: str
    path: str
    status: int
    sent: int


@dataclass(slots=True)
class Distribution:
    """A running docker-registry. `tests.support.server.Client` pushes to it."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    trust: ssl.SSLContext | bool = PLAIN

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def served(self) -> list[Served]:
        """What it has answered until now."""
        text = (self.folder / "output.log").read_text(errors="replace")
        return [
            Served(match["method"], match["path"], int(match["status"]), int(match["sent"]))
            for match in _LINE.finditer(text)
        ]

    def count(self, method: str, part: str) -> int:
        """How many requests of a method had this in their path."""
        return sum(line.method == method and part in line.path for line in self.served())

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


@contextmanager
def running_distribution(folder: Path, port: int | None = None) -> Iterator[Distribution]:
    """Start, wait until it answers, and stop in the end. Anybody may push and pull."""
    program = need("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    file = folder / "registry.yml"
    file.write_text(_CONFIGURATION.format(folder=folder, port=port))
    # Its settings are variables too, and podman's REGISTRY_AUTH_FILE is none of them.
    environment = {key: value for key, value in os.environ.items() if key[:9] != "REGISTRY_"}
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(
            [program, "serve", file],
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    registry = Distribution(port, folder, process)
    try:
        _wait_until_ready(registry)
        yield registry
    finally:
        if process.poll() is None:
            registry.stop()


def _wait_until_ready(registry: Distribution) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if registry.process.poll() is not None:
            raise RuntimeError((registry.folder / "output.log").read_text()[-2000:])
        with suppress(httpx.TransportError):
            if httpx.get(f"{registry.url}/v2/", verify=registry.trust).status_code == 200:
                return
        time.sleep(0.02)  # it has no other way to tell
    raise RuntimeError("docker-registry did not start")
