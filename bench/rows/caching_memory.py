"""Memory while blobs are pulled through: what the server needs above what it has when idle."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.brake import braked
from bench.caching import Cache, cluster, publish, publish_blob, pull
from bench.content import Material, image
from bench.crowd import get_at_once
from bench.memory import look, watching
from bench.row import Bar, Place, Row, Run
from bench.scale import KIB
from bench.servers import Upstream

_BASE = 64
_EACH = 8
_EACH_CLIENT = 0.25
_FEW = 50
_MANY = 1000
_SLOW = 10_000_000
_SETTLE_SECONDS = 2
_SAMPLE_SECONDS = 0.1
_SMALLER = 16


@contextmanager
def _prepare_one(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(_upstream(place))
        large, small = (
            stack.enter_context(Material(place.folder / f"material-{size}", size))
            for size in (place.scale.cold, place.scale.cold // _SMALLER)
        )
        yield {
            "entrepot": partial(_megabytes, place, upstream, upstream.port, large, 1),
            "a 16th of it": partial(_megabytes, place, upstream, upstream.port, small, 1),
        }


@contextmanager
def _prepare_crowds(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(_upstream(place))
        material = stack.enter_context(Material(place.folder / "material", place.scale.thronged))
        link = stack.enter_context(braked(upstream.port, _SLOW, place.folder / "brake"))
        yield {
            "entrepot": partial(_megabytes, place, upstream, link, material, place.scale.throng),
            "50 clients": partial(_megabytes, place, upstream, link, material, _FEW),
        }


@contextmanager
def _upstream(place: Place) -> Iterator[Upstream]:
    upstream = Upstream(place.folder / "upstream")
    with upstream.running():
        publish(upstream, image(layers=1, layer_size=KIB), "first")
        yield upstream


def _megabytes(
    place: Place, upstream: Upstream, link: int, material: Material, clients: int
) -> float:
    """Return the peak above idle of a server just started, in MB."""
    folder = place.folder / "measured"
    target = publish_blob(upstream, material.fresh())
    try:
        with cluster(place, folder, 1) as nodes:
            through = Cache(upstream, link, nodes).repository()
            pull(through, "first")  # so that what is loaded at first use is there
            time.sleep(_SETTLE_SECONDS)
            idle, _ = look(nodes[0].pid)
            with watching(nodes[0].pid, _SAMPLE_SECONDS) as curve:
                get_at_once([through.port], through.path(target), through.authorization, clients)
            return (curve.peak - idle) / 1e6
    finally:
        shutil.rmtree(folder, ignore_errors=True)


ONE = Row(
    name="pull-memory",
    title="Cold pull of 1 GiB, memory above idle",
    unit="MB",
    bars=(Bar(_BASE + _EACH, at_least=False),),
    prepare=_prepare_one,
    worst_counts=True,
    most_runs=3,
)
CROWDS = Row(
    name="pull-throng-memory",
    title="1,000 clients on a cold blob of 20 MB, upstream braked to 10 MB/s, memory above idle",
    unit="MB",
    bars=(Bar(_BASE + _EACH_CLIENT * _MANY, at_least=False),),
    prepare=_prepare_crowds,
    worst_counts=True,
    most_runs=3,
)
