"""`python -m bench`: run the rows, show the table, keep the record."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from bench.machine import facts
from bench.plot import plot_results
from bench.report import record, save, table
from bench.row import Place, Result, Row, measure
from bench.rows import ROWS
from bench.scale import FULL, GIB, QUICK
from bench.servers.process import BenchError
from bench.wire import UnexpectedAnswer

_HERE = Path(__file__).parent.resolve()
WORK = _HERE / "work"
RESULTS = _HERE / "results"
_DISK_NEEDED = 30 * GIB
_BUSY_LOAD = 0.5
_WIDTH = 130  # where there is no terminal to ask
_PROGRESS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)

Say = Callable[[str], None]


@click.command()
@click.option("--only", multiple=True, type=click.Choice([row.name for row in ROWS]))
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works, measures nothing.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of Entrepot, such as WORKERS=2. Default: its own defaults.",
)
def main(only: tuple[str, ...], runs: int, assignments: tuple[str, ...], *, quick: bool) -> None:
    """Measure Entrepot, distribution 2.8 and nginx side by side.

    A whole run writes bench/results/latest.json and latest.svg; a quick one, or one with --only or
    --set, writes bench/work/partial.json and partial.svg.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    rows = [row for row in ROWS if not only or row.name in only]
    settings = dict(_assignment(text) for text in assignments)
    is_whole = not (only or quick or settings)
    WORK.mkdir(exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    if not quick and shutil.disk_usage(WORK).free < _DISK_NEEDED:
        raise click.ClickException(f"{WORK} needs {_DISK_NEEDED // GIB} GiB of free disk")
    machine = facts(WORK)
    if machine["load_before"] > _BUSY_LOAD:
        console.print(f"[yellow]The machine is busy: load {machine['load_before']:.2f}.[/]")
    try:
        results = list(_run(rows, runs, settings, console, quick=quick))
    except (BenchError, UnexpectedAnswer, OSError) as error:
        raise click.ClickException("\n".join([str(error), *_notes(error)])) from error
    console.print(table(results))
    if quick:
        console.print("[yellow]Quick sizes: the figures say nothing about the bars.[/]")
    target = RESULTS / "latest" if is_whole else WORK / "partial"
    save(record(results, machine, settings), target.with_suffix(".json"))
    plot_results(results, target.with_suffix(".svg"))
    console.print(f"Written: {target}.json and {target}.svg")


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return name.removeprefix("ENTREPOT_"), value


def _run(
    rows: Sequence[Row],
    runs: int,
    settings: Mapping[str, str],
    console: Console,
    *,
    quick: bool,
) -> Iterator[Result]:
    """Measure row after row under a progress bar that counts rounds of runs."""
    with Progress(*_PROGRESS, console=console) as progress:
        total = sum(min(runs, row.most_runs or runs) for row in rows)
        whole = progress.add_task("all rows", total=total)
        for row in rows:
            count = min(runs, row.most_runs or runs)
            task = progress.add_task(f"{row.name}: preparing", total=count)

            def say(text: str, row: Row = row, task: TaskID = task) -> None:
                progress.update(task, description=f"{row.name}: {text}")

            def on_run(name: str, turn: int, say: Say = say, task: TaskID = task) -> None:
                say(name)
                progress.update(task, completed=turn)

            with _folder(row.name) as folder:
                place = Place(folder, QUICK if quick else FULL, settings, say)
                yield measure(row, place, count, on_run)
            say("done")
            progress.update(task, completed=count)
            progress.advance(whole, count)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=WORK))
    try:
        yield folder
    except Exception as error:
        for log in folder.glob("*/output.log"):
            kept = shutil.copy(log, WORK / f"failed-{name}-{log.parent.name}.log")
            error.add_note(f"what the server said: {kept}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
