"""The parent of the workers: starts them, replaces them, and ends with them.

Granian does the serving and most of the supervising. Ours differs in four ways, each a method
below: listening sockets outlive their workers, a replaced worker may finish its transfers, a second
Ctrl-C ends at once, and a changed certificate is taken without a restart.
"""

# mypy: allow-untyped-calls
# Granian ships types, but not for its servers' methods.

import ctypes
import importlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes, SSLProtocols
from granian.http import HTTP2Settings
from granian.log import LogLevels
from granian.net import SocketHolder  # type: ignore[attr-defined]  # its home in granian
from granian.server.mp import MPServer, WorkerProcess

from entrepot.cli.preflight import BACKLOG, why_unusable
from entrepot.config import Settings, load
from entrepot.telemetry import logs
from entrepot.web.requests import Asgi

log = structlog.get_logger()

_CONNECTIONS_PER_WORKER = 8192  # idle ones count: granian stops accepting beyond this
_REPLACE_SECONDS = 2.0  # a new worker has this long to start before the old one stops accepting
_DRAIN_SECONDS = 6 * 3600  # a transfer that a replaced worker still serves may take this long
_CERTIFICATE_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1


class Supervisor(MPServer):
    """Runs `app`'s `serve_worker` in each worker until a signal says stop."""

    def __init__(self, settings: Settings, app: str, listeners: list[socket.socket]) -> None:
        # Spawned, not forked: workers begin clean, whatever threads the parent has by then.
        multiprocessing.set_start_method("spawn", force=True)
        super().__init__(
            app,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            loop=Loops.uvloop,
            # Two Rust threads per worker. Measured on two cores, five alternating runs: 1.3x on
            # four file downloads at once, the same on one and on small GETs.
            runtime_mode=RuntimeModes.mt,
            runtime_threads=2,
            backlog=BACKLOG,
            backpressure=_CONNECTIONS_PER_WORKER,
            http=HTTPModes.auto,
            # HTTP/1's max_buffer_size stays as it is, though it also bounds the headers (`web`
            # does that): at 32 KiB bodies come in 32 KiB pieces, and pushes at a quarter the rate.
            http2_settings=HTTP2Settings(max_headers_size=settings.limits.header_bytes),
            websockets=False,
            log_level=LogLevels.warning,
            log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}}},
            ssl_cert=settings.tls.cert_file,
            ssl_key=settings.tls.key_file,
            ssl_protocol_min=SSLProtocols.tls12,
            respawn_failed_workers=True,
            respawn_interval=_REPLACE_SECONDS,
            workers_kill_timeout=settings.shutdown_seconds,
        )
        self._tls = settings.tls
        self._listeners = listeners
        self._draining: list[WorkerProcess] = []

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        if self._tls.cert_file is not None:
            threading.Thread(target=self._watch_certificate, daemon=True).start()
        self.serve(target_loader=_start_worker)

    # Each worker has a socket of its own on the port, and leaves it to its successor. Granian's
    # workers open and close theirs, which reset 13 of 45,000 connections in two reloads; one
    # socket for all gave 13 of 16 long-lived connections to the same one of four workers.
    def _init_shared_socket(self) -> None:
        self._ssp = None

    def _spawn_worker(  # type: ignore[override]  # as MPServer's, which differs from its parent's
        self, idx: int, target: object, callback_loader: object
    ) -> WorkerProcess:
        listener = self._listeners[idx]
        is_unix = False
        # Its type stub does not know the constructor.
        holder = SocketHolder(listener.fileno(), is_unix, BACKLOG)  # type: ignore[call-arg]
        self._shd = holder  # type: ignore[assignment]  # inferred from its first value, None
        self._sso = listener  # makes multiprocessing hand the descriptor over
        return super()._spawn_worker(idx, target, callback_loader)

    def _drop_shared_socket(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _respawn_workers(
        self, workers: list[int], spawn_target: object, target_loader: object, delay: float = 0
    ) -> None:
        for index in workers:
            old = self.wrks[index]
            if not old.is_alive():
                log.error("worker.crashed", pid=old.inner.pid, exit_code=old.inner.exitcode)
                self.respawned_wrks[index] = time.monotonic()  # twice in a row is a crash loop
            new = self._spawn_worker(index, spawn_target, target_loader)
            new.start()
            self.wrks[index] = new
            log.info("worker.started", pid=new.inner.pid)
            if old.is_alive():
                self.main_loop_interrupt.wait(delay)
                old.terminate()  # stops accepting, finishes what it has
                self._draining.append(old)
                threading.Thread(target=self._drain, args=(old,), daemon=True).start()

    def _drain(self, worker: WorkerProcess) -> None:
        worker.join(_DRAIN_SECONDS)
        if worker.is_alive():
            worker.kill()
        self._draining.remove(worker)

    def _stop_workers(self) -> None:
        self.wrks.extend(self._draining)
        super()._stop_workers()

    def signal_handler_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.interrupt_signal and signum == signal.SIGINT:
            for worker in (*self.wrks, *self._draining):
                worker.kill()
            os._exit(128 + signum)
        super().signal_handler_interrupt(signum, frame)

    def _reload(self, spawn_target: object, target_loader: object) -> None:
        if error := why_unusable(self._tls.cert_file, self._tls.key_file):
            log.error("certificate.refused", error=error)
            self.reload_signal = False
            self.main_loop_interrupt.clear()
            return
        log.info("workers.replaced")
        super()._reload(spawn_target, target_loader)

    def _watch_certificate(self) -> None:
        seen = self._certificate_version()
        while True:
            time.sleep(_CERTIFICATE_SECONDS)
            now = self._certificate_version()
            if now != seen:
                seen = now
                log.info("certificate.changed")
                self.signal_handler_reload()

    def _certificate_version(self) -> list[tuple[int, int, int]]:
        version = []
        for path in (self._tls.cert_file, self._tls.key_file):
            try:
                status = path.stat() if path else None
            except OSError:
                continue  # being replaced
            if status:
                version.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return version


def _start_worker(app: str) -> Asgi:
    """What runs first in a new worker; the ASGI app that it will serve."""
    _end_with_parent()
    settings = load()
    logs.configure(settings.log.level, settings.log.format)
    serve_worker: Callable[[], Asgi] = importlib.import_module(app).serve_worker
    return serve_worker()


def _end_with_parent() -> None:
    # Ctrl-C in a terminal goes to the whole group; only the parent should act on it.
    os.setpgid(0, 0)
    # A parent that was killed must not leave workers behind that hold the port and the data.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is None or os.getppid() != parent.pid:
        os._exit(1)
