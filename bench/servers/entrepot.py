"""Entrepot as a person starts it: `entrepot serve`, with its defaults, on a folder."""

import base64
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.servers.process import BenchError, Ready, free_port, running
from bench.servers.server import Server
from bench.wire import Connection

_ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("entrepot")


class Entrepot:
    """An Entrepot registry on a folder."""

    def __init__(self, folder: Path, settings: Mapping[str, str], port: int = 0) -> None:
        """Keep everything in `folder`; `settings` are ENTREPOT_… names without the prefix."""
        self.folder = folder
        self._port = port
        self._settings = settings

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server until the block ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        port = self._port or free_port()
        data = self.folder / "data"
        command = [str(PROGRAM), "serve", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--data", str(data)]
        with running(
            command,
            log=self.folder / "output.log",
            ready=Ready(port, "/readyz", 200),
            environment=self._environment(),
        ) as process:
            yield Server("entrepot", port, process.pid, lambda _: basic(data))

    def alone(self, work: str, *arguments: object) -> dict[str, float]:
        """Have a piece of its work done by a process without a server; see bench.alone."""
        command = [sys.executable, "-m", "bench.alone", work, *map(str, arguments)]
        environment = self._environment() | {"ENTREPOT_DATA": str(self.folder / "data")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{command}: {done.stderr}")
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures

    def _environment(self) -> dict[str, str]:
        # What this shell happens to have set must not decide the figures, nor which database is
        # written to.
        clean = {name: value for name, value in os.environ.items() if not _is_ours(name)}
        return clean | {f"ENTREPOT_{name}": value for name, value in self._settings.items()}


def _is_ours(name: str) -> bool:
    return name.startswith("ENTREPOT_")


def basic(data: Path) -> str:
    """Return the Authorization value of the token that the first start left in the folder."""
    token = (data / "admin.token").read_text().strip()
    return "Basic " + base64.b64encode(f"x-token:{token}".encode()).decode()


def bearer(server: Server, repository: str) -> str:
    """Return the Authorization value that the server's token service hands out for pulling."""
    with Connection(server.port) as anonymous:
        challenge = anonymous.request("GET", "/v2/", expect=401).headers["www-authenticate"]
    parameters = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if "realm" not in parameters or "service" not in parameters:
        raise BenchError(f"no Bearer challenge in {challenge!r}")
    query = urllib.parse.urlencode(
        {"service": parameters["service"], "scope": f"repository:{repository}:pull"}
    )
    path = urllib.parse.urlsplit(parameters["realm"]).path
    with Connection(server.port, server.authorize([repository])) as known:
        answer = json.loads(known.request("GET", f"{path}?{query}").body)
    return f"Bearer {answer['token']}"
