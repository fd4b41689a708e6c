"""Collection: how fast it is on a disk, and what those who pull notice of it."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.content import image
from bench.registry import push_image
from bench.row import OURS, Bar, Place, Row, Run
from bench.scale import KIB
from bench.servers import Entrepot
from bench.servers.postgres import running_postgres
from bench.servers.process import BenchError
from bench.servers.server import Server
from bench.wire import Connection
from bench.wrk import p99_milliseconds

_REPOSITORY = "bench/app"
_PATH = f"/v2/{_REPOSITORY}/manifests/v1"
_CONNECTIONS = 16
_WARM_UP_SECONDS = 1
_BLOCK = 4096
_PAUSE_SECONDS = 0.2
_AT_ONCE = {"COLLECTION__DELAY_SECONDS": "0", "COLLECTION__EVERY_SECONDS": "1"}


@contextmanager
def _rates(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        ours = Entrepot(place.folder / "entrepot", {**place.settings, **_AT_ONCE})
        url = stack.enter_context(running_postgres())
        settings = {**place.settings, **_AT_ONCE, "DATABASE__URL": url}
        theirs = Entrepot(place.folder / "on-postgres", settings)
        for entrepot in (ours, theirs):
            with entrepot.running() as server:
                _push(server)
        yield {
            OURS: partial(_blobs_per_second, ours, place.scale.unused),
            "on PostgreSQL": partial(_blobs_per_second, theirs, place.scale.unused),
            "fdatasync": partial(_syncs_per_second, place.folder / "syncs", place.scale.seconds),
        }


def _push(server: Server) -> None:
    with Connection(server.port, server.authorize([_REPOSITORY])) as connection:
        push_image(connection, _REPOSITORY, "v1", image(layers=10, layer_size=KIB))


def _blobs_per_second(entrepot: Entrepot, count: int) -> float:
    entrepot.alone("seed", _REPOSITORY, count, KIB, 0, "link")
    done = entrepot.alone("collect")
    if done["objects"] != count:
        raise BenchError(f"{count} blobs were to be collected: {done}")
    return count / done["seconds"]


def _syncs_per_second(path: Path, seconds: float) -> float:
    """Append and fdatasync small blocks: what any program that makes each change durable can do."""
    block = os.urandom(_BLOCK)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        count, started = 0, time.perf_counter()
        while time.perf_counter() < started + seconds:
            os.write(file, block)
            os.fdatasync(file)
            count += 1
        return count / (time.perf_counter() - started)
    finally:
        os.close(file)


@contextmanager
def _pulls(place: Place) -> Iterator[Mapping[str, Run]]:
    entrepot = Entrepot(place.folder / "entrepot", {**place.settings, **_AT_ONCE})
    with entrepot.running() as server:
        _push(server)
        _p99(server, _WARM_UP_SECONDS)

        def idle() -> float:
            while entrepot.alone("waiting")["count"]:
                time.sleep(_PAUSE_SECONDS)
            return _p99(server, place.scale.seconds)

        def busy() -> float:
            count = place.scale.unused_for_long
            entrepot.alone("seed", _REPOSITORY, count, KIB, 3600, "link", "blob", "object")
            entrepot.alone("hurry")
            while not 0 < entrepot.alone("waiting")["count"] < count:
                time.sleep(_PAUSE_SECONDS)
            measured = _p99(server, place.scale.seconds)
            if not entrepot.alone("waiting")["count"]:
                raise BenchError(f"{count} blobs were collected before the end of the run")
            return measured

        yield {OURS: busy, "idle": idle}


def _p99(server: Server, seconds: float) -> float:
    return p99_milliseconds(
        f"http://localhost:{server.port}{_PATH}",
        server.authorize([_REPOSITORY]),
        connections=_CONNECTIONS,
        seconds=seconds,
    )


RATE = Row(
    name="collect",
    title="Collection of blobs of 1 KiB",
    unit="blobs/s",
    bars=(Bar(500),),
    prepare=_rates,
)
PULLS = Row(
    name="collect-pulls",
    title="Manifest GET while blobs are collected, p99, 16 connections",
    unit="ms",
    bars=(Bar(1.2, "idle", at_least=False),),
    prepare=_pulls,
)
