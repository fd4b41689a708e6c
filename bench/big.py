"""`python -m bench.big`: a 50 GB artifact pushed and pulled while the server's memory is watched.

The layers are made while they are sent and checked while they arrive, so that the client needs
neither disk nor memory. It takes a quarter of an hour or more.
"""

import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from bench.__main__ import RESULTS, WORK
from bench.content import CONFIG_TYPE, LAYER_TYPE, Entry, generated, manifest
from bench.machine import facts
from bench.memory import Curve, watching
from bench.plot import plot_memory
from bench.registry import finish_upload, location, push_bytes, push_manifest, start_upload
from bench.report import save
from bench.servers import Entrepot
from bench.servers.server import Server
from bench.wire import Connection

Piece = TypeVar("Piece", bytes, bytes | memoryview)

_REPOSITORY = "bench/big"
_EVERY_SECONDS = 1
_SETTLE_SECONDS = 3
_GB = 10**9
_WHOLE = 50.0
_SPARE = 4 * _GB
"""Disk that stays free: below its low-water mark a server rightly refuses pushes."""


@dataclass(slots=True)
class Layer:
    """A generated layer and how its two journeys went."""

    size: int
    digest: str = ""
    push: tuple[float, float] = (0, 0)
    """Start and end, in seconds of the curve."""
    pull: tuple[float, float] = (0, 0)
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Journey:
    """One artifact on its way to the server and back."""

    server: Server
    progress: Progress
    started: float

    def push(self, layer: Layer) -> None:
        """POST, one PATCH with all bytes, PUT with the digest that was computed on the way."""
        begin = self._now()
        digest = hashlib.sha256()
        with self._connection() as connection:
            target = start_upload(connection, _REPOSITORY)
            pieces = self._counted(generated(layer.size, digest.update), "push", layer)
            answer = connection.send_stream(target, pieces, layer.size, expect=202)
            layer.digest = f"sha256:{digest.hexdigest()}"
            finish_upload(connection, location(answer), layer.digest)
        layer.push = (begin, self._now())

    def pull(self, layer: Layer) -> None:
        """GET the layer and compare what arrived with its digest."""
        begin = self._now()
        digest = hashlib.sha256()
        with self._connection() as connection:
            arriving = connection.stream(f"/v2/{_REPOSITORY}/blobs/{layer.digest}")
            for piece in self._counted(arriving, "pull", layer):
                digest.update(piece)
        layer.verified = layer.digest == f"sha256:{digest.hexdigest()}"
        layer.pull = (begin, self._now())

    def push_manifest(self, layers: Sequence[Layer]) -> None:
        """Push a small configuration, then the manifest that makes the layers one artifact."""
        config = b"{}"
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        entries: list[Entry] = [
            {"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}
            for layer in layers
        ]
        content = manifest({"mediaType": CONFIG_TYPE, "digest": digest, "size": 2}, entries)
        with self._connection() as connection:
            push_bytes(connection, _REPOSITORY, digest, config)
            push_manifest(connection, _REPOSITORY, "v1", content)

    def _connection(self) -> Connection:
        return Connection(self.server.port, self.server.authorize([_REPOSITORY]))

    def _now(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def _counted(self, pieces: Iterable[Piece], verb: str, layer: Layer) -> Iterator[Piece]:
        task = self.progress.add_task(f"{verb} {layer.size / _GB:g} GB", total=layer.size)
        for piece in pieces:
            yield piece
            self.progress.advance(task, len(piece))


@click.command()
@click.option("--size", default=_WHOLE, show_default=True, help="Of the artifact, in GB (10^9).")
@click.option("--layer", default=12.0, show_default=True, help="Of its layers, in GB.")
def main(size: float, layer: float) -> None:
    """Push and pull one artifact of --size GB; write bench/results/big.json and big.svg.

    Where the disk is too short for the whole, each layer is pushed, pulled, verified and then
    emptied on the disk before the next one comes.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    WORK.mkdir(exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    layers = [Layer(bytes_) for bytes_ in _split(int(size * _GB), int(layer * _GB))]
    one_by_one = _must_go_one_by_one(layers)
    machine = facts(WORK)
    folder = Path(tempfile.mkdtemp(prefix="big-", dir=WORK))
    console = Console()
    try:
        curve = _travel(layers, folder, console, one_by_one=one_by_one)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome = _outcome(layers, curve, machine, one_by_one=one_by_one)
    is_whole = size >= _WHOLE
    target = (RESULTS if is_whole else WORK) / "big"
    save(outcome, target.with_suffix(".json"))
    plot_memory(curve, _spans(layers), target.with_suffix(".svg"))
    console.print(
        f"{size:g} GB in {len(layers)} layers: idle {outcome['idle_bytes'] / 1e6:.0f} MB, "
        f"peak {outcome['peak_bytes'] / 1e6:.0f} MB, verified: {outcome['verified']}. "
        f"Written: {target}.json and {target}.svg"
    )
    if not outcome["verified"]:
        raise click.ClickException("a layer came back with another digest")


def _split(size: int, most: int) -> list[int]:
    whole, rest = divmod(size, most)
    return [most] * whole + ([rest] if rest else [])


def _must_go_one_by_one(layers: Sequence[Layer]) -> bool:
    free = shutil.disk_usage(WORK).free - _SPARE
    sizes = [layer.size for layer in layers]
    if max(sizes) > free:
        raise click.ClickException(
            f"{WORK} has {free / _GB:.0f} GB to spare, a layer is {max(sizes) / _GB:g} GB"
        )
    return sum(sizes) > free


def _travel(layers: Sequence[Layer], folder: Path, console: Console, *, one_by_one: bool) -> Curve:
    """Push and pull every layer, and return the memory over that time."""
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Entrepot(folder, {}).running() as server, Progress(*columns, console=console) as progress:
        time.sleep(_SETTLE_SECONDS)
        with watching(server.pid, _EVERY_SECONDS) as curve:
            journey = Journey(server, progress, time.monotonic())
            time.sleep(_SETTLE_SECONDS)  # the idle part of the curve
            for layer in layers:
                journey.push(layer)
                if one_by_one:
                    journey.pull(layer)
                    _empty_largest(folder / "data" / "blobs")
            journey.push_manifest(layers)
            for layer in () if one_by_one else layers:
                journey.pull(layer)
            time.sleep(_SETTLE_SECONDS)
    return curve


def _empty_largest(folder: Path) -> None:
    """Give the bytes of the layer that was just verified back to the disk."""
    files = (path for path in folder.rglob("*") if path.is_file())
    os.truncate(max(files, key=lambda path: path.stat().st_size), 0)


def _outcome(
    layers: Sequence[Layer], curve: Curve, machine: dict[str, Any], *, one_by_one: bool
) -> dict[str, Any]:
    return {
        "machine": machine,
        "bytes": sum(layer.size for layer in layers),
        "one_by_one": one_by_one,
        "verified": all(layer.verified for layer in layers),
        "idle_bytes": curve.samples[0].pss,
        "peak_bytes": curve.peak,
        "layers": [asdict(layer) for layer in layers],
        "curve": {
            "seconds": [round(sample.seconds, 1) for sample in curve.samples],
            "pss": [sample.pss for sample in curve.samples],
            "anonymous": [sample.anonymous for sample in curve.samples],
        },
    }


def _spans(layers: Sequence[Layer]) -> list[tuple[str, float, float]]:
    pushes = [(f"push {layer.size / _GB:g} GB", *layer.push) for layer in layers]
    return pushes + [(f"pull {layer.size / _GB:g} GB", *layer.pull) for layer in layers]


if __name__ == "__main__":
    main()
