"""Durable blob PUT: one layer of 1 GiB, from POST to the 201 after which nothing may be lost."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.content import Material
from bench.registry import push_blob
from bench.row import Bar, Place, Row, Run
from bench.servers import Distribution, Entrepot
from bench.servers.server import Server
from bench.wire import Connection

_REPOSITORY = "bench/app"


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        material = stack.enter_context(Material(place.folder / "material", place.scale.upload))
        entrepot = Entrepot(place.folder / "entrepot", place.settings)
        ours = stack.enter_context(entrepot.running())
        theirs = stack.enter_context(Distribution(place.folder / "distribution").running())
        warm_up = stack.enter_context(Material(place.folder / "warm-up", place.scale.upload // 16))
        for server in (ours, theirs):
            _push(server, warm_up)
        yield {
            "entrepot": partial(_push, ours, material),
            "distribution": partial(_push, theirs, material),
            "one process": partial(_write, material, place),
        }


def _push(server: Server, material: Material) -> float:
    blob = material.fresh()
    os.sync()  # what the run before left unwritten is not this run's to write
    with Connection(server.port, server.authorize([_REPOSITORY])) as connection:
        started = time.perf_counter()
        push_blob(connection, _REPOSITORY, blob)
        return blob.size / 1e6 / (time.perf_counter() - started)


def _write(material: Material, place: Place) -> float:
    """Return what a process does that has the bytes already: hash, write, fdatasync."""
    os.sync()
    target = place.folder / "written"
    command = [sys.executable, "-m", "bench.reference", str(material.path), str(target)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    target.unlink()
    return float(output)


ROW = Row(
    name="upload",
    title="Durable blob PUT 1 GiB",
    unit="MB/s",
    bars=(Bar(1.5, "distribution"), Bar(0.7, "one process", dream=0.8)),
    prepare=_prepare,
)
