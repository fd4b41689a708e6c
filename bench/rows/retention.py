"""Retention: what a plan over a million tags takes, and how long a run keeps others from writing.

The plan is by the default policy, a day after that would have deleted everything: it has the most
to look at, and to name. The run deletes tags of the big repository.
"""

import itertools
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bench.row import OURS, Bar, Place, Row, Run
from bench.seed import FEW, MANY, seeded, tag
from bench.servers import Entrepot
from bench.servers.process import BenchError

_ROOM = 24  # MB: SQLite keeps 16.8 of what it has read, and what a page of rows takes comes to it


@contextmanager
def _plans(figure: str, place: Place) -> Iterator[Mapping[str, Run]]:
    entrepot = seeded(place)

    def run(repository: str, count: int) -> float:
        done = entrepot.alone("plan", repository)
        if done["tags"] != count + 1:
            raise BenchError(f"{count + 1} tags were to be planned: {done}")
        return done["grown"] if figure == "grown" else 1e6 * done["seconds"] / count

    yield {
        OURS: partial(run, MANY, place.scale.tags),
        "at 1,000": partial(run, FEW, place.scale.few_tags),
    }


@contextmanager
def _runs(place: Place) -> Iterator[Mapping[str, Run]]:
    kept = seeded(place)
    place.say("copying the database")
    shutil.copytree(kept.folder / "data", place.folder / "entrepot" / "data")
    entrepot = Entrepot(place.folder / "entrepot", place.settings)
    count = place.scale.old_tags
    starts = itertools.count(0, count)

    def longest() -> float:
        first = next(starts)
        done = entrepot.alone("retain", MANY, tag(first), tag(first + count))
        if done["tags"] != count:
            raise BenchError(f"{count} tags were to be deleted: {done}")
        return done["longest"]

    yield {OURS: longest}


PLAN = Row(
    name="retention-plan",
    title="Retention plan of 1,000,000 tags, time of one",
    unit="µs",
    bars=(Bar(1.5, "at 1,000", at_least=False),),
    prepare=partial(_plans, "seconds"),
    most_runs=3,
)
PLAN_MEMORY = Row(
    name="retention-plan-memory",
    title="The same, growth of memory",
    unit="MB",
    bars=(Bar(_ROOM, at_least=False),),
    prepare=partial(_plans, "grown"),
    worst_counts=True,
    most_runs=3,
)
RUN = Row(
    name="retention-run",
    title="Retention deletes 10,000 tags of 1,000,000, longest write",
    unit="ms",
    bars=(Bar(50, at_least=False),),
    prepare=_runs,
    worst_counts=True,
)
