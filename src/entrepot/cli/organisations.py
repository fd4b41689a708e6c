"""`entrepot org`: organisations."""

from dataclasses import replace

import click

from entrepot.cli import stored
from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import yes_option
from entrepot.cli.output import (
    Cell,
    Column,
    as_json,
    at_most,
    made,
    show_json,
    show_list,
    show_one,
    when,
    yes_no,
)
from entrepot.cli.session import open_session
from entrepot.cli.sizes import size
from entrepot.model.retention import Retention
from entrepot.model.usage import readable

_NO_LIMIT = "none"


def _quota(what: str) -> Column:
    """A limit and what it limits; the bytes as people write them."""

    def cell(item: Json) -> Cell:
        limit = item["quota"][what]
        if limit is None:
            return "no limit", ""
        return (readable(limit) if what == "bytes" else f"{limit:,}"), str(limit)

    return cell


def _bytes_limit(text: str) -> int | str:
    return text if text == _NO_LIMIT else size(text)


def _limit(text: str) -> int | str:
    if text != _NO_LIMIT and not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"{text!r} is neither a number nor {_NO_LIMIT}")
    return text if text == _NO_LIMIT else int(text)


def _retention(item: Json) -> tuple[str, str]:
    """What holds, in words; of the server's, that it is."""
    kept = str(Retention.parse(item["effective_retention"]))
    return (kept if item["retention"] else f"as the server has it: {kept}"), kept


_LIST = {"SLUG": "slug", "NAME": "name", "ID": "id", "CREATED": when("created_at")}
_ONE = {
    "slug": "slug",
    "name": "name",
    "id": "id",
    "created": when("created_at"),
    "repositories are made by": "repository_creation",
    "public repositories": yes_no("allows_public"),
    "read-only": yes_no("is_read_only"),
    "pushed tags are kept": _retention,
    "price per GB-month": "price_per_gb_month",
    "quota of bytes": _quota("bytes"),
    "quota of repositories": _quota("repositories"),
    "quota of tags": _quota("tags"),
}


@click.group()
def org() -> None:
    """Organisations: who owns repositories, projects and tokens."""


@org.command("list")
@at_most
@as_json
def list_organisations(limit: int | None, *, as_json: bool) -> None:
    """List the organisations that you may see."""
    found = open_session().client.pages("/organisations", limit=limit)
    empty = ("you are in no organisation yet", command("join", "LINK"))
    show_list(found, _LIST, as_json=as_json, empty=empty)


@org.command("create", short_help="Make an organisation; for server administrators.")
@click.argument("slug")
@click.option("--name", default="", help="Its name for people.")
@click.option("--id", "public_id", help="An id of your own, when you move from another registry.")
@as_json
def create_organisation(slug: str, name: str, public_id: str | None, *, as_json: bool) -> None:
    """Make an organisation, which you own; for server administrators."""
    body = {"slug": slug, "name": name} | ({"id": public_id} if public_id else {})
    found = open_session().client.create("/organisations", body)
    say(
        f"made organisation {slug}",
        command("member", "invite", "--org", slug),
        command("project", "create", "NAME", "--org", slug),
        command("org", "use", slug),
    )
    made(found, found["id"], as_json=as_json)


@org.command("show")
@click.argument("slug", required=False, envvar="ENTREPOT_ORG")
@as_json
def show_organisation(slug: str | None, *, as_json: bool) -> None:
    """Show an organisation and its settings."""
    session = open_session()
    found = session.client.get(at("organisations", session.organisation(slug)))
    show_one(found, _ONE, as_json=as_json)


@org.command("set")
@click.argument("slug", required=False, envvar="ENTREPOT_ORG")
@click.option("--name", help="Its name for people.")
@click.option(
    "--repository-creation",
    type=click.Choice(["member", "admin"]),
    help="The lowest role whose first push makes a repository.",
)
@click.option(
    "--allow-public/--no-public",
    "allows_public",
    default=None,
    help="Whether its repositories may be public.",
)
@click.option(
    "--read-only/--writable",
    "is_read_only",
    default=None,
    help="Whether nothing in it changes; pulls go on.",
)
@click.option("--price", "price_per_gb_month", help="Per GB-month, such as 0.20; for owners.")
@click.option(
    "--quota-bytes", type=_bytes_limit, metavar="SIZE", help="Such as 100GB, or none; for owners."
)
@click.option(
    "--quota-repositories", type=_limit, metavar="N", help="A number, or none; for owners."
)
@click.option("--quota-tags", type=_limit, metavar="N", help="A number, or none; for owners.")
@as_json
def set_organisation(slug: str | None, *, as_json: bool, **settings: object) -> None:
    """Change an organisation; what is not named stays."""
    given = {name: value for name, value in settings.items() if value is not None}
    limits = {
        name.removeprefix("quota_"): None if value == _NO_LIMIT else value
        for name, value in given.items()
        if name.startswith("quota_")
    }
    body: Json = {name: value for name, value in given.items() if not name.startswith("quota_")}
    if limits:
        body["quota"] = limits
    if not body:
        raise UsageError("nothing to change; `entrepot org set --help` lists what can be")
    session = open_session()
    wanted = session.organisation(slug)
    found = session.client.change(at("organisations", wanted), body)
    say(f"changed organisation {wanted}", command("org", "show", wanted))
    if as_json:
        show_json(found)


@org.command("delete", short_help="Delete an organisation with all that is in it.")
@click.argument("slug")
@yes_option
def delete_organisation(slug: str, *, yes: bool) -> None:
    """Delete an organisation with all that is in it; nobody gets its slug again."""
    session = open_session()
    session.client.get(at("organisations", slug))
    confirm(f"Delete organisation {slug} with all of its repositories and tokens?", yes=yes)
    session.client.delete(at("organisations", slug))
    say(f"deleted organisation {slug}", command("org", "list"))


@org.command("use", short_help="Choose the organisation that commands mean.")
@click.argument("slug")
def use_organisation(slug: str) -> None:
    """Choose the organisation that commands mean when --org is not given."""
    session = open_session()
    found = session.client.get(at("organisations", slug))
    if session.login is None:
        raise UsageError("nothing is stored for this server; set ENTREPOT_ORG instead")
    stored.keep(session.server, replace(session.login, organisation=found["slug"]))
    slug = found["slug"]
    say(
        f"without --org, commands now mean {slug}; the name of a repository still begins with its"
        f" organisation, as for docker: {slug}/REPO",
        command("repository", "list"),
    )


@org.command("break-glass", short_help="Become an owner for an hour; for server administrators.")
@click.argument("slug")
@click.option("--reason", required=True, help="Why; its audit log keeps it.")
@yes_option
def break_glass(slug: str, reason: str, *, yes: bool) -> None:
    """Become an owner for an hour, for server administrators; its audit log says so."""
    session = open_session()
    confirm(f"Become an owner of {slug} for an hour? Its members will see that.", yes=yes)
    session.client.act(at("organisations", slug, "break-glass"), {"reason": reason})
    say(f"you own {slug} for an hour", command("repository", "list", "--org", slug))
