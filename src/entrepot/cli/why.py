"""`entrepot admin why`: who has a digest, and what keeps it there."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from entrepot.cli.client import Json
from entrepot.cli.data_folder import config_option, opened, settings_of_existing
from entrepot.cli.messages import Refused, say
from entrepot.cli.output import as_json, relative, show_json
from entrepot.config import Settings
from entrepot.model.clock import SECOND, SystemClock
from entrepot.model.digests import Digest
from entrepot.services.keepers import Keepers, Reason
from entrepot.telemetry import logs


@click.command("why", short_help="Show who has a digest, and what keeps it there.")
@click.argument("digest")
@as_json
@config_option
def why(digest: str, config: Path | None, *, as_json: bool) -> None:
    """Show every repository that has DIGEST, and the way from the tag that keeps it.

    Where no tag does it says what the digest waits for, and until when.
    """
    logs.configure("critical")
    asked = str(Digest.parse(digest))
    found = asyncio.run(_find(settings_of_existing(config), asked))
    if as_json:
        show_json({"digest": asked, **found})
        return
    if not found["repositories"] and not found["objects"]:
        raise Refused(f"nothing here has or had {asked}")
    for item in found["repositories"]:
        click.echo(f"{item['repository']}: {_told(item, asked)}")
    for item in found["objects"]:
        due = relative(item["due_at"])
        click.echo(f"an object of {item['bytes']} bytes that nothing points at goes {due}")
        if item["error"]:
            say(f"the store refused: {item['error']}")


async def _find(settings: Settings, digest: str) -> Json:
    restore = settings.retention.restore_seconds * SECOND
    async with opened(settings) as database:
        keepers = Keepers(database, SystemClock(), restore=restore)
        return {
            "repositories": [_as_json(reason, restore) async for reason in keepers.of(digest)],
            "objects": [
                {"bytes": t.size, "due_at": _moment(t.due_at), "error": t.error or None}
                for t in await keepers.objects(digest)
            ],
        }


def _as_json(reason: Reason, restore: int) -> Json:
    holder = reason.holder
    since = holder.deleted_at if holder.deleted_at is not None else holder.orphaned_at
    until = {
        "restorable": since + restore if since is not None else None,
        "protected": holder.protected_until,
    }.get(reason.waiting or "", reason.next_at)
    return {
        "repository": holder.path,
        "kind": holder.kind,
        "way": [{"kind": kind, "name": name} for kind, name in reason.way],
        "waiting": reason.waiting,
        "until": _moment(until) if reason.waiting is not None else None,
    }


def _told(item: Json, digest: str) -> str:
    steps = [
        f"tag {step['name']}" if step["kind"] == "tag" else f"{step['kind']} {step['name']}"
        for step in item["way"]
    ]
    text = " → ".join([*steps, f"this {item['kind']} {digest}"])
    if item["waiting"] is not None:
        until = f" (next look {relative(item['until'])})" if item["until"] else ""
        text += f"; {item['waiting']}{until}"
    return text


def _moment(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds / SECOND, UTC).isoformat()
