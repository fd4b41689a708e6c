"""A PostgreSQL server of our own for tests."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

_USER = "entrepot"
# Not the order of bytes, so that a key without COLLATE "C" shows.
_LOCALE = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
# No fsync: tests kill processes and never the machine, and every database of a test would pay.
_OPTIONS = "-c max_connections=200 -c deadlock_timeout=50ms -c fsync=off"


# For tests through HTTP, which on PostgreSQL are left to `make test`: what differs between the two
# databases is in `db`, and its tests and those of the services are quick on both.
DATABASES = ("sqlite", pytest.param("postgres", marks=pytest.mark.slow))


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server on a free port; the URL of its maintenance database. Skips without one."""
    initdb = _program("initdb")
    pg_ctl = _program("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="entrepot-postgres-"))
    data = folder / "data"
    port = _free_port()
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 {_OPTIONS}"
    try:
        _own(folder)
        _run(initdb, "-A", "trust", "-U", _USER, "-E", "UTF8", *_LOCALE, "-D", str(data))
        log = str(folder / "log")
        _run(pg_ctl, "-D", str(data), "-o", options, "-l", log, "-t", "60", "-w", "start")
        try:
            yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
        finally:
            _run(pg_ctl, "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(server: str, *, template: str = "template0") -> Iterator[str]:
    """A database of its own, copied from `template`, gone afterwards; its URL."""
    name = f"test_{os.urandom(6).hex()}"
    words = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**words))
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**words))


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(places[-1]) if places else None
    if found is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    return found


def _run(*command: str) -> None:
    prefix = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    done = subprocess.run(
        [*prefix, *command], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout.decode()}{done.stderr.decode()}")


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
