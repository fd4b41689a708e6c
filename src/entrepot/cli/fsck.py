"""`entrepot admin fsck`: compare database and store, both ways."""

import asyncio
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from entrepot.cli.data_folder import config_option, opened, settings_of_existing
from entrepot.cli.messages import say
from entrepot.cli.output import as_json, show_json, show_list, yes_no
from entrepot.config import Settings
from entrepot.model.clock import SECOND, SystemClock
from entrepot.parts import make_store
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.fsck import UNKNOWN, Finding, Fsck, FsckLimits
from entrepot.services.store_id import refuse_other_store
from entrepot.telemetry import logs

_NAMED = 10_000  # findings that are kept to be shown


@click.command("fsck", short_help="Compare database and store, both ways.")
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@as_json
@config_option
def fsck(config: Path | None, *, repair: bool, as_json: bool) -> None:
    """Find what does not fit: blobs without objects, objects without blobs, broken references.

    With --repair lost objects are noted as damage, which the next push mends; objects that nothing
    knows are deleted an hour later; counts are put right. Servers may run meanwhile. Exits with 1
    where anything was found. Collection, which stops when database or store was restored from a
    backup alone, goes on once nothing is left.
    """
    logs.configure("critical")  # the report says it all
    found, count = asyncio.run(_run(settings_of_existing(config), repair=repair))
    if as_json:
        show_json({"count": count, "findings": [asdict(finding) for finding in found]})
    else:
        _tell(found, count, repair=repair)
    if count:
        raise SystemExit(1)


def limits_of(settings: Settings) -> FsckLimits:
    """What a newer database knows goes no sooner than what people deleted: it may come back."""
    delay = max(settings.collection.delay_seconds, settings.retention.restore_seconds)
    return FsckLimits(grace=settings.uploads.protect_seconds * SECOND, delay=delay * SECOND)


async def _run(settings: Settings, *, repair: bool) -> tuple[list[Finding], int]:
    """What was found, and how much, which may be more."""
    store = make_store(settings)
    limits = limits_of(settings)
    console = Console(stderr=True)
    columns = (
        *(TextColumn("{task.description}"), BarColumn()),
        *(MofNCompleteColumn(), TimeRemainingColumn()),
    )
    found: list[Finding] = []
    count = 0
    async with opened(settings) as database:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("tombstones", total=None)

            def progress(part: str, done: int, total: int) -> None:
                bar.update(task, description=part, completed=done, total=total)

            guard = CollectionGuard(database, store)
            check = Fsck(
                database, store, SystemClock(), guard, limits, repair=repair, progress=progress
            )
            try:
                await refuse_other_store(database, store)
                async for finding in check.run():
                    count += 1
                    if len(found) < _NAMED:
                        found.append(finding)
            finally:
                store.close()
    return found, count


def _tell(found: list[Finding], count: int, *, repair: bool) -> None:
    if found:
        columns = {
            "FOUND": "kind",
            "WHAT": "what",
            "WHERE": "where",
            "MENDED" if repair else "CAN MEND": yes_no("is_mended" if repair else "can_mend"),
        }
        show_list([asdict(finding) for finding in found], columns, as_json=False, empty=())
    if any(finding.kind == UNKNOWN and finding.is_mended for finding in found):
        click.echo(
            "what nothing knows is deleted after retention.restore_seconds at the earliest; "
            "until then a newer database can take its place again",
            err=True,
        )
    left = sum(not finding.is_mended for finding in found)
    if not count:
        click.echo("database and store fit together", err=True)
    elif not left:
        click.echo(f"found {count}, and mended all of it", err=True)
    elif not repair and any(finding.can_mend for finding in found):
        say(f"found {count}; to mend what can be mended:", "entrepot admin fsck --repair")
    else:
        say(f"found {count}; no command mends {left} of it: docs/scrub.md says what does")
