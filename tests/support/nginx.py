"""nginx in front of registries, with the file that the documentation tells people to use."""

import os
import pwd
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.programs import need
from tests.support.server import free_port

NODES = Path(__file__).parents[2] / "deploy/nginx/nodes.conf"
_START_SECONDS = 30.0
# What Debian's own nginx.conf has around a site, but in one folder and without a daemon.
_AROUND = """\
daemon off;
user {user};
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
http {{
    log_format asked '$upstream_addr';
    access_log {folder}/access.log asked;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """One that runs, on loopback."""

    port: int
    folder: Path

    def asked(self) -> list[str]:
        """The node that answered each request; with those before it that were away."""
        return (self.folder / "access.log").read_text().splitlines()


@contextmanager
def running_nginx(folder: Path, nodes: Sequence[str]) -> Iterator[Nginx]:
    """Run it before nodes at these addresses, without TLS."""
    program = need("nginx")
    folder.mkdir(parents=True)
    port = free_port()
    (folder / "site.conf").write_text(_site(nodes, port))
    user = pwd.getpwuid(os.getuid()).pw_name
    file = folder / "nginx.conf"
    file.write_text(_AROUND.format(folder=folder, user=user))
    process = subprocess.Popen(
        [program, "-c", file, "-e", folder / "error.log"], stdin=subprocess.DEVNULL
    )
    try:
        _wait_until_ready(process, port, folder)
        yield Nginx(port, folder)
    finally:
        process.terminate()
        process.wait(30)


def _site(nodes: Sequence[str], port: int) -> str:
    """The file with our addresses, and without TLS."""
    text = NODES.read_text()
    theirs = re.findall(r"server (\S+) max_fails", text)
    for its, ours in zip(theirs, nodes, strict=True):
        text = text.replace(f"server {its} ", f"server {ours} ")
    text, count = re.subn(r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};", text)
    assert count == 1
    return re.sub(r"^ *ssl_certificate.*\n", "", text, flags=re.MULTILINE)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/internal/")
            return
        time.sleep(0.02)  # it has no other way to tell
    raise RuntimeError(f"nginx did not start:\n{(folder / 'error.log').read_text()[-3000:]}")
