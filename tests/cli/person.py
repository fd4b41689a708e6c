"""Somebody at a computer of their own, who types our commands; with or without a terminal."""

import os
import pty
import re
import select
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server import ENTREPOT

_SECONDS = 60.0
_TERMINAL = {"TERM": "xterm", "LINES": "40"}


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    out: str
    err: str
    code: int

    @property
    def next(self) -> list[str]:
        """The commands that the message names."""
        return re.findall(r"^(?:next|  or): (.+)$", self.err, re.MULTILINE)

    def next_with(self, *words: str) -> str:
        """The one of them that has these words."""
        (found,) = [line for line in self.next if all(word in line for word in words)]
        return found


@dataclass(slots=True)
class Person:
    """A home folder, and an environment that holds nothing of the one who runs the tests."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PATH": f"{ENTREPOT.parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            **self.variables,
        }

    @property
    def stored(self) -> Path:
        return self.home / "config" / "entrepot" / "config.json"

    def run(self, *words: str, stdin: str = "", code: int = 0) -> Said:
        """Run `entrepot WORDS` without a terminal."""
        return self.type(shlex.join(["entrepot", *words]), stdin=stdin, code=code)

    def type(self, line: str, *, stdin: str = "", code: int = 0) -> Said:
        """Run a line as a shell does, without a terminal."""
        done = subprocess.run(
            ["sh", "-c", line],
            input=stdin,
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return Said(done.stdout, done.stderr, done.returncode)

    def talk(
        self, *words: str, answers: dict[str, str] | None = None, code: int = 0, columns: int = 100
    ) -> str:
        """Run it on a terminal; to each prompt, in order, its answer."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.home)
            os.execve(
                ENTREPOT,
                ["entrepot", *words],
                self.environment | _TERMINAL | {"COLUMNS": str(columns)},
            )
        shown, left = "", list((answers or {}).items())
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                found = os.read(terminal, 65_536)
            except OSError:  # the other side is closed
                break
            if not found:
                break
            shown += found.decode()
            if left and left[0][0] in shown:
                os.write(terminal, f"{left.pop(0)[1]}\n".encode())
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == code, shown
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r\n", "\n")
