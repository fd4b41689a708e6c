"""Scrub without a limit: how fast it reads, and what memory a large object takes."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.content import image
from bench.registry import push_image
from bench.row import OURS, Bar, Place, Row, Run
from bench.scale import KIB, MIB
from bench.servers import Entrepot
from bench.servers.process import BenchError
from bench.wire import Connection

_REPOSITORY = "bench/app"
_UNLIMITED = {"SCRUB__BYTES_PER_SECOND": str(1 << 50), "SCRUB__EVERY_DAYS": "1"}
_PIECE = 256 * KIB


@contextmanager
def _rates(place: Place) -> Iterator[Mapping[str, Run]]:
    entrepot = _with_object(place, "entrepot", place.scale.cold)
    (file,) = _large(place.folder / "entrepot")
    yield {
        OURS: lambda: place.scale.cold / 1e6 / _scrub(entrepot)["seconds"],
        "one hash": partial(_hash, file),
    }


@contextmanager
def _growth(place: Place) -> Iterator[Mapping[str, Run]]:
    large = _with_object(place, "large", place.scale.cold)
    small = _with_object(place, "small", MIB)
    yield {OURS: lambda: _scrub(large)["grown"], "of 1 MiB": lambda: _scrub(small)["grown"]}


def _with_object(place: Place, name: str, size: int) -> Entrepot:
    """Return a registry that has one object of this size, and a few small ones."""
    entrepot = Entrepot(place.folder / name, {**place.settings, **_UNLIMITED})
    with (
        entrepot.running() as server,
        Connection(server.port, server.authorize([_REPOSITORY])) as connection,
    ):
        push_image(connection, _REPOSITORY, "v1", image(layers=1, layer_size=KIB))
    entrepot.alone("seed", _REPOSITORY, 1, size, 3600, "link")
    return entrepot


def _large(folder: Path) -> list[Path]:
    files = (folder / "data" / "blobs").glob("??/*")
    return [file for file in files if file.stat().st_size >= MIB]


def _scrub(entrepot: Entrepot) -> dict[str, float]:
    entrepot.alone("unscrub")
    done = entrepot.alone("scrub")
    if done["bad"] or not done["bytes"]:
        raise BenchError(f"scrub found {done}")
    return done


def _hash(path: Path) -> float:
    """Read and hash a file in one loop, in MB/s: nothing that hashes can be faster."""
    buffer = memoryview(bytearray(_PIECE))
    whole, started = hashlib.sha256(), time.perf_counter()
    file = os.open(path, os.O_RDONLY)
    try:
        while count := os.readv(file, [buffer]):
            whole.update(buffer[:count])
        return path.stat().st_size / 1e6 / (time.perf_counter() - started)
    finally:
        os.close(file)


RATE = Row(
    name="scrub",
    title="Scrub of an object of 1 GiB, without a limit",
    unit="MB/s",
    bars=(Bar(0.8, "one hash"),),
    prepare=_rates,
)
MEMORY = Row(
    name="scrub-memory",
    title="The same, growth of memory",
    unit="MB",
    bars=(Bar(8, "of 1 MiB", at_least=False, is_difference=True),),
    prepare=_growth,
    worst_counts=True,
    most_runs=3,
)
