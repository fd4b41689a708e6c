"""Cold pulls through the cache against the same pulls from the upstream itself."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.caching import (
    Cache,
    Source,
    cache,
    new_tag,
    peer,
    publish,
    publish_blob,
    publish_layer,
    pull,
)
from bench.content import Material, image
from bench.crowd import get_at_once
from bench.row import Bar, Place, Row, Run
from bench.scale import MIB

_LINE = 100_000_000
_LAYERS = 40
_AT_ONCE = 3  # as Docker and containerd do
_FIRST_BYTES = 20
_FIRST_SIZE = 4 * MIB
_TOUCHED_BYTES = 256 * 1024


@contextmanager
def _prepare(
    rate: int, time_one: Callable[[Cache, Material, Source], float], place: Place
) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        material = stack.enter_context(Material(place.folder / "material", place.scale.cold))
        running = stack.enter_context(cache(place, rate=rate))
        yield _contestants(stack, place, running, partial(time_one, running, material))


def _contestants(
    stack: ExitStack, place: Place, running: Cache, time_one: Callable[[Source], float]
) -> Mapping[str, Run]:
    """All pull over the same link, each time what nobody has pulled before."""
    return {
        "entrepot": partial(time_one, running.repository()),
        "direct": partial(time_one, running.direct),
        "distribution": partial(time_one, stack.enter_context(peer(place, running))),
    }


def _seconds(running: Cache, material: Material, source: Source) -> float:
    """Return the time of an image of one large layer."""
    tag = new_tag()
    publish_layer(running.upstream, material.fresh(), tag)
    os.sync()  # what is left unwritten is not this run's to write
    _touch(material.path.with_name("touched"), material.size)
    started = time.perf_counter()
    pull(source, tag)
    return time.perf_counter() - started


def _touch(path: Path, size: int) -> None:
    """Have as much memory at hand as the pull will write.

    A virtual machine gives free memory back to its host, and who writes to it next waits until the
    host has found it again: up to 3 s for 1 GiB, for whichever contestant it hits.
    """
    piece = bytes(_TOUCHED_BYTES)
    with path.open("wb") as file:
        for _ in range(0, 2 * size, _TOUCHED_BYTES):
            file.write(piece)
    path.unlink()


def _throughput(running: Cache, material: Material, source: Source) -> float:
    return material.size / 1e6 / _seconds(running, material, source)


@contextmanager
def _prepare_layers(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        running = stack.enter_context(cache(place, rate=_LINE))
        yield _contestants(stack, place, running, partial(_layers, running, place.scale.layer))


def _layers(running: Cache, size: int, source: Source) -> float:
    tag = new_tag()
    publish(running.upstream, image(_LAYERS, size), tag)
    os.sync()
    started = time.perf_counter()
    pull(source, tag, _AT_ONCE)
    return time.perf_counter() - started


@contextmanager
def _prepare_first_bytes(place: Place) -> Iterator[Mapping[str, Run]]:
    with ExitStack() as stack:
        material = stack.enter_context(Material(place.folder / "material", _FIRST_SIZE))
        running = stack.enter_context(cache(place))
        yield _contestants(stack, place, running, partial(_first_byte, running, material))


def _first_byte(running: Cache, material: Material, source: Source) -> float:
    """Return the median, in milliseconds, over a few blobs, each over a connection of its own."""
    times = []
    for _ in range(_FIRST_BYTES):
        target = source.path(publish_blob(running.upstream, material.fresh()))
        endings = get_at_once([source.port], target, source.authorization, 1)
        times.append(1000 * endings.first_bytes[0])
    return statistics.median(times)


BRAKED = Row(
    name="pull-cold-braked",
    title="Cold pull of 1 GiB, upstream braked to 100 MB/s",
    unit="s",
    bars=(Bar(1.1, "direct", at_least=False),),
    prepare=partial(_prepare, _LINE, _seconds),
)
UNBRAKED = Row(
    name="pull-cold",
    title="Cold pull of 1 GiB",
    unit="MB/s",
    bars=(Bar(0.7, "direct"),),
    prepare=partial(_prepare, 0, _throughput),
)
FIRST_BYTE = Row(
    name="pull-first-byte",
    title="First byte of a cold blob",
    unit="ms",
    bars=(Bar(30, "direct", at_least=False, is_difference=True),),
    prepare=_prepare_first_bytes,
)
LAYERS = Row(
    name="pull-layers",
    title="Cold pull of 40 layers of 8 MiB, 3 at once, upstream braked to 100 MB/s",
    unit="s",
    bars=(Bar(1.1, "direct", at_least=False),),
    prepare=_prepare_layers,
)
