"""What would go by a policy, as a person reads it, and having it go."""

import sys
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from entrepot.cli.client import Client, Json, at
from entrepot.cli.messages import say
from entrepot.cli.output import Cell, Columns, show_list, size, when
from entrepot.model.retention import Retention
from entrepot.model.usage import readable

_SHOWN = 20
_PAGE = 1_000


def _name(item: Json) -> Cell:
    if item["tag"] is not None:
        return item["tag"], item["tag"]
    return f"(no tag) {item['digest'][:19]}", item["digest"]


def _goes(item: Json) -> Cell:
    """Whether it goes: `new` where it does not by the policy that holds."""
    if not item["goes"]:
        return "stays", "stays"
    return ("goes", "goes") if item["goes_now"] else ("goes, new", "new")


_COLUMNS: Columns = {
    "TAG": _name,
    "LAST PUSH": when("pushed_at"),
    "GOES": _goes,
    "WHY": "reason",
}
_REPOSITORIES: Columns = {
    "REPOSITORY": "name",
    "TAGS GO": "proposed.tags",
    "WITHOUT A TAG": "proposed.untagged",
    "MORE THAN NOW": "proposed.only",
    "FREES": size("proposed.freed_bytes"),
}


def preview(
    client: Client,
    repository: str,
    policy: Retention | None,
    *,
    everything: bool,
    limit: int | None,
    as_json: bool,
) -> tuple[list[Json], Json]:
    """What goes, or all that is looked at, and how much goes by this policy and by the other."""
    most = limit or (_SHOWN if sys.stdout.isatty() and not as_json else None)
    where = at("repositories", repository, "retention", "preview")
    body: Json = {"policy": body_of(policy) if policy else None}
    lines: list[Json] = []
    totals: Json = {}
    cursor = None
    while True:
        page = client.act(where, body, limit=_PAGE, cursor=cursor)
        if not totals:
            totals = {"proposed": page["proposed"], "present": page["present"]}
        lines += [item for item in page["items"] if everything or item["goes"]]
        cursor = page["next"]
        if (
            cursor is None
            or (most is not None and len(lines) >= most)
            or not _goes_on(totals, lines, everything=everything)
        ):
            return lines[:most], totals


def _goes_on(totals: Json, lines: list[Json], *, everything: bool) -> bool:
    """Whether a page behind these may have more to show."""
    proposed = totals["proposed"]
    return everything or len(lines) < proposed["tags"] + proposed["untagged"]


def show_preview(
    lines: list[Json], totals: Json, name: str, policy: str, *, everything: bool
) -> None:
    """The lines as a table, and the sums."""
    proposed, present = totals["proposed"], totals["present"]
    if lines:
        show_list(lines, _COLUMNS, as_json=False, empty=())
    count = proposed["tags"] + proposed["untagged"]
    if not everything and len(lines) < count:
        say(f"and {count - len(lines):,} more; --limit shows them")
    said = f"{summary(proposed)} would go from {name} by this policy: {policy}"
    changes = []
    if proposed["only"]:
        changes.append(f"{proposed['only']:,} more than by the policy that holds")
    if present["only"]:
        changes.append(f"{present['only']:,} that go by the policy that holds would stay")
    if changes:
        said += f"\n{'; '.join(changes)}"
    if count:
        said += f"\n{_freed(proposed)} become free when they can be restored no more"
    say(said)


def summary(went: Json) -> str:
    """How much went or would: `41 tags and 2 manifests without a tag`."""
    tags, untagged = went.get("tags", 0), went.get("untagged", 0)
    parts = []
    if tags or not untagged:
        parts.append("1 tag" if tags == 1 else f"{tags:,} tags")
    if untagged:
        words = "manifest" if untagged == 1 else "manifests"
        parts.append(f"{untagged:,} {words} without a tag")
    return " and ".join(parts)


def totals_of(client: Client, slug: str, policy: Retention) -> list[Json]:
    """What would go from each repository of an organisation that has no policy of its own."""
    found: list[Json] = []
    repositories = list(client.pages(at("organisations", slug, "repositories")))
    with _bar("looking", total=len(repositories)) as bar:
        for repository in repositories:
            where = at("repositories", repository["id"], "retention")
            if client.get(where)["own"] is None:
                body = {"policy": body_of(policy)}
                page = client.act(f"{where}/preview", body, limit=1)
                found.append(
                    {
                        "name": f"{slug}/{repository['path']}",
                        "proposed": page["proposed"],
                        "present": page["present"],
                    }
                )
            bar.advance(bar.task_ids[0])
    return found


def show_repositories(found: list[Json]) -> None:
    """The repositories from which more would go than now."""
    more = [each for each in found if each["proposed"]["only"]]
    show_list(more, _REPOSITORIES, as_json=False, empty=("nothing more goes",))


def run(client: Client, repository: str) -> Json:
    """Have everything go that does now; how much went. On a terminal a bar shows how far it is."""
    where = at("repositories", repository, "retention")
    expected = client.act(f"{where}/preview", {}, limit=1)["proposed"]
    removed: Json = {"tags": 0, "untagged": 0, "is_done": False}
    with _bar("removing", total=expected["tags"] + expected["untagged"]) as bar:
        goes_on = True
        while goes_on:
            ran = client.act(f"{where}/run", {})
            removed["tags"] += ran["tags"]
            removed["untagged"] += ran["untagged"]
            bar.update(bar.task_ids[0], completed=removed["tags"] + removed["untagged"])
            removed["is_done"] = ran["is_done"]
            # What took all of its time to find nothing would begin again where it began.
            goes_on = not ran["is_done"] and ran["tags"] + ran["untagged"] > 0
    return removed


def body_of(policy: Retention) -> Json:
    """A policy as the management API takes it."""
    return asdict(policy) | {"keep": list(policy.keep)}


def _bar(what: str, *, total: int) -> Progress:
    console = Console(stderr=True)
    bar = Progress(
        *(TextColumn(what), BarColumn(), MofNCompleteColumn()),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    bar.add_task(what, total=total)
    return bar


def _freed(totals: Json) -> str:
    return f"{'about' if totals['is_exact'] else 'at least'} {readable(totals['freed_bytes'])}"
