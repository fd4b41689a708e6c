"""What commands print: tables for a terminal, tabs for a pipe, JSON for `--json`.

A column is the name of a field (`organisation.slug`), or one of the functions below around it. A
terminal gets aligned columns and relative times; a pipe gets lines of tabs without a heading, with
times and numbers as the server wrote them.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from entrepot.cli.client import Json
from entrepot.cli.messages import printable, say

# What an entry shows in a column: for a person, and for a program.
Cell = tuple[str, str]
Column = str | Callable[[Json], Cell]
Columns = Mapping[str, Column]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
at_most = click.option("--limit", type=click.IntRange(1), help="Entries at most [all].")

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_WIDEST = 10_000
_ALMOST = 0.98  # an hour that began just now is not 60 minutes


def show_json(value: object) -> None:
    """Data for a program."""
    click.echo(json.dumps(value, indent=2))


def show_list(
    items: Iterable[Json],
    columns: Columns,
    *,
    as_json: bool,
    empty: tuple[str, ...],
    spare: tuple[str, ...] = (),
) -> None:
    """Entries, one per line. `empty` is said where there are none, and the commands that follow.

    A terminal that is too narrow for all columns does without those in `spare`, the first first.
    """
    found = list(items)
    if as_json:
        show_json(found)
    elif not found:
        say(*empty)
    elif not sys.stdout.isatty():
        for item in found:
            click.echo("\t".join(_cell(item, column)[1] for column in columns.values()))
    else:
        console, shown, left = _console(), dict(columns), list(spare)
        while _width(table := _table(found, shown), console) > console.width and left:
            del shown[left.pop(0)]
        console.print(table)
        if missing := [title for title in columns if title not in shown]:
            say(f"this terminal is too narrow for {', '.join(missing)}; --json has all")


def show_one(item: Json, columns: Columns, *, as_json: bool) -> None:
    """One entry, a field per line."""
    if as_json:
        show_json(item)
    elif not sys.stdout.isatty():
        for title, column in columns.items():
            click.echo(f"{title}\t{_cell(item, column)[1]}")
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for title, column in columns.items():
            table.add_row(title, Text(_cell(item, column)[0]))
        _console().print(table)


def made(item: Json, name: object, *, as_json: bool) -> None:
    """What was made: its name alone, so that `$(…)` can take it, or all of it as JSON."""
    if as_json:
        show_json(item)
    else:
        click.echo(str(name))


def when(field: str, never: str = "never") -> Column:
    """A time: "3 h ago" or "in 89 d"."""

    def cell(item: Json) -> Cell:
        text = value_of(item, field)
        return (relative(text), str(text)) if text else (never, "")

    return cell


def size(field: str) -> Column:
    """A number of bytes."""

    def cell(item: Json) -> Cell:
        count = value_of(item, field)
        return ("", "") if count is None else (_bytes(int(count)), str(count))

    return cell


def yes_no(field: str) -> Column:
    """Whether something is so."""

    def cell(item: Json) -> Cell:
        is_so = bool(value_of(item, field))
        return "yes" if is_so else "no", "true" if is_so else "false"

    return cell


def words(field: str, otherwise: str = "") -> Column:
    """A list of words; `otherwise` where it is null."""

    def cell(item: Json) -> Cell:
        found = value_of(item, field)
        return (otherwise, "") if found is None else (", ".join(found), ",".join(found))

    return cell


def value_of(item: Json, field: str) -> Any:  # noqa: ANN401  # as JSON has it
    """A field, or one of what a field holds: `organisation.slug`."""
    found: Any = item
    for name in field.split("."):
        found = None if found is None else found.get(name)
    return found


def relative(text: str) -> str:
    """How far a moment is from now."""
    distance = (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()
    for unit, name in _UNITS:
        if abs(distance) >= unit * _ALMOST:
            count = round(abs(distance) / unit)
            return f"in {count} {name}" if distance > 0 else f"{count} {name} ago"
    return "now"


def _cell(item: Json, column: Column) -> Cell:
    if isinstance(column, str):
        found = value_of(item, column)
        text = "" if found is None else str(found).replace("\n", " ")
        person, program = text, text
    else:
        person, program = column(item)
    # A line stays a line, a field a field, whatever somebody put into a name.
    return printable(person), printable(program).replace("\n", " ").replace("\t", " ")


def _bytes(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1_000 or unit == "TB":  # noqa: PLR2004  # as docker shows sizes
            break
        amount /= 1_000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def _table(items: list[Json], columns: Columns) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold", no_wrap=title == "ID")  # ids are copied
    for item in items:
        table.add_row(*(Text(_cell(item, column)[0]) for column in columns.values()))
    return table


def _width(table: Table, console: Console) -> int:
    """The columns of a terminal that shows the table without breaking a word."""
    return console.measure(table, options=console.options.update(width=_WIDEST)).maximum


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)
