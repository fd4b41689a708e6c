"""`entrepot admin gc`: collect now, and say what waits and why it does not go yet."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from entrepot.cli.client import Json
from entrepot.cli.data_folder import config_option, opened, settings_of_existing
from entrepot.cli.messages import say
from entrepot.cli.output import Columns, as_json, show_json, show_list, size, when
from entrepot.config import Settings
from entrepot.lifecycle import make_collection
from entrepot.model.clock import SECOND, SystemClock
from entrepot.parts import make_store
from entrepot.services.collection import Collected
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.collection_status import CollectionFacts, CollectionStatus
from entrepot.services.store_id import refuse_other_store
from entrepot.telemetry import logs

_WAITING: Columns = {
    "WHAT": "what",
    "WHY NOT YET": "why",
    "COUNT": "count",
    "SIZE": size("bytes"),
    "NEXT LOOK": when("next_at"),
}


@click.command("gc", short_help="Collect now, and show what waits.")
@click.option("--dry-run", is_flag=True, help="Only show what waits.")
@as_json
@config_option
def gc(config: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Collect what nothing relies on any more, and show what waits and why it does not go yet.

    Servers collect by themselves, and may run meanwhile. Exits with 1 where collection is stopped
    or the store refuses.
    """
    logs.configure("critical")  # the report says it all
    done, facts = asyncio.run(_run(settings_of_existing(config), dry_run=dry_run))
    if as_json:
        show_json({"collected": asdict(done), **_as_json(facts)})
    else:
        _tell(done, facts, dry_run=dry_run)
    if facts.stopped or facts.objects.refused or done.failed:
        raise SystemExit(1)


async def _run(settings: Settings, *, dry_run: bool) -> tuple[Collected, CollectionFacts]:
    clock, store = SystemClock(), make_store(settings)
    try:
        async with opened(settings) as database:
            await refuse_other_store(database, store)
            done = Collected()
            if not dry_run:
                with _progress() as progress:
                    work = make_collection(settings, clock, database, store)
                    done = await work.run(progress)
            guard = CollectionGuard(database, store)
            return done, await CollectionStatus(database, clock, guard).look()
    finally:
        store.close()


@contextmanager
def _progress() -> Iterator[Callable[[Collected], None]]:
    """How far it is, on a terminal; nobody knows how much there is, as what goes frees more."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("collecting", total=None)

        def show(done: Collected) -> None:
            text = f"{done.reviews} reviews, {done.objects} objects, {done.bytes_freed} bytes freed"
            bar.update(task, description=text)

        yield show


def _tell(done: Collected, facts: CollectionFacts, *, dry_run: bool) -> None:
    if facts.stopped:
        say(f"collection is stopped: {facts.stopped}")
    elif not dry_run:
        say(
            f"removed {done.manifests} manifests, {done.links} links, {done.objects} objects;"
            f" {done.bytes_freed} bytes freed"
        )
    if facts.oldest_due_at is not None:
        say(f"{facts.due} reviews are due, the oldest since {_moment(facts.oldest_due_at)}")
    show_list(
        _rows(facts),
        _WAITING,
        as_json=False,
        empty=("nothing waits",),
    )
    say(
        f"waiting: {facts.objects.size} bytes of objects, {facts.unused_bytes} bytes that nothing"
        f" needs, {facts.restorable_bytes} bytes that can be restored"
    )


def _rows(facts: CollectionFacts) -> Iterator[Json]:
    """What waits, a line for each kind and reason."""
    for found in facts.waiting:
        why = found.reason or ("due" if found.due == found.count else "its time has not come")
        next_at = _moment(found.oldest_due_at)
        yield {"what": found.kind, "why": why, "count": found.count, "next_at": next_at}
    objects = facts.objects
    if count := objects.count - objects.refused:
        yield {
            "what": "object",
            "why": "a pull may have begun before",
            "count": count,
            "bytes": objects.size - objects.refused_size,
            "next_at": _moment(objects.oldest_due_at),
        }
    if objects.refused:
        yield {
            "what": "object",
            "why": f"the store refused: {facts.store_error}",
            "count": objects.refused,
            "bytes": objects.refused_size,
        }


def _as_json(facts: CollectionFacts) -> Json:
    return {
        "stopped": facts.stopped,
        "due": facts.due,
        "oldest_due_at": _moment(facts.oldest_due_at),
        "waiting": list(_rows(facts)),
        "object_bytes": facts.objects.size,
        "unused_bytes": facts.unused_bytes,
        "restorable_bytes": facts.restorable_bytes,
        "days": [
            {
                "day": (_moment(day.at) or "")[:10],
                "manifests": day.manifests,
                "links": day.links,
                "objects": day.objects,
                "bytes": day.size,
            }
            for day in facts.days
        ],
    }


def _moment(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds / SECOND, UTC).isoformat()
