"""Starts `entrepot serve` many times, each a fork of one process that has imported everything."""

import fcntl
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from entrepot.cli import serve
from entrepot.config import load
from tests.support.forks import forking
from tests.support.server import PLAIN, Server, free_port

_SECONDS = 30.0


@contextmanager
def quickly_started(data: Path, database_url: str, environment: dict[str, str]) -> Iterator[Server]:
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
    started = forking().Process(target=_become_a_server, args=(ours, log))
    started.start()
    process = psutil.Process(started.ident)
    try:
        _wait_until_answering(port, process, log)
        yield Server(process, port, data, database_url, log, ours)
    finally:
        workers = process.children() if process.is_running() else []
        with suppress(psutil.NoSuchProcess):
            process.kill()  # its workers die with it
        psutil.wait_procs([process, *workers], timeout=_SECONDS)
        started.join(_SECONDS)
        with (data / "serve.lock").open("a") as lock:
            # A worker that it was just about to start goes a moment later, and holds it till then.
            fcntl.flock(lock, fcntl.LOCK_EX)


def _wait_until_answering(port: int, process: psutil.Process, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.is_running():
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", verify=PLAIN)
            return
        time.sleep(0.005)  # it has no other way to tell
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")


def _become_a_server(environment: dict[str, str], log: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)
    # Its worker is a fork too, and imports nothing either.
    multiprocessing.set_start_method("fork", force=True)
    multiprocessing.set_start_method = lambda *_, **__: None
    serve.run(load())
