"""`entrepot admin scrub`: read what is stored again, and report what is damaged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from entrepot.cli import sizes
from entrepot.cli.data_folder import config_option, opened, settings_of_existing
from entrepot.cli.messages import say
from entrepot.cli.output import as_json, show_json, show_list, size, when, words
from entrepot.config import Settings
from entrepot.db.scrub import Affected, Damaged
from entrepot.model.clock import DAY, SystemClock
from entrepot.parts import make_store
from entrepot.services.objects import Objects
from entrepot.services.scrub import Scrub, Scrubbed, ScrubLimits
from entrepot.services.store_id import refuse_other_store
from entrepot.telemetry import logs

_NAMED = 1_000  # unreadable objects and damaged manifests that a report names


@dataclass
class _Report:
    """What was read, and what is wrong."""

    objects: int = 0
    bytes: int = 0
    manifests: int = 0
    damaged: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, Any]] = field(default_factory=list)

    def add(self, scrubbed: Scrubbed) -> None:
        """Count one thing that was read."""
        self.bytes += scrubbed.size
        if scrubbed.kind == "manifest":
            self.manifests += 1
        else:
            self.objects += 1
        if scrubbed.outcome == "unreadable" and len(self.unreadable) < _NAMED:
            self.unreadable.append(
                {"digest": scrubbed.digest, "size": scrubbed.size, "error": scrubbed.error}
            )


@click.command("scrub", short_help="Read what is stored again, to find damage.")
@click.option("--rate", type=sizes.size, default="100MB", help="Bytes a second [100MB].")
@click.option("--all", "everything", is_flag=True, help="Read all objects, not only what is due.")
@as_json
@config_option
def scrub(config: Path | None, *, rate: int, everything: bool, as_json: bool) -> None:
    """Read stored objects and manifests again and report what is damaged, and which tags suffer.

    Objects are read that were not for as long as scrub.every_days says, and those that are known to
    be damaged. Servers may run meanwhile. Exits with 1 where anything is damaged or unreadable; the
    next push of a damaged blob mends it.
    """
    logs.configure("critical")  # the report says it all
    report = asyncio.run(_run(settings_of_existing(config), rate, everything=everything))
    if as_json:
        show_json(vars(report))
    else:
        _tell(report)
    if report.damaged or report.unreadable:
        raise SystemExit(1)


async def _run(settings: Settings, rate: int, *, everything: bool) -> _Report:
    report, clock, store = _Report(), SystemClock(), make_store(settings)
    limits = ScrubLimits(rate, settings.scrub.every_days * DAY)
    async with opened(settings) as database:
        work = Scrub(database, Objects(database, store, clock), clock, limits)
        try:
            await refuse_other_store(database, store)
            await _read(work, report, everything=everything)
        finally:
            store.close()
    return report


async def _read(work: Scrub, report: _Report, *, everything: bool) -> None:
    _, total = await work.count_due(everything=everything)
    columns = (
        *(TextColumn("reading"), BarColumn(), DownloadColumn()),
        *(TransferSpeedColumn(), TimeRemainingColumn()),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=total)
        async for scrubbed in _all(work, everything=everything):
            report.add(scrubbed)
            if scrubbed.kind == "blob":
                bar.update(task, advance=scrubbed.size)
            elif scrubbed.outcome != "ok" and len(report.damaged) < _NAMED:
                affected = await work.find_affected_by(scrubbed)
                report.damaged.append(_damage("manifest", scrubbed, None, affected))
    async for found in work.report():
        report.damaged.append(
            _damage("blob", found.damaged, found.damaged.damaged_at, found.affected)
        )


async def _all(work: Scrub, *, everything: bool) -> AsyncIterator[Scrubbed]:
    async for scrubbed in work.all() if everything else work.due(damaged_since=0):
        yield scrubbed
    async for scrubbed in work.manifests():
        yield scrubbed


def _damage(
    kind: str,
    what: Scrubbed | Damaged,
    found_at: int | None,
    affected: list[Affected],
) -> dict[str, Any]:
    tags: dict[str, list[str]] = {}
    for each in affected:
        names = tags.setdefault(f"{each.organisation}/{each.repository}", [])
        if each.tag is not None:
            names.append(each.tag)
    at = None if found_at is None else datetime.fromtimestamp(found_at / 1_000_000, UTC).isoformat()
    return {
        "kind": kind,
        "digest": what.digest,
        "size": what.size,
        "found_at": at,
        "repositories": [{"name": name, "tags": names} for name, names in tags.items()],
    }


def _tell(report: _Report) -> None:
    rows = [
        {**damage, "repository": repository["name"], "tags": repository["tags"]}
        for damage in report.damaged
        for repository in damage["repositories"] or [{"name": "", "tags": []}]
    ]
    if rows:
        columns = {
            "DAMAGED": "digest",
            "KIND": "kind",
            "SIZE": size("size"),
            "FOUND": when("found_at", "now"),
            "REPOSITORY": "repository",
            "TAGS": words("tags"),
        }
        show_list(rows, columns, as_json=False, empty=(), spare=("FOUND", "KIND", "SIZE"))
        say("push the images that these tags name again: that mends them")
    if report.unreadable:
        columns = {"UNREADABLE": "digest", "SIZE": size("size"), "WHY": "error"}
        show_list(report.unreadable, columns, as_json=False, empty=())
        say("the store failed to read these: look at the disk; they are tried again")
    click.echo(
        f"read {report.objects} objects and {report.manifests} manifests, {report.bytes} bytes;"
        f" damaged: {len(report.damaged)}, unreadable: {len(report.unreadable)}",
        err=True,
    )
