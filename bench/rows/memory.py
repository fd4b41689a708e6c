"""Memory while 20 clients upload 1 GiB each: what the server needs above what it has when idle."""

import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from bench.content import Blob, Material
from bench.memory import look, watching
from bench.registry import push_blob
from bench.row import Bar, Place, Row, Run
from bench.servers import Entrepot
from bench.servers.server import Server
from bench.wire import Connection

_BASE = 64
_EACH = 8
_UPLOADS = 20
_SETTLE_SECONDS = 2
_SAMPLE_SECONDS = 0.1


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    with Material(place.folder / "material", place.scale.upload) as material:
        yield {"entrepot": partial(_megabytes, place, material)}


def _megabytes(place: Place, material: Material) -> float:
    """Return the peak above idle of a server just started, in MB."""
    folder = place.folder / "entrepot"
    try:
        with Entrepot(folder, place.settings).running() as server:
            time.sleep(_SETTLE_SECONDS)
            idle, _ = look(server.pid)
            blobs = [material.fresh() for _ in range(place.scale.uploads_at_once)]
            with (
                watching(server.pid, _SAMPLE_SECONDS) as curve,
                ThreadPoolExecutor(len(blobs)) as pool,
            ):
                list(pool.map(partial(_push, server), range(len(blobs)), blobs))
            return (curve.peak - idle) / 1e6
    finally:
        shutil.rmtree(folder / "data", ignore_errors=True)  # 20 GiB that the next run needs


def _push(server: Server, number: int, blob: Blob) -> None:
    repository = f"bench/app-{number}"
    with Connection(server.port, server.authorize([repository])) as connection:
        push_blob(connection, repository, blob)


ROW = Row(
    name="memory",
    title="20 uploads of 1 GiB at once, memory above idle",
    unit="MB",
    bars=(Bar(_BASE + _EACH * _UPLOADS, at_least=False),),
    prepare=_prepare,
    worst_counts=True,
    most_runs=3,
)
