"""Starting a server, waiting until it answers, and stopping it by its pid."""

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 30
_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Ready:
    """The first answer that says a server is ready."""

    port: int
    path: str
    status: int


class BenchError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


def find_program(name: str, package: str) -> str:
    """Return the path of a program. Raises BenchError naming the package that has it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise BenchError(
            f"{name} is not installed: apt-get install --no-install-recommends {package}"
        )
    return found


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], *, log: Path, ready: Ready, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; enter once it answers as `ready` says.

    The server gets a process group of its own, so that Ctrl-C reaches the harness alone, which then
    stops each server in order. Not a session: Linux gives each of those an equal share of the
    processors (`sched_autogroup`), so that two nodes would get twice what one does.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            process_group=0,
        )
    try:
        _wait_until_ready(process, ready, log)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server: politely, then for certain."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Ready, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last = log.read_text(errors="replace").splitlines()[-5:]
            raise BenchError(
                f"{process.args!r} ended with {process.returncode}:\n" + "\n".join(last)
            )
        if _answers(ready):
            return
        time.sleep(_POLL_SECONDS)
    raise BenchError(
        f"{process.args!r} did not answer {ready.path} within {_START_SECONDS} s; see {log}"
    )


def _answers(ready: Ready) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", ready.port, timeout=5)
    try:
        connection.request("GET", ready.path)
        return connection.getresponse().status == ready.status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
