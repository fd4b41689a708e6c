"""Warm pulls: how often the upstream is asked, and how soon a tag is answered without it."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.caching import Cache, Source, cache, new_tag, publish, pull
from bench.content import image
from bench.crowd import get_at_once
from bench.row import Bar, Place, Row, Run
from bench.scale import MIB
from bench.servers import Upstream
from bench.servers.process import BenchError
from bench.servers.server import Server

_NODES = 2
_LAYERS = 3
_CLIENTS = 50
_PULLS = 20
_PERIODS = 5
_PERIOD_SECONDS = 2
_LATER_SECONDS = 0.2
_ASKED = 10


@contextmanager
def _prepare_fresh(place: Place) -> Iterator[Mapping[str, Run]]:
    with cache(place, nodes=_NODES) as running:
        yield {"entrepot": partial(_fresh, running)}


def _fresh(running: Cache) -> float:
    """Return how often the upstream was asked while a fresh image was pulled from each node."""
    through = running.repository()
    tag = _pulled(running.upstream, through)
    mark = running.upstream.mark()
    for port in running.ports:
        for _ in range(_PULLS):
            pull(Source(port, through.repository, through.authorization), tag, _LAYERS)
    return len(_asked(running.upstream, mark))


def _pulled(upstream: Upstream, through: Source) -> str:
    tag = new_tag()
    publish(upstream, image(_LAYERS, MIB), tag)
    pull(through, tag, _LAYERS)
    return tag


def _asked(upstream: Upstream, mark: int) -> list[str]:
    time.sleep(_LATER_SECONDS)  # whatever is still under way shall be seen
    return [f"{line.method} {line.path}" for line in upstream.served(mark)]


@contextmanager
def _prepare_stale(place: Place) -> Iterator[Mapping[str, Run]]:
    with cache(place, nodes=_NODES) as running:
        yield {"entrepot": partial(_checks, running)}


def _checks(running: Cache) -> float:
    """Return the most requests that a crowd caused in one period of freshness."""
    through = running.repository(freshness=_PERIOD_SECONDS)
    target = through.path(f"manifests/{_pulled(running.upstream, through)}")
    most = 0
    for _ in range(_PERIODS):
        time.sleep(_PERIOD_SECONDS + _LATER_SECONDS)
        mark = running.upstream.mark()
        get_at_once(running.ports, target, through.authorization, _CLIENTS)
        asked = _asked(running.upstream, mark)
        if any(line.startswith("GET") for line in asked):
            raise BenchError(f"an unchanged tag was not only asked for by HEAD: {asked}")
        most = max(most, len(asked))
    return most


@contextmanager
def _prepare_dead(place: Place) -> Iterator[Mapping[str, Run]]:
    """The upstream of these runs is started and ended by each of them, at the same address."""
    with ExitStack() as stack:
        running = stack.enter_context(cache(place))
        other = Upstream(place.folder / "mortal")
        yield {
            "entrepot": partial(_dead, Cache(other, other.port, running.nodes)),
            "while it hangs": partial(_hanging, Cache(other, other.port, running.nodes)),
        }


def _dead(running: Cache) -> float:
    with running.upstream.running():
        through, target = _stale(running)
    return _slowest(through, target)


def _hanging(running: Cache) -> float:
    """Return the same for an upstream that takes connections and says nothing."""
    with running.upstream.running() as server, _stopped(server, running) as (through, target):
        return _slowest(through, target)


@contextmanager
def _stopped(server: Server, running: Cache) -> Iterator[tuple[Source, str]]:
    found = _stale(running)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield found
    finally:
        os.kill(server.pid, signal.SIGCONT)


def _stale(running: Cache) -> tuple[Source, str]:
    """Return a repository and the path of its warm tag, which the upstream is asked for again."""
    publish(running.upstream, image(1, MIB), "first")
    through = running.repository(freshness=0)
    return through, through.path(f"manifests/{_pulled(running.upstream, through)}")


def _slowest(through: Source, target: str) -> float:
    """Return the longest of a few answers in a row, in milliseconds."""
    return 1000 * max(
        get_at_once([through.port], target, through.authorization, 1).slowest for _ in range(_ASKED)
    )


FRESH = Row(
    name="pull-warm",
    title="Warm pulls through 2 nodes within freshness: requests to the upstream",
    unit="requests",
    bars=(Bar(0, at_least=False),),
    prepare=_prepare_fresh,
    worst_counts=True,
)
STALE = Row(
    name="pull-stale",
    title="50 clients on 2 nodes after each period of freshness: HEADs in one period",
    unit="requests",
    bars=(Bar(1, at_least=False),),
    prepare=_prepare_stale,
    worst_counts=True,
)
DEAD = Row(
    name="pull-dead",
    title="Warm tag while the upstream is dead, the slowest of 10",
    unit="ms",
    bars=(Bar(300, at_least=False),),
    prepare=_prepare_dead,
    worst_counts=True,
)
