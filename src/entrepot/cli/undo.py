"""`entrepot tag history`, and the commands that undo: `tag`, `repository` and `project restore`."""

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from entrepot.cli.client import Client, Json, Missing, at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.moments import moment
from entrepot.cli.options import organisation_option
from entrepot.cli.output import (
    Cell,
    Columns,
    as_json,
    at_most,
    relative,
    show_json,
    show_list,
    when,
)
from entrepot.cli.session import open_session, split_tag
from entrepot.model.names import is_public_id

_SHOWN_LEFT = 10
_WORDS = {
    "push": "pushed over",
    "delete": "deleted",
    "manifest": "deleted with its manifest",
    "retention": "retention",
    "sync": "its upstream",
    "restore": "restored over",
    "repository": "deleted with its repository",
}


def _ended(item: Json) -> Cell:
    by, who = item["ended_by"], item["ended_who"]
    if by is None:
        return "", ""
    return str(_WORDS.get(by, by)) + (f" by {who}" if who else ""), by


def _restorable(item: Json) -> Cell:
    """Whether, and until when."""
    until = item["restorable_until"]
    if not item["is_restorable"]:
        return "no", "false"
    if item["until"] is None:
        return "", "true"
    return f"until {relative(until)}" if until else "yes", until or "true"


_HISTORY: Columns = {
    "VERSION": "version",
    "DIGEST": lambda item: (item["digest"][:19], item["digest"]),
    "FROM": when("from"),
    "UNTIL": when("until", never="now"),
    "ENDED": _ended,
    "RESTORABLE": _restorable,
}
DELETED: Columns = {
    "KIND": "kind",
    "NAME": "name",
    "ID": "id",
    "DELETED": when("deleted_at"),
    "RESTORABLE": lambda item: (
        f"until {relative(item['restorable_until'])}",
        item["restorable_until"],
    ),
}


def undo(until: str | None, *words: str) -> str:
    """How to undo what was just deleted, to be said behind it."""
    return f"; undo until {until or 'it is collected'}: {command(*words)}"


@click.command("history")
@click.argument("path", metavar="PATH:TAG")
@at_most
@as_json
def tag_history(path: str, limit: int | None, *, as_json: bool) -> None:
    """Show what a tag was, and whether it can be that again."""
    name, tag = _split(path, "history")
    session = open_session()
    listing = at("repositories", session.repository(name)["id"], "tags", tag, "history")
    found = session.client.pages(listing, limit=limit)
    show_list(found, _HISTORY, as_json=as_json, empty=(f"{name} never had a tag {tag}",))


@click.command("restore", short_help="Make a tag what it was, or bring a manifest back.")
@click.argument("path", metavar="PATH:TAG")
@click.option("--to", type=moment, metavar="DATE", help="What it was then: 2026-11-25, or 2h ago.")
@click.option("--version", type=click.IntRange(1), help="That version of `tag history`.")
@click.option(
    "--all-since",
    type=moment,
    metavar="DATE",
    help="Of PATH: every tag that retention removed since then.",
)
@as_json
def restore_tag(
    path: str, to: str | None, version: int | None, all_since: str | None, *, as_json: bool
) -> None:
    """Bring back a tag that was deleted, or make it what it was.

    PATH@DIGEST brings back a manifest with the tags that were deleted with it. Without a zone a
    DATE is of this machine's. What comes back counts as pushed now.
    """
    name, at_sign, digest = path.partition("@")
    if sum(each is not None for each in (to, version, all_since)) > 1:
        raise UsageError("--to, --version and --all-since exclude each other")
    if (at_sign or all_since) and (to or version):
        raise UsageError("a manifest is always the same; --to and --version are for tags")
    if at_sign:
        _restore_manifest(name, digest, as_json=as_json)
    elif all_since:
        _restore_all(path, all_since, as_json=as_json)
    else:
        _restore_tag(path, to, version, as_json=as_json)


def _restore_tag(path: str, to: str | None, version: int | None, *, as_json: bool) -> None:
    name, tag = _split(path, "restore")
    session = open_session()
    restoring = at("repositories", session.repository(name)["id"], "tags", tag, "restore")
    body = {"at": to, "version": version}
    wanted = {field: value for field, value in body.items() if value is not None}
    try:
        found = session.client.act(restoring, wanted)
    except Missing as error:
        why = error.message.partition("\n")[0]  # and then the list of what there is no lack of
        raise Missing(why, command("tag", "list", name), command("tag", "history", path)) from error
    if found["before"] == found["digest"]:
        say(f"{path} is {found['digest']} already")
    else:
        was = f", and was {found['before']}" if found["before"] else ""
        say(f"restored {path}: it is {found['digest']}{was}", command("tag", "history", path))
    if as_json:
        show_json(found)


def _restore_manifest(name: str, digest: str, *, as_json: bool) -> None:
    path, _ = split_tag(name)
    session = open_session()
    repository = session.repository(path)
    found = session.client.act(
        at("repositories", repository["id"], "manifests", digest, "restore"), {}
    )
    tags = f" with {', '.join(found['restored'])}" if found["restored"] else ""
    say(f"restored {path}@{found['digest']}{tags}", command("tag", "list", path))
    if found["left"]:
        left = ", ".join(found["left"][:_SHOWN_LEFT])
        say(
            f"left as they are, because they were pushed since: {left}",
            command("tag", "history", f"{path}:{found['left'][0]}"),
        )
    if as_json:
        show_json(found)


def _restore_all(path: str, since: str, *, as_json: bool) -> None:
    name, tag = split_tag(path)
    if tag is not None:
        raise UsageError(
            "--all-since is about a whole repository",
            command("tag", "restore", name, "--all-since", "DATE"),
        )
    session = open_session()
    restoring = at("repositories", session.repository(name)["id"], "retention", "restore")
    restored, left = _in_parts(session.client, restoring, since)
    say(f"restored {len(restored)} tags of {name}", command("tag", "list", name))
    if left:
        named = ", ".join(left[:_SHOWN_LEFT]) + (", …" if len(left) > _SHOWN_LEFT else "")
        say(f"{len(left)} are gone, or were pushed since: {named}")
    if as_json:
        show_json({"restored": restored, "left": left})


def _in_parts(client: Client, path: str, since: str) -> tuple[list[str], list[str]]:
    """All that the server restores, a part with each request. How many there are nobody knows."""
    restored: list[str] = []
    left: list[str] = []
    following: str | None = ""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("restoring", total=None)
        while following is not None:
            found = client.act(path, {"since": since, "after": following})
            restored += found["restored"]
            left += found["left"]
            following = found["next"]
            bar.update(task, description=f"{len(restored)} tags restored")
    return restored, left


@click.command("restore")
@click.argument("path")
@as_json
def restore_repository(path: str, *, as_json: bool) -> None:
    """Bring back a repository that was deleted, with its tags."""
    session = open_session()
    slug, inner = session.place(path)
    wanted = _deleted(session.client, slug, "repository", inner)
    found = session.client.act(at("repositories", wanted["id"], "restore"), {})
    say(
        f"restored repository {slug}/{inner} with its tags; projects that it was linked to have to"
        " be linked again",
        command("tag", "list", f"{slug}/{inner}"),
    )
    if as_json:
        show_json(found)


@click.command("restore")
@click.argument("project")
@organisation_option
@as_json
def restore_project(project: str, organisation: str | None, *, as_json: bool) -> None:
    """Bring back a project that was deleted, with its builds.

    Its tokens and its links to repositories are gone.
    """
    session = open_session()
    if not is_public_id(project):
        slug = session.organisation(organisation)
        project = _deleted(session.client, slug, "project", project)["id"]
    found = session.client.act(at("projects", project, "restore"), {})
    slug = found["organisation"]["slug"]
    say(
        f"restored project {found['name']} ({project}) with its builds; its tokens and links are"
        " gone, so make new ones:",
        command("token", "create", "--kind", "project", "--project", project, "--org", slug),
        command("project", "link", project, f"{slug}/PATH"),
    )
    if as_json:
        show_json(found)


def _deleted(client: Client, slug: str, kind: str, name: str) -> Json:
    """What was deleted under this name; the last of several. Raises Missing."""
    found = [
        deleted
        for deleted in client.pages(at("organisations", slug, "deleted"))
        if deleted["kind"] == kind and deleted["name"] == name
    ]
    if not found:
        message = f"no {kind} {name} was deleted in {slug} that could still be restored"
        raise Missing(message, command("repository", "list", "--deleted", "--org", slug))
    return max(found, key=lambda deleted: str(deleted["deleted_at"]))


def _split(path: str, verb: str) -> tuple[str, str]:
    name, tag = split_tag(path)
    if tag is None:
        raise UsageError(
            "which tag? say PATH:TAG",
            command("tag", verb, f"{path}:TAG"),
            command("tag", "list", path),
        )
    return name, tag
