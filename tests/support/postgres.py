"""A PostgreSQL server of our own for tests."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class Cluster:
    """A server with its data, at one port for as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self.port = _free_port()

    @property
    def url(self) -> str:
        """Its maintenance database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/postgres"

    @property
    def process(self) -> int:
        """The server's first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def create(self) -> None:
        """Make its data, with nothing in it."""
        initdb = program("initdb")
        _run(initdb, "-A", "trust", "-U", _USER, "-E", "UTF8", *_LOCALE, "-D", str(self._data))

    def copy(self, stopped: "Cluster") -> None:
        """Make its data what that server has, which does not run."""
        _run("cp", "-a", str(stopped._data), str(self._data))

    def follow(self, primary: "Cluster") -> None:
        """Make its data what that server has, and follow it."""
        source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", _USER)
        copying = ("-D", str(self._data), "-R", "-X", "stream", "-c", "fast")
        _run(program("pg_basebackup"), *source, *copying)

    def set(self, name: str, value: str) -> None:
        """Have a setting from its next start on, until ALTER SYSTEM changes it."""
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"{name} = '{value}'\n")

    def start(self) -> None:
        """Run, and wait until it takes connections."""
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 {_OPTIONS}"
        self._control("-o", options, "-l", str(self._folder / "log"), "-t", "60", "start")

    def stop(self, how: str = "fast") -> None:
        """Stop; `immediate` is a crash."""
        self._control("-m", how, "stop")

    def promote(self) -> None:
        """Be a primary from now on."""
        self._control("promote")

    def _control(self, *words: str) -> None:
        _run(program("pg_ctl"), "-D", str(self._data), "-w", *words)


@contextmanager
def new_cluster() -> Iterator[Cluster]:
    """A server that has neither data nor run; whatever it is then is gone afterwards."""
    program("initdb")
    folder = Path(tempfile.mkdtemp(prefix="entrepot-postgres-"))
    _own(folder)
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        with suppress(RuntimeError):  # it does not run
            cluster.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server on a free port; the URL of its maintenance database. Skips without one."""
    with new_cluster() as cluster:
        cluster.create()
        cluster.start()
        yield cluster.url


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


def program(name: str) -> str:
    """Where one of PostgreSQL's programs is. Skips without it."""
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
