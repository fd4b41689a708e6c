"""A row of the table: what is measured, against whom, and the bars to be met."""

import statistics
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench.scale import Scale

OURS = "entrepot"

# One measured run of one contestant; returns a figure in the row's unit.
Run = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row works and how much it does."""

    folder: Path
    scale: Scale
    settings: Mapping[str, str]
    """Entrepot's settings, if not its defaults."""
    say: Callable[[str], None]
    """Tell the person who waits what is being prepared."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise: our median, over the median of another contestant if one is named.

    With `is_difference` it is what ours has more than the other one's.
    """

    limit: float
    against: str = ""
    at_least: bool = True
    dream: float | None = None
    is_difference: bool = False

    def value(self, medians: Mapping[str, float]) -> float:
        """Return what is held against the limit."""
        if self.is_difference:
            return medians[OURS] - medians[self.against]
        return medians[OURS] / medians[self.against] if self.against else medians[OURS]

    def line(self, medians: Mapping[str, float]) -> float:
        """Return the figure of ours at which the promise just holds."""
        if self.is_difference:
            return self.limit + medians[self.against]
        return self.limit * medians[self.against] if self.against else self.limit

    def is_met(self, medians: Mapping[str, float]) -> bool:
        """Tell whether the promise holds."""
        value = self.value(medians)
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work."""

    name: str
    title: str
    unit: str
    bars: tuple[Bar, ...]
    prepare: Callable[[Place], AbstractContextManager[Mapping[str, Run]]]
    """Start what is needed; give each contestant's run; clean up."""
    worst_counts: bool = False
    """The worst run is judged, not the median: for limits that may never be passed."""
    most_runs: int | None = None


@dataclass(slots=True)
class Result:
    """What the runs of a row gave, in the order they ran."""

    row: Row
    samples: dict[str, list[float]] = field(default_factory=dict)

    def judged(self) -> dict[str, float]:
        """Return the one figure of each contestant."""
        choose = max if self.row.worst_counts else statistics.median
        return {name: choose(values) for name, values in self.samples.items()}


def measure(row: Row, place: Place, runs: int, on_run: Callable[[str, int], None]) -> Result:
    """Run the contestants in turn, another one first in each round.

    `on_run(contestant, round)` hears what is about to run.
    """
    result = Result(row)
    with row.prepare(place) as contestants:
        names = list(contestants)
        result.samples = {name: [] for name in names}
        for turn in range(runs):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                on_run(name, turn)
                result.samples[name].append(contestants[name]())
    return result
