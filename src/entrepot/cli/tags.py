"""`entrepot tag`: the tags of a repository."""

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, Missing, at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import yes_option
from entrepot.cli.output import (
    Columns,
    as_json,
    at_most,
    show_json,
    show_list,
    show_one,
    size,
    when,
)
from entrepot.cli.session import Session, open_session, split_tag
from entrepot.cli.undo import restore_tag, tag_history, undo

_INDEXES = ("image.index.v1+json", "manifest.list.v2+json")


def _type(item: Json) -> tuple[str, str]:
    found: str = item["media_type"]
    return "index" if found.endswith(_INDEXES) else "manifest", found


_LIST: Columns = {
    "TAG": "name",
    "DIGEST": lambda item: (item["digest"][:19], item["digest"]),
    "TYPE": _type,
    "PUSHED": when("pushed_at"),
    "PULLED": when("pulled_at"),
    "EXPIRES": when("expires_at", never=""),
}


def _platforms(item: Json) -> tuple[str, str]:
    found = [
        "/".join(filter(None, (each["os"], each["architecture"], each.get("variant"))))
        for each in item.get("platforms") or []
    ]
    return ", ".join(found), ",".join(found)


_ONE: Columns = {
    "tag": "name",
    "digest": "digest",
    "media type": "media_type",
    "artifact type": "manifest.artifact_type",
    "pushed": when("pushed_at"),
    "pulled": when("pulled_at"),
    "expires": when("expires_at", never="as the retention of the repository says"),
    "platforms": lambda item: _platforms(item["manifest"]),
    "layers": lambda item: (str(len(item["manifest"]["layers"])),) * 2,
    "bytes of layers": size("size_of_layers"),
    "also tagged": lambda item: (
        (", ".join(name for name in item["manifest"]["tags"] if name != item["name"]),) * 2
    ),
}


@click.group()
def tag() -> None:
    """Tags of a repository. PATH is ORG/REPO; without an organisation, of the default one."""


@tag.command("list")
@click.argument("path")
@click.option("--prefix", help="Only tags that begin so.")
@at_most
@as_json
def list_tags(path: str, prefix: str | None, limit: int | None, *, as_json: bool) -> None:
    """List tags."""
    session = open_session()
    name, tag = split_tag(path)
    found = session.repository(name)
    path_of_tags = at("repositories", found["id"], "tags")
    tags = session.client.pages(path_of_tags, limit=limit, prefix=prefix or tag)
    empty = (f"{name} has no such tags", f"docker push {session.host}/{name}:TAG")
    show_list(tags, _LIST, as_json=as_json, empty=empty, spare=("TYPE", "PULLED"))


@tag.command("show")
@click.argument("path", metavar="PATH:TAG")
@as_json
def show_tag(path: str, *, as_json: bool) -> None:
    """Show what a tag names now."""
    session = open_session()
    repository, found = _find(session, path)
    manifest = session.client.get(
        at("repositories", repository["id"], "manifests", found["digest"])
    )
    size_of_layers = sum(layer["size"] for layer in manifest["layers"])
    whole = found | {"size_of_layers": size_of_layers, "manifest": manifest}
    show_one(whole, _ONE, as_json=as_json)


@tag.command("rm")
@click.argument("path", metavar="PATH:TAG")
@yes_option
@as_json
def remove_tag(path: str, *, yes: bool, as_json: bool) -> None:
    """Delete a tag; what it named stays until it is collected."""
    session = open_session()
    repository, found = _find(session, path)
    confirm(f"Delete {path}, which is {found['digest'][:19]}?", yes=yes)
    until = session.client.delete(at("repositories", repository["id"], "tags", found["name"]))
    how = undo(until, "tag", "restore", path)
    name, _ = split_tag(path)
    say(f"deleted {path}, which was {found['digest']}{how}", command("tag", "list", name))
    if as_json:
        show_json(found)


def _find(session: Session, path: str) -> tuple[Json, Json]:
    """The repository and the tag of PATH:TAG."""
    name, tag = split_tag(path)
    if tag is None:
        verb = click.get_current_context().info_name or ""
        raise UsageError(
            "which tag? say PATH:TAG",
            command("tag", verb, f"{path}:TAG"),
            command("tag", "list", path),
        )
    repository = session.repository(name)
    found = session.client.find(at("repositories", repository["id"], "tags", tag))
    if found is None:
        raise Missing(f"{name} has no tag {tag}", command("tag", "list", name))
    return repository, found


tag.add_command(tag_history)
tag.add_command(restore_tag)
