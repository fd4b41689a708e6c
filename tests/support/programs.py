"""Other people's programs as a person would run them: output kept, shown when they fail."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_SECONDS = 240.0


def find(name: str, *folders: Path) -> Path | None:
    """Where a program is: in these folders, else on PATH."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def need(name: str, package: str = "") -> Path:
    """A program that `make test` installs; skips, which is not allowed there, where it is missing."""
    found = find(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {package or name}")
    return found


def need_mounts(why: str) -> None:
    """Skip where file systems cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {why}")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs CAP_SYS_ADMIN: {why}")


@dataclass(frozen=True, slots=True)
class Program:
    """A program with the words and the environment that each of its calls needs."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def with_words(self, *words: str) -> "Program":
        """The same with more words in front."""
        return Program((*self.words, *words), self.environment)

    def __call__(self, *words: object, text: str | None = None, folder: Path | None = None) -> str:
        """Run it; what it printed on both outputs. Fails the test when it fails."""
        done = self.try_run(*words, text=text, folder=folder)
        assert done.returncode == 0, f"{done.args}\n{done.stdout}"
        return done.stdout

    def refused(self, *words: object, text: str | None = None) -> str:
        """Run it and expect it to fail; what it printed."""
        done = self.try_run(*words, text=text)
        assert done.returncode != 0, f"{done.args} did not fail\n{done.stdout}"
        return done.stdout

    def output(self, *words: object) -> str:
        """Run it; standard output alone."""
        done = self._run(words, None, None, subprocess.PIPE)
        assert done.returncode == 0, f"{done.args}\n{done.stdout}{done.stderr}"
        return done.stdout

    def try_run(
        self, *words: object, text: str | None = None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it, however it ends."""
        return self._run(words, text, folder, subprocess.STDOUT)

    def _run(
        self, words: tuple[object, ...], text: str | None, folder: Path | None, stderr: int
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.words, *map(str, words)],
            env={**os.environ, **self.environment},
            input=text or "",
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=_SECONDS,
            check=False,
            cwd=folder,
        )
