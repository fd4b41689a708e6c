"""Debian's PgBouncer in front of a server of a test."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support.programs import need
from tests.support.server import free_port

_START_SECONDS = 30.0
_SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = entrepot
pool_mode = transaction
default_pool_size = {size}
server_round_robin = 1
"""


@contextmanager
def running_pgbouncer(url: str, folder: Path, *, size: int = 2) -> Iterator[str]:
    """The address of a database through a pooler that keeps `size` connections to it.

    Transactions take turns on them, so that two of one client seldom meet the same server process.
    Skips without PgBouncer.
    """
    program = need("pgbouncer")
    port = free_port()
    parts = urlsplit(url)
    (folder / "users").write_text('"entrepot" ""\n')
    settings = folder / "pgbouncer.ini"
    settings.write_text(_SETTINGS.format(server=parts.port, port=port, size=size, folder=folder))
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    with (folder / "pgbouncer.log").open("ab") as log:
        process = subprocess.Popen(
            [program, *as_nobody, str(settings)], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        _wait_until_it_answers(process, port)
        yield parts._replace(netloc=f"entrepot@127.0.0.1:{port}").geturl()
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=entrepot dbname=pgbouncer").close()
        except psycopg.OperationalError:
            time.sleep(0.05)  # it has no other way to tell
        else:
            return
    raise RuntimeError("pgbouncer did not start")
