"""`entrepot repository sync` and `status`: how a pull-through repository keeps up."""

import sys
import time

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from entrepot.cli.client import Client, Json, at
from entrepot.cli.messages import Refused, command, say
from entrepot.cli.output import Columns, as_json, show_json, show_list, show_one, when
from entrepot.cli.session import open_session

_LOOK_SECONDS = 0.5
_SHOWN_RUNS = 10
_RECENT_RUNS = 50


def _tags(item: Json) -> tuple[str, str]:
    return f"{item['done']} of {item['tags']}", f"{item['done']}/{item['tags']}"


_RUN: Columns = {
    "BEGAN": when("started_at"),
    "ENDED": when("ended_at", never="going on"),
    "CAUSE": "cause",
    "TAGS": _tags,
    "CHANGED": "changed",
    "REMOVED": "removed",
    "FAILED": "failed",
    "ERROR": "error",
}
_STATUS: Columns = {
    "name": lambda item: (f"{item['organisation']['slug']}/{item['path']}",) * 2,
    "upstream": lambda item: (f"{item['upstream']['name']}/{item['upstream']['path']}",) * 2,
    "freshness": lambda item: (
        "what the last sync left"
        if item["upstream"]["freshness"] == "sync"
        else f"{item['upstream']['freshness']} s",
        str(item["upstream"]["freshness"]),
    ),
    "sync": lambda item: (item["upstream"]["sync"] or "none", item["upstream"]["sync"] or ""),
    "last read": when("upstream.accessed_at"),
    "last synced": when("upstream.last_synced_at"),
    "last error": "upstream.last_sync_error",
}


@click.command("sync")
@click.argument("path")
@click.option("--wait", is_flag=True, help="Show how it goes until it ends; fail if it does.")
@as_json
def sync_repository(path: str, *, wait: bool, as_json: bool) -> None:
    """Bring a pull-through repository to what its upstream has now.

    Takes the tags that the repository was made or set to sync, or all of them.
    """
    session = open_session()
    found = session.repository(path)
    run = session.client.act(at("repositories", found["id"], "sync"), {})
    if wait:
        run = _watch(session.client, found["id"], run)
    if as_json:
        show_json(run)
    if run["ended_at"] is None:
        say(f"syncing {path}", command("repository", "status", path))
    elif run["error"]:
        raise Refused(run["error"], command("repository", "status", path))
    else:
        say(
            f"synced {path}: {run['tags']} tag{'s' * (run['tags'] != 1)},"
            f" {run['changed']} of them new or moved,"
            f" {run['removed']} removed"
        )


@click.command("status")
@click.argument("path")
@as_json
def show_status(path: str, *, as_json: bool) -> None:
    """Show how a repository keeps up with its upstream.

    Its last syncs as well.
    """
    session = open_session()
    found = session.repository(path)
    if found["upstream"] is None:
        raise Refused(
            f"{path} comes from no upstream: pushes fill it", command("repository", "show", path)
        )
    listing = at("repositories", found["id"], "sync-runs")
    if as_json:
        runs = list(session.client.pages(listing, limit=_RECENT_RUNS))
        show_json({"repository": found, "runs": runs})
        return
    show_one(found, _STATUS, as_json=False)
    click.echo()
    empty = ("it was never synced", command("repository", "sync", path))
    runs = list(session.client.pages(listing, limit=_SHOWN_RUNS))
    show_list(runs, _RUN, as_json=False, empty=empty, spare=("CAUSE", "REMOVED", "CHANGED"))


def _watch(client: Client, repository: str, run: Json) -> Json:
    """Wait for the end of a run; on a terminal a bar shows how far it came."""
    console = Console(stderr=True)
    columns = (TextColumn("syncing"), BarColumn(), MofNCompleteColumn(), TextColumn("tags"))
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("tags", total=None)
        while run["ended_at"] is None:
            time.sleep(_LOOK_SECONDS)
            listing = at("repositories", repository, "sync-runs")
            runs = client.pages(listing, limit=_RECENT_RUNS)
            run = next((each for each in runs if each["id"] == run["id"]), run)
            bar.update(task, completed=run["done"], total=run["tags"] or None)
    return run
