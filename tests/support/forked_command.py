"""A command of ours, run to its end in a fork of a process that has imported everything."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrepot.cli.main import main
from tests.support.forks import forking

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """Its exit code, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run_forked(*words: str, environment: Mapping[str, str]) -> Done:
    """Run `entrepot WORDS` with these variables beside our own."""
    with tempfile.TemporaryDirectory() as folder:
        said, complained = Path(folder) / "stdout", Path(folder) / "stderr"
        process = forking().Process(
            target=_obey, args=(words, {**os.environ, **environment}, said, complained)
        )
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        done = Done(process.exitcode or 0, said.read_text(), complained.read_text())
        assert done.returncode >= 0, f"{words} had to be killed: {done}"
        return done


def _obey(
    words: tuple[str, ...], environment: dict[str, str], said: Path, complained: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in enumerate((said, complained), start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
    main(list(words), prog_name="entrepot")
