"""nginx as the byte reference: the same bytes, at the same paths, as plain files."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers.process import Ready, find_program, free_port, running
from bench.servers.server import Server

# Debian's own settings (a worker a core, sendfile, tcp_nopush), but no access log, and connections
# are never closed. It opens the file for each request, as Entrepot asks its database each time; an
# `open_file_cache` would make small files about 1.3 times as fast.
_CONFIGURATION = """\
daemon off;
user {user};
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    default_type application/octet-stream;
    client_body_temp_path {folder}/temp-body;
    proxy_temp_path {folder}/temp-proxy;
    fastcgi_temp_path {folder}/temp-fastcgi;
    uwsgi_temp_path {folder}/temp-uwsgi;
    scgi_temp_path {folder}/temp-scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location ~ /manifests/ {{ default_type application/vnd.oci.image.manifest.v1+json; }}
    }}
}}
"""


class Nginx:
    """nginx serving a folder of files."""

    def __init__(self, folder: Path) -> None:
        """Keep everything of this server in `folder`."""
        self._folder = folder

    def store(self, path: str, content: Path | bytes) -> None:
        """Serve `content` at a URL path; a file is linked, so that it is there only once."""
        target = self._folder / "files" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            target.hardlink_to(content)

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Run the server until the block ends."""
        program = find_program("nginx", "nginx")
        self._folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        file = self._folder / "nginx.conf"
        user = pwd.getpwuid(os.getuid()).pw_name
        file.write_text(_CONFIGURATION.format(folder=self._folder, port=port, user=user))
        command = [program, "-c", str(file), "-e", str(self._folder / "error.log")]
        with running(
            command,
            log=self._folder / "output.log",
            ready=Ready(port, "/", 403),
            environment=os.environ,
        ) as process:
            yield Server("nginx", port, process.pid, lambda _: "")
