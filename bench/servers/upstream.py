"""What a cache pulls from: distribution 2.8 (Debian's docker-registry), open to everybody.

Its access log is the witness of how often it was asked, and for how many bytes. The same program
with a `remote` is a cache itself: the peer.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.servers.process import Ready, find_program, free_port, running
from bench.servers.server import Server

_CONFIGURATION = """\
version: 0.1
log:
  level: error
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
"""
_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" (?P<status>\d+) (?P<sent>\d+)')


@dataclass(frozen=True, slots=True)
class Served:
    """A line of the access log; `sent` are the bytes of the body."""

    method: str
    path: str
    status: int
    sent: int


class Upstream:
    """A registry on a folder, at the same port whenever it runs."""

    def __init__(self, folder: Path, remote: int = 0) -> None:
        """Keep everything of this server in `folder`. `remote` is the port of what it caches."""
        self.folder = folder
        self.port = free_port()
        self._remote = remote

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server until the block ends."""
        program = find_program("docker-registry", "docker-registry")
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "registry.yml"
        text = _CONFIGURATION.format(folder=self.folder, port=self.port)
        if self._remote:
            text += f"proxy:\n  remoteurl: http://127.0.0.1:{self._remote}\n"
        file.write_text(text)
        with running(
            [program, "serve", str(file)],
            log=self.folder / "output.log",
            ready=Ready(self.port, "/v2/", 200),
            # Its settings are variables too.
            environment={k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")},
        ) as process:
            yield Server("upstream", self.port, process.pid, lambda _: "")

    def mark(self) -> int:
        """Return where its access log ends now."""
        return (self.folder / "output.log").stat().st_size

    def served(self, since: int) -> list[Served]:
        """Return what it has answered since a mark."""
        with (self.folder / "output.log").open("rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace")
        return [
            Served(match["method"], match["path"], int(match["status"]), int(match["sent"]))
            for match in _LINE.finditer(text)
        ]
