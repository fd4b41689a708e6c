"""Many clients pull one cold blob through two nodes at once: what that costs upstream and them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.caching import Cache, Source, cache, publish_blob
from bench.content import Material
from bench.crowd import Endings, get_at_once
from bench.row import Bar, Place, Row, Run

_NODES = 2
_LINE = 10_000_000
_CLIENTS = 50
_LATER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Crowds:
    """Crowds before one repository; each pulls a blob that nobody has pulled before."""

    cache: Cache
    material: Material
    through: Source

    def seconds(self, clients: int) -> float:
        """Return the time of the client that waited longest."""
        return self._pull(self._published(), clients).slowest

    def share(self, clients: int) -> float:
        """Return what the upstream sent, in sizes of the blob."""
        target = self._published()
        mark = self.cache.upstream.mark()
        self._pull(target, clients)
        time.sleep(_LATER_SECONDS)  # what is asked for twice and given up is logged at its end
        lines = self.cache.upstream.served(mark)
        sent = sum(
            line.sent for line in lines if line.method == "GET" and line.path.endswith(target)
        )
        return sent / self.material.size

    def direct(self) -> float:
        """Return the time of one client of the upstream itself."""
        source = self.cache.direct
        return get_at_once([source.port], source.path(self._published()), "", 1).slowest

    def _published(self) -> str:
        return publish_blob(self.cache.upstream, self.material.fresh())

    def _pull(self, target: str, clients: int) -> Endings:
        through = self.through
        target = through.path(target)
        return get_at_once(self.cache.ports, target, through.authorization, clients)


@contextmanager
def _crowds(place: Place, size: int) -> Iterator[_Crowds]:
    with ExitStack() as stack:
        material = stack.enter_context(Material(place.folder / "material", size))
        running = stack.enter_context(cache(place, rate=_LINE, nodes=_NODES))
        yield _Crowds(running, material, running.repository())


@contextmanager
def _prepare_times(place: Place) -> Iterator[Mapping[str, Run]]:
    with _crowds(place, place.scale.shared) as crowds:
        yield {
            "entrepot": partial(crowds.seconds, _CLIENTS),
            "one client": partial(crowds.seconds, 1),
            "direct": crowds.direct,
        }


@contextmanager
def _prepare_bytes(place: Place) -> Iterator[Mapping[str, Run]]:
    with _crowds(place, place.scale.shared) as crowds:
        yield {"entrepot": partial(crowds.share, _CLIENTS)}


@contextmanager
def _prepare_throng(place: Place) -> Iterator[Mapping[str, Run]]:
    with _crowds(place, place.scale.thronged) as crowds:
        yield {"entrepot": partial(crowds.share, place.scale.throng)}


TIMES = Row(
    name="pull-crowd",
    title="50 clients on 2 nodes, one cold blob of 128 MB, upstream braked to 10 MB/s: the slowest",
    unit="s",
    bars=(Bar(1.15, "one client", at_least=False),),
    prepare=_prepare_times,
)
BYTES = Row(
    name="pull-crowd-bytes",
    title="The same: bytes of the upstream, in sizes of the blob",
    unit="blobs",
    bars=(Bar(1, at_least=False),),
    prepare=_prepare_bytes,
    worst_counts=True,
)
THRONG = Row(
    name="pull-throng-bytes",
    title="1,000 clients on 2 nodes, one cold blob of 20 MB: bytes of the upstream",
    unit="blobs",
    bars=(Bar(1, at_least=False),),
    prepare=_prepare_throng,
    worst_counts=True,
)
