"""A Docker engine of our own: all its files in one folder, its socket there, gone afterwards."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.programs import Program, find, need_mounts

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_HOST_CLIENT = Path("/usr/bin/docker")  # Debian's, whatever else is on PATH


@contextmanager
def running_engine(
    suite: Path | None = None,
    *,
    within: tuple[str, ...] = (),
    settings: Mapping[str, object] | None = None,
) -> Iterator[Program]:
    """A `docker` client of its own engine: the host's, or one unpacked by debian_suite.

    An unpacked one keeps its images in containerd, as a new installation does.
    127.0.0.0/8 may be plain HTTP; builds need --network=host, since there is no bridge.
    `within` are the words that start it, if it needs any: a program that becomes what follows.
    `settings` are for its daemon.json.
    """
    need_mounts("the Docker engine mounts what it unpacks")
    # A short path: a socket's name has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="entrepot-docker-"))
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if suite:
        path = f"{suite}/usr/sbin:{suite}/usr/bin:{path}"
    settings = dict(settings or {})
    if suite:
        settings["features"] = {"containerd-snapshotter": True}
    (folder / "daemon.json").write_text(json.dumps(settings))
    process = _start(folder, path, within)
    try:
        _wait_until_ready(process, folder)
        yield _client(folder, path, suite)
    finally:
        _stop(process)
        _remove(folder)


def _start(folder: Path, path: str, within: tuple[str, ...]) -> subprocess.Popen[bytes]:
    daemon = find("dockerd", *map(Path, path.split(":")))
    if daemon is None:
        pytest.skip("needs dockerd: apt-get install docker.io iptables runc")
    command = {
        "--config-file": folder / "daemon.json",
        "--data-root": folder / "root",
        "--exec-root": folder / "exec",
        "--pidfile": folder / "pid",
        "--host": f"unix://{folder}/socket",
        "--insecure-registry": "127.0.0.0/8",
        "--iptables": "false",
        "--ip6tables": "false",
        "--bridge": "none",
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*within, daemon, *(f"{key}={value}" for key, value in command.items())],
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            if _ping(folder / "socket"):
                return
        time.sleep(0.1)  # it has no other way to tell
    log = (folder / "log").read_text(errors="replace")
    raise RuntimeError(f"the Docker engine did not start:\n{log[-3000:]}")


def _ping(address: Path) -> bool:
    connection = http.client.HTTPConnection("docker", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(5)
        connection.sock.connect(str(address))
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()


def _client(folder: Path, path: str, suite: Path | None) -> Program:
    client = suite / "usr/bin/docker" if suite else _HOST_CLIENT
    if not client.exists():
        client = find("docker") or client
    plugins = folder / "client/cli-plugins"
    plugins.mkdir(parents=True)
    if suite:
        for plugin in suite.rglob("cli-plugins/docker-buildx"):
            (plugins / plugin.name).symlink_to(plugin)
    return Program(
        (str(client),),
        {
            "DOCKER_HOST": f"unix://{folder}/socket",
            "DOCKER_CONFIG": str(folder / "client"),
            "PATH": path,
        },
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the engine, and with it the containerd that it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):  # whatever is left of the session that it leads
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_SECONDS)


def _remove(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
