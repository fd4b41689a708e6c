"""PostgreSQL (Debian's) with its own defaults, for nodes that share a database."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers.process import BenchError, free_port

_USER = "entrepot"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server until the block ends; give the URL of an empty database.

    It refuses to run as root, and the account that it then gets may not enter every folder: its
    files are among the temporary ones.
    """
    with tempfile.TemporaryDirectory(prefix="entrepot-bench-") as folder:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        data, port = f"{folder}/data", free_port()
        _run("initdb", "-A", "trust", "-U", _USER, "-E", "UTF8", "-D", data)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        _run("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            _run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop")


def _run(program: str, *arguments: str) -> None:
    command = [str(_find(program)), *arguments]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"{command}: {done.stdout}{done.stderr}")


def _find(program: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if not found:
        raise BenchError(
            "PostgreSQL is not installed: apt-get install --no-install-recommends postgresql"
        )
    return found[-1]
