"""Watching a server's system calls, breaking the Nth of them, or ending it there."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest

from tests.support.forks import forking
from tests.support.kill_at import trace
from tests.support.server import Server

_SECONDS = 30.0


def require_tracing() -> None:
    """Skip where strace is missing or a process may not be traced."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() != 0 and scope.exists() and scope.read_text().strip() != "0":
        pytest.skip("needs CAP_SYS_PTRACE: it traces a process that is not its child")


def workers_of(server: Server) -> list[int]:
    """The processes that answer requests."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child.pid for child in children if "resource_tracker" not in str(child.cmdline())]


class Killer:
    """Kills a worker at the Nth of its calls that count; see `kill_at`."""

    def __init__(self, worker: int, nth: int, only: str = "") -> None:
        self._nth = nth
        self._said, there = Pipe(duplex=False)
        self._process = forking().Process(
            target=trace, args=(worker, nth, only, there), daemon=True
        )
        self._process.start()
        there.close()
        assert self._said.recv() == "ready"

    def end(self) -> str:
        """Let go of the worker; what it was killed at, or with N = 0 all calls it made."""
        if self._nth == 0:
            self._process.terminate()
        assert self._said.poll(_SECONDS), "the worker lives, and was not killed"
        try:
            said = str(self._said.recv())
        except EOFError:  # it ended before
            said = ""
        self._process.join(_SECONDS)
        self._said.close()
        return said


@contextmanager
def attached(pid: int, output: Path, *arguments: str) -> Iterator[None]:
    """Run strace on all threads of a process, until the block ends."""
    with Path(f"{output}.said").open("w") as said:
        process = subprocess.Popen(
            [
                "strace",
                "-f",
                "-ttt",
                "-y",
                "-s",
                "96",
                "-o",
                str(output),
                *arguments,
                "-p",
                str(pid),
            ],
            stderr=said,
            stdin=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while not all(_is_traced(pid, thread) for thread in _threads(pid)):
            assert process.poll() is None, Path(f"{output}.said").read_text()
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.01)  # it has no other way to tell
        yield
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _threads(pid: int) -> list[str]:
    return [path.name for path in Path(f"/proc/{pid}/task").iterdir()]


def _is_traced(pid: int, thread: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return "TracerPid:\t0" not in status


@dataclass(frozen=True, slots=True)
class Call:
    """A finished system call."""

    began: float
    ended: float
    name: str
    arguments: str
    result: str


_WHOLE = re.compile(r"(\d+)\s+([\d.]+) (\w+)\((.*)\)\s+= (.*)")
_BEGUN = re.compile(r"(\d+)\s+([\d.]+) (\w+)\((.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+)\s+([\d.]+) <\.\.\. (\w+) resumed>(.*)\)\s+= (.*)")


def read_calls(output: Path) -> list[Call]:
    """What strace saw, by the order in which the calls ended."""
    calls: list[Call] = []
    begun: dict[str, tuple[float, str]] = {}
    for line in output.read_text().splitlines():
        if match := _WHOLE.fullmatch(line):
            _, at, name, arguments, result = match.groups()
            calls.append(Call(float(at), float(at), name, arguments, result))
        elif match := _BEGUN.fullmatch(line):
            thread, at, _, arguments = match.groups()
            begun[thread] = (float(at), arguments)
        elif match := _RESUMED.fullmatch(line):
            thread, at, name, rest, result = match.groups()
            started, arguments = begun.pop(thread, (float(at), ""))
            calls.append(Call(started, float(at), name, arguments + rest, result))
    return calls
