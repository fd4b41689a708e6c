"""Figures as pictures."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.memory import Curve
from bench.row import OURS, Result

_COLUMNS = 3
_OURS, _THEIRS = "#2b6cb0", "#a0aec0"

# The same figures give the same file, so that git sees a change only where there is one.
mpl.rcParams["svg.hashsalt"] = "entrepot"
mpl.rcParams["svg.fonttype"] = "none"


def plot_results(results: Sequence[Result], path: Path) -> None:
    """Draw a panel for each row: the judged figure of each contestant, and every run as a dot."""
    lines = -(-len(results) // _COLUMNS)
    figure = Figure(figsize=(4.4 * _COLUMNS, 2.1 * lines), layout="constrained")
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).flat
    for panel in panels[len(results) :]:
        panel.set_visible(False)
    for panel, result in zip(panels, results, strict=False):
        _panel(panel, result)
    figure.suptitle(
        "Judged figure, every run as a dot; dashed: the bar for Entrepot",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, metadata=_metadata(path))


def _panel(panel: Axes, result: Result) -> None:
    judged = result.judged()
    names = list(judged)[::-1]
    colours = [_OURS if name == OURS else _THEIRS for name in names]
    panel.barh(names, [judged[name] for name in names], color=colours, height=0.6)
    for line, name in enumerate(names):
        runs = result.samples[name]
        panel.plot(runs, [line] * len(runs), "o", color="black", markersize=2.5, alpha=0.6)
    for bar in result.row.bars:
        panel.axvline(bar.line(judged), color="#c53030", linewidth=1, linestyle="--")
    panel.set_title(f"{result.row.title} ({result.row.unit})", fontsize=8, loc="left")
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def plot_memory(curve: Curve, spans: Sequence[tuple[str, float, float]], path: Path) -> None:
    """Draw a server's memory over time; `spans` are (what went on, from, to)."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    panel = figure.subplots()
    seconds = [sample.seconds for sample in curve.samples]
    panel.plot(seconds, [s.pss / 1e6 for s in curve.samples], label="PSS", color=_OURS)
    panel.plot(
        seconds, [s.anonymous / 1e6 for s in curve.samples], label="anonymous", color=_THEIRS
    )
    for name, start, end in spans:
        panel.axvspan(start, end, alpha=0.08, color="#c53030" if "push" in name else "#2f855a")
        panel.annotate(name, (start, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top")
    panel.set_ylim(bottom=0)
    panel.set_xlabel("seconds")
    panel.set_ylabel("MB, all processes")
    panel.legend(loc="lower right")
    figure.savefig(path, metadata=_metadata(path))


def _metadata(path: Path) -> dict[str, None]:
    return {"Date": None} if path.suffix == ".svg" else {}
