"""Starts `entrepot serve` many times, each a fork of one process that has imported everything.

For tests that start a server hundreds of times: most of a start is reading Python's modules. The
process speaks lines: `{"environment": {…}, "log": PATH}` in, the server's process id out.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.support.server import Server, free_port

_SECONDS = 30.0


class QuickStarts:
    """The process that servers are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.quick_starts"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End it; servers that run go on."""
        self._process.communicate(timeout=_SECONDS)

    @contextmanager
    def server(
        self, data: Path, database_url: str, environment: dict[str, str]
    ) -> Iterator[Server]:
        """Start one, wait until it answers, and kill it in the end."""
        port = free_port()
        ours = {
            "ENTREPOT_WORKERS": "1",  # a tracer follows one
            **environment,
            "ENTREPOT_DATA": str(data),
            "ENTREPOT_DATABASE__URL": database_url,
            "ENTREPOT_PORT": str(port),
        }
        log = data / "server.log"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"environment": ours, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        process = psutil.Process(int(self._process.stdout.readline()))
        try:
            _wait_until_answering(port, process, log)
            yield Server(process, port, data, database_url, log, ours)
        finally:
            workers = process.children() if process.is_running() else []
            with suppress(psutil.NoSuchProcess):
                process.kill()  # its workers die with it
            psutil.wait_procs([process, *workers], timeout=_SECONDS)


def _wait_until_answering(port: int, process: psutil.Process, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.is_running():
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/healthz")
            return
        time.sleep(0.005)  # it has no other way to tell
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")


def main() -> None:
    """Fork a server for each line."""
    import granian.server.mp  # noqa: F401  # read before the first fork
    import uvloop  # noqa: F401

    import entrepot.app  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the tests kill them, nobody waits for them
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become_a_server(order["environment"], order["log"])
        print(pid, flush=True)


def _become_a_server(environment: dict[str, str], log: str) -> None:
    from entrepot.cli import serve
    from entrepot.config import load

    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(environment)
        # Its worker is a fork too, and imports nothing either.
        multiprocessing.set_start_method("fork", force=True)
        multiprocessing.set_start_method = lambda *_, **__: None
        serve.run(load())
    except BaseException:  # noqa: BLE001 - the edge: it is told, and this copy of a process ends
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
