"""A command of ours in a process that waits for its first word, so that it can be traced from there.

Everything is imported before the first call that counts.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from entrepot.cli.main import main
from tests.support.forks import forking
from tests.support.strace import Killer, attached

_SECONDS = 60.0


def run_command(
    *words: str,
    environment: Mapping[str, str],
    nth: int | None = None,
    only: str = "",
    watched: tuple[Path, str] | None = None,
) -> str:
    """Run `entrepot WORDS`, killed at the Nth call that counts; what it was killed at.

    With `nth` 0 it lives, and all calls that count are answered; see `kill_at`. `watched` is where
    strace writes, and the calls that it writes.
    """
    log = Path(environment["ENTREPOT_DATA"]) / "command.log"
    here, there = Pipe()
    process = forking().Process(target=_obey, args=(words, dict(environment), log, there))
    process.start()
    there.close()
    assert here.recv() == "ready"
    pid = process.ident
    assert pid is not None
    killer = None if nth is None else Killer(pid, nth, only)
    watching: AbstractContextManager[None] = nullcontext()
    if watched is not None:
        output, calls = watched
        watching = attached(pid, output, "-e", f"trace={calls}")
    with watching:
        here.send("begin")
        is_done = _says_that_it_is_done(here)
    seen = killer.end() if killer and nth == 0 else ""  # while there is a process
    if is_done:
        here.send("end")
    process.join(_SECONDS)
    killed = killer.end() if killer and nth else ""
    here.close()
    assert is_done == (process.exitcode == 0) == (not killed), log.read_text()
    return seen or killed


def _says_that_it_is_done(here: Connection) -> bool:
    try:
        return bool(here.recv() == "done")
    except EOFError:  # it was killed
        return False


def _obey(
    words: tuple[str, ...], environment: dict[str, str], log: Path, there: Connection
) -> None:
    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    there.send("ready")
    there.recv()
    main(list(words), standalone_mode=False)
    there.send("done")
    there.recv()
