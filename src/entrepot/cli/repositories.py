"""`entrepot repository`: repositories and their policies."""

from typing import Any

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import (
    Columns,
    as_json,
    at_most,
    made,
    show_json,
    show_list,
    show_one,
    when,
    words,
    yes_no,
)
from entrepot.cli.pull_through import (
    FROM,
    UPSTREAM,
    choosing,
    new_upstream,
    setting,
    upstream_changes,
)
from entrepot.cli.session import open_session
from entrepot.cli.syncs import show_status, sync_repository
from entrepot.cli.undo import DELETED, restore_repository, undo


def _name(item: Json) -> tuple[str, str]:
    name = f"{item['organisation']['slug']}/{item['path']}"
    return name, name


_LIST: Columns = {
    "NAME": _name,
    "PUBLIC": yes_no("is_public"),
    "READ-ONLY": yes_no("is_read_only"),
    "PROJECT": "project.name",
    **FROM,
    "CREATED": when("created_at"),
}
_ONE: Columns = {
    "name": _name,
    "id": "id",
    "project": "project.id",
    "public": yes_no("is_public"),
    "read-only": yes_no("is_read_only"),
    "immutable tags": words("immutable_tags"),
    "protected tags": words("protected_tags"),
    "created": when("created_at"),
}
_WHO_PULLS = "Whether everybody may pull, without a token."
_immutable = click.option(
    "--immutable", multiple=True, metavar="PATTERN", help="Tags that neither move nor go: 'v*'."
)
_protect = click.option(
    "--protect", multiple=True, metavar="PATTERN", help="Tags that nobody can delete."
)


@click.group()
def repository() -> None:
    """Repositories. PATH is ORG/REPO; without an organisation, one of the default one."""


@repository.command("list")
@organisation_option
@click.option("--query", help="A part of the path.")
@click.option(
    "--deleted",
    is_flag=True,
    help="Those that were deleted and can be restored, and projects, instead.",
)
@at_most
@as_json
def list_repositories(
    organisation: str | None,
    query: str | None,
    limit: int | None,
    *,
    deleted: bool,
    as_json: bool,
) -> None:
    """List the repositories of an organisation."""
    if deleted and query:
        raise UsageError("--deleted lists all that can be restored, and takes no --query")
    session = open_session()
    slug = session.organisation(organisation)
    if deleted:
        gone = session.client.pages(at("organisations", slug, "deleted"), limit=limit)
        nothing = (f"nothing was deleted in {slug} that could be restored",)
        show_list(gone, DELETED, as_json=as_json, empty=nothing)
        return
    path = at("organisations", slug, "repositories")
    found = session.client.pages(path, limit=limit, query=query)
    empty = (
        f"no repository in {slug}" + (f" has {query} in its path" if query else " yet"),
        f"docker push {session.host}/{slug}/NAME:TAG",
    )
    show_list(found, _LIST, as_json=as_json, empty=empty)


@repository.command("create")
@click.argument("path")
@click.option("--public/--private", "is_public", default=False, help=_WHO_PULLS)
@_immutable
@_protect
@choosing
@as_json
def create_repository(
    path: str,
    immutable: tuple[str, ...],
    protect: tuple[str, ...],
    *,
    is_public: bool,
    as_json: bool,
    **options: Any,  # of `choosing`
) -> None:
    """Make an empty repository, or one that an upstream fills.

    A first push makes one as well.
    """
    upstream = new_upstream(options)
    session = open_session()
    slug, inner = session.place(path)
    body = {
        "path": inner,
        "is_public": is_public,
        "immutable_tags": list(immutable),
        "protected_tags": list(protect),
    } | ({"upstream": upstream} if upstream else {})
    found = session.client.create(at("organisations", slug, "repositories"), body)
    name = f"{slug}/{inner}"
    if upstream:
        comes_from = f"{found['upstream']['name']}/{found['upstream']['path']}"
        say(
            f"made repository {name}, filled from {comes_from}",
            f"docker pull {session.host}/{name}:TAG",
        )
    else:
        say(f"made repository {name}", f"docker push {session.host}/{name}:TAG")
    made(found, name, as_json=as_json)


@repository.command("show")
@click.argument("path")
@as_json
def show_repository(path: str, *, as_json: bool) -> None:
    """Show a repository and its policies."""
    found = open_session().repository(path)
    show_one(found, {**_ONE, **UPSTREAM} if found["upstream"] else _ONE, as_json=as_json)


@repository.command("set", short_help="Change a repository; what is not named stays.")
@click.argument("path")
@click.option("--public/--private", "is_public", default=None, help=_WHO_PULLS)
@click.option(
    "--read-only/--writable",
    "is_read_only",
    default=None,
    help="Whether nothing in it changes; pulls go on.",
)
@_immutable
@_protect
@click.option("--no-immutable", is_flag=True, help="Every tag may move.")
@click.option("--no-protect", is_flag=True, help="Every tag may be deleted.")
@setting
@as_json
def set_repository(
    path: str,
    immutable: tuple[str, ...],
    protect: tuple[str, ...],
    *,
    is_public: bool | None,
    is_read_only: bool | None,
    no_immutable: bool,
    no_protect: bool,
    as_json: bool,
    **options: Any,  # of `setting`
) -> None:
    """Change a repository; what is not named stays, patterns replace those before."""
    if (immutable and no_immutable) or (protect and no_protect):
        raise UsageError(
            "--immutable and --no-immutable, --protect and --no-protect exclude others"
        )
    named: dict[str, object] = {
        "is_public": is_public,
        "is_read_only": is_read_only,
        "immutable_tags": list(immutable) if immutable or no_immutable else None,
        "protected_tags": list(protect) if protect or no_protect else None,
        "upstream": upstream_changes(options) or None,
    }
    body = {name: value for name, value in named.items() if value is not None}
    if not body:
        raise UsageError("nothing to change; `entrepot repository set --help` lists what can be")
    session = open_session()
    found = session.client.change(at("repositories", session.repository(path)["id"]), body)
    say(f"changed repository {path}", command("repository", "show", path))
    if as_json:
        show_json(found)


@repository.command("rm")
@click.argument("path")
@yes_option
def delete_repository(path: str, *, yes: bool) -> None:
    """Delete a repository with all of its tags."""
    session = open_session()
    found = session.repository(path)
    name, _ = _name(found)
    confirm(f"Delete repository {name} with all of its tags?", yes=yes)
    until = session.client.delete(at("repositories", found["id"]))
    slug = found["organisation"]["slug"]
    how = undo(until, "repository", "restore", name)
    say(f"deleted repository {name}{how}", command("repository", "list", "--org", slug))


repository.add_command(restore_repository)
repository.add_command(sync_repository)
repository.add_command(show_status)
