"""The outcome of a run: a table for the terminal, JSON for the record."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.row import OURS, Bar, Result


def table(results: Sequence[Result]) -> Table:
    """Return one line for each bar, and one for each row that has none."""
    view = Table(title="Entrepot and what it is measured against", title_justify="left")
    for name in ("Work", "Entrepot", "Against", "Ratio", "Bar", ""):
        view.add_column(name, no_wrap=name != "Work")
    for result in results:
        judged = result.judged()
        for number, bar in enumerate(result.row.bars):
            view.add_row(
                result.row.title if number == 0 else "",
                _figure(result, OURS) if number == 0 else "",
                f"{bar.against} {_figure(result, bar.against)}" if bar.against else "",
                _value(bar, judged),
                _promise(bar, result.row.unit),
                "[green]met[/]" if bar.is_met(judged) else "[red]not met[/]",
            )
        for name in _unjudged(result):
            view.add_row("", "", f"[dim]{name} {_figure(result, name)}[/]", _ratio(judged, name))
        view.add_section()
    return view


def _figure(result: Result, name: str) -> str:
    values = result.samples[name]
    spread = f"{_short(min(values))}-{_short(max(values))}"
    return f"{_short(result.judged()[name])} {result.row.unit} [dim]({spread})[/]"


def _short(value: float) -> str:
    for limit, digits in ((1, 3), (100, 2)):
        if value < limit:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def _value(bar: Bar, judged: Mapping[str, float]) -> str:
    value = bar.value(judged)
    if bar.is_difference:
        return f"{value:+.1f}"
    return f"{value:.2f}x" if bar.against else ""


def _promise(bar: Bar, unit: str) -> str:
    limit = f"{bar.limit:g} {unit}"
    if bar.against:
        limit = f"+{limit}" if bar.is_difference else f"{bar.limit:g}x"
    dream = f" (dream {bar.dream:g}x)" if bar.dream else ""
    return f"{'>=' if bar.at_least else '<='} {limit}{dream}"


def _unjudged(result: Result) -> list[str]:
    judged = {OURS} | {bar.against for bar in result.row.bars}
    return [name for name in result.samples if name not in judged]


def _ratio(judged: Mapping[str, float], name: str) -> str:
    return f"[dim]{judged[OURS] / judged[name]:.2f}x[/]" if judged[name] else ""


def record(
    results: Sequence[Result], machine: Mapping[str, object], settings: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything there is to know of a run, ready for JSON."""
    return {
        "measured_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "settings": settings,
        "rows": [_row(result) for result in results],
    }


def _row(result: Result) -> dict[str, Any]:
    judged = result.judged()
    return {
        "name": result.row.name,
        "title": result.row.title,
        "unit": result.row.unit,
        "judged_by": "worst run" if result.row.worst_counts else "median",
        "figures": {name: round(value, 4) for name, value in judged.items()},
        "samples": {
            name: [round(value, 4) for value in values] for name, values in result.samples.items()
        },
        "bars": [
            {
                "against": bar.against or None,
                "kind": "difference" if bar.is_difference else "ratio" if bar.against else "figure",
                "value": round(bar.value(judged), 4),
                "at_least" if bar.at_least else "at_most": bar.limit,
                "met": bar.is_met(judged),
            }
            for bar in result.row.bars
        ],
    }


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON that a person can read and git can compare."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
