"""What must be true of this machine before the server starts, and how to make it so."""

import contextlib
import errno
import fcntl
import os
import resource
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from entrepot.config import Settings
from entrepot.model.errors import SettingsInvalid, StartRefused

# SQLite's WAL needs shared memory and locks that these do not give across machines.
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.glusterfs"}
_LISTEN = "0A"
BACKLOG = 2048


def lock_data_folder(data: Path) -> TextIO:
    """Make this process the one server of `data`, until the answer is closed.

    Raises StartRefused.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data / "serve.lock").open("a+")
    except OSError as error:
        raise StartRefused(f"cannot use the data folder {data}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        raise StartRefused(
            f"the data folder {data} is served by another entrepot (pid {pid}); stop it, or use"
            " another folder: --data DIR"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets that share one address; the kernel spreads connections over them.

    Raises StartRefused.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise StartRefused(f"cannot listen on {host}: {error.strerror}") from error
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                listener = opened.enter_context(_bind(family, address, first=not sockets))
                address = listener.getsockname()  # port 0 is a number by now
                listener.listen(BACKLOG)
                sockets.append(listener)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartRefused(
                    f"port {port} is taken by {_holder(port)}; stop it, or use another: --port N"
                ) from error
            raise StartRefused(f"cannot listen on {host}:{port}: {error.strerror}") from error
        opened.pop_all()
        return sockets


def _bind(family: int, address: Any, *, first: bool) -> socket.socket:  # noqa: ANN401  # as socket's
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # The first asks for the port alone, so that nobody else's is shared by mistake.
        if not first:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.settimeout(0)  # workers wait for it in their event loops
    except OSError:
        listener.close()
        raise
    return listener


def refuse_unsafe_files(settings: Settings) -> None:
    """Keys that everybody can read, databases where locks do not work. Raises SettingsInvalid."""
    keys = [path for path in (settings.tls.key_file, settings.secret_key_file) if path]
    for path in (*keys, settings.tls.cert_file):
        if path and not os.access(path, os.R_OK):
            raise SettingsInvalid(f"cannot read {path}: is it there, and may this user read it?")
    for path in keys:
        # A group may read it: that is how orchestrators hand secrets to a process without root.
        if path.stat().st_mode & stat.S_IRWXO:
            raise SettingsInvalid(f"{path} is open to every user of this machine: chmod 600 {path}")
    database = settings.database.sqlite_file
    if database is not None and (kind := file_system(database)) in _NETWORK_FILE_SYSTEMS:
        raise SettingsInvalid(
            f"{database} is on {kind}: SQLite loses data there; use a local disk, or PostgreSQL"
            " (database.url)"
        )


def refuse_unusable_certificate(settings: Settings) -> None:
    """A key of another certificate, or one with a passphrase. Raises SettingsInvalid."""
    if error := why_unusable(settings.tls.cert_file, settings.tls.key_file):
        raise SettingsInvalid(
            f"{settings.tls.cert_file} and {settings.tls.key_file} cannot be served ({error});"
            " `entrepot admin doctor` says what is wrong with them"
        )


def why_unusable(certificate: Path | None, key: Path | None) -> str:
    """Why the pair cannot be served, or nothing."""
    if certificate is None or key is None:
        return ""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password="")  # else a terminal is asked for one
    except (OSError, ssl.SSLError) as error:
        return str(error)
    return ""


def raise_file_limit() -> None:
    """Every connection and open blob is a file: take as many as we may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that `path` is, or will be, on."""
    kinds = {}
    for line in mounts.read_text("utf-8", "replace").splitlines():
        _, folder, kind, *_ = line.split()
        kinds[folder.replace("\\040", " ")] = kind  # a later mount covers an earlier one
    resolved = path.resolve()
    return next(
        (kinds[str(folder)] for folder in (resolved, *resolved.parents) if str(folder) in kinds), ""
    )


def _holder(port: int) -> str:
    """The process that listens on `port`, as a person would name it."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) in sockets:
                process = descriptor.parent.parent
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # it ended, or is another user's
    return "a process of another user"


def _listening(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]
