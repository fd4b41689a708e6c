"""Start: from the command to the first /readyz that says 200, with a million manifests."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bench.row import Bar, Place, Row, Run
from bench.seed import seeded
from bench.servers import Entrepot


@contextmanager
def _prepare(place: Place) -> Iterator[Mapping[str, Run]]:
    full = seeded(place)
    empty = Entrepot(place.folder / "entrepot", place.settings)
    for entrepot in (full, empty):  # the first start makes the folder, or reads it from the disk
        _seconds(entrepot)
    yield {"entrepot": partial(_seconds, full), "empty": partial(_seconds, empty)}


def _seconds(entrepot: Entrepot) -> float:
    started = time.perf_counter()
    with entrepot.running():
        return time.perf_counter() - started


ROW = Row(
    name="start",
    title="Start with 1,000,000 manifests",
    unit="s",
    bars=(Bar(2, at_least=False),),
    prepare=_prepare,
)
