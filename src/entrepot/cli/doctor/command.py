"""`entrepot admin doctor`: one screen of what is well and what is not, each with its remedy."""

import asyncio
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from entrepot.cli.client import Json
from entrepot.cli.data_folder import config_option
from entrepot.cli.doctor.examine import examine
from entrepot.cli.doctor.finding import Finding
from entrepot.cli.messages import say
from entrepot.cli.output import Cell, Columns, as_json, show_json, show_list
from entrepot.telemetry import logs


@click.command("doctor", short_help="Say what is wrong with this installation.")
@as_json
@config_option
def doctor(config: Path | None, *, as_json: bool) -> None:
    """Look at settings, database, store, clocks, certificates, disks and keys, and say what to do.

    Servers may run meanwhile or not. It writes objects of its own to the store, and deletes them
    again. Run it as the user of the server, with the server's settings. Exits with 1 where it found
    an error.
    """
    logs.configure("critical")  # the report says it all
    found = asyncio.run(_all(config))
    counts = Counter(finding.level for finding in found)
    if as_json:
        show_json(
            {
                "errors": counts["error"],
                "warnings": counts["warning"],
                "findings": [asdict(finding) for finding in found],
            }
        )
    else:
        show_list([asdict(finding) for finding in found], _COLUMNS, as_json=False, empty=())
        say(f"errors: {counts['error']}, warnings: {counts['warning']}")
    if counts["error"]:
        raise SystemExit(1)


async def _all(config: Path | None) -> list[Finding]:
    return [finding async for finding in examine(config)]


def _told(item: Json) -> Cell:
    found, remedy = str(item["found"]), str(item["remedy"])
    if not remedy:
        return found, found
    return f"{found}\nto do: {remedy}", f"{found}; {remedy}"


_COLUMNS: Columns = {"LEVEL": "level", "PART": "part", "FOUND": _told}
