"""Uploads to an object store: as fast as it takes bytes, and finished in no time."""

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bench.content import Material, generated
from bench.nodes import Nodes, running_nodes
from bench.registry import finish_upload, location, push_blob, start_upload
from bench.row import Bar, Place, Row, Run
from bench.scale import MIB
from bench.wire import Connection

_REPOSITORY = "bench/app"
_COMMITS = 20
_PATCHES = 20


@contextmanager
def _prepare_push(place: Place) -> Iterator[Mapping[str, Run]]:
    with (
        Material(place.folder / "material", place.scale.upload) as material,
        Material(place.folder / "warm-up", place.scale.upload // 16) as warm_up,
        running_nodes(place, {}) as nodes,
    ):
        _push(nodes, warm_up)
        yield {
            "entrepot": partial(_push, nodes, material),
            "obstore": partial(_write, nodes, material),
        }


def _connect(nodes: Nodes) -> Connection:
    return Connection(nodes.servers[0].port, nodes.authorization)


def _push(nodes: Nodes, material: Material) -> float:
    blob = material.fresh()
    os.sync()  # what the run before left unwritten is not this run's to write
    before = set(nodes.bucket.objects())
    with _connect(nodes) as connection:
        started = time.perf_counter()
        push_blob(connection, _REPOSITORY, blob)
        rate = blob.size / 1e6 / (time.perf_counter() - started)
    _drop_since(nodes, before)
    return rate


def _write(nodes: Nodes, material: Material) -> float:
    """Return the rate of a process that has nothing else to do with the bytes."""
    os.sync()
    command = [sys.executable, "-m", "bench.reference_objects"]
    return float(
        subprocess.run(
            [*command, str(material.path), nodes.bucket.name],
            env={**os.environ, **nodes.bucket.settings()},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


def _drop_since(nodes: Nodes, before: set[str]) -> None:
    """Give the room of what has come since back to the disk."""
    client = nodes.bucket.client()
    for key in set(nodes.bucket.objects()) - before:
        client.delete_object(Bucket=nodes.bucket.name, Key=key)


@contextmanager
def _prepare_commit(place: Place) -> Iterator[Mapping[str, Run]]:
    with running_nodes(place, {}) as nodes:
        _commit_milliseconds(nodes, MIB)
        yield {
            "entrepot": partial(_commit_milliseconds, nodes, place.scale.largest),
            "1 MiB": partial(_median_commit, nodes),
        }


def _median_commit(nodes: Nodes) -> float:
    return statistics.median(_commit_milliseconds(nodes, MIB) for _ in range(_COMMITS))


def _commit_milliseconds(nodes: Nodes, size: int) -> float:
    """Return the time of the PUT that finishes an upload of one PATCH."""
    before = set(nodes.bucket.objects())
    with _connect(nodes) as connection:
        target, digest = _sent(connection, size)
        os.sync()  # the store shares a disk with the database here: its writes are not the commit's
        # Nothing was committed while 10 GiB arrived; the first one after a pause takes longer.
        finish_upload(connection, *_sent(connection, MIB))
        started = time.perf_counter()
        finish_upload(connection, target, digest)
        seconds = time.perf_counter() - started
    _drop_since(nodes, before)
    return seconds * 1_000


def _sent(connection: Connection, size: int) -> tuple[str, str]:
    """Upload without an end; where it goes on, and its digest."""
    digest = hashlib.sha256()
    target = start_upload(connection, _REPOSITORY)
    pieces = generated(size, digest.update)
    target = location(connection.send_stream(target, pieces, size, expect=202))
    return target, f"sha256:{digest.hexdigest()}"


@contextmanager
def _prepare_patches(place: Place) -> Iterator[Mapping[str, Run]]:
    with running_nodes(place, {}) as nodes, _connect(nodes) as connection:
        long = _Upload(connection)
        place.say(f"sending {place.scale.parts} parts")
        for _ in range(place.scale.parts):
            long.patch()

        def few_before() -> float:
            upload = _Upload(connection)
            upload.patch()  # the first one makes what the others find
            return upload.milliseconds()

        yield {"entrepot": long.milliseconds, "few before": few_before}


class _Upload:
    """An upload that grows by parts of 1 MiB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._target = start_upload(connection, _REPOSITORY)
        self._part = os.urandom(MIB)

    def patch(self) -> float:
        """Send one more; return the seconds that took."""
        started = time.perf_counter()
        answer = self._connection.request(
            "PATCH",
            self._target,
            self._part,
            content_type="application/octet-stream",
            expect=202,
        )
        self._target = location(answer)
        return time.perf_counter() - started

    def milliseconds(self) -> float:
        """Send some more; return the median."""
        return statistics.median(self.patch() for _ in range(_PATCHES)) * 1_000


PUSH = Row(
    name="objects-push",
    title="Blob PUT 1 GiB to an object store",
    unit="MB/s",
    bars=(Bar(0.7, "obstore"),),
    prepare=_prepare_push,
)
COMMIT = Row(
    name="objects-commit",
    title="The PUT that ends an upload of 10 GiB to an object store",
    unit="ms",
    bars=(Bar(1.5, "1 MiB", at_least=False),),
    prepare=_prepare_commit,
    most_runs=3,
)
PATCHES = Row(
    name="objects-patches",
    title="A PATCH of 1 MiB to an object store, 1,000 came before",
    unit="ms",
    bars=(Bar(1.2, "few before", at_least=False),),
    prepare=_prepare_patches,
)
