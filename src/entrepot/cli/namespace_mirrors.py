"""`entrepot mirror`: prefixes of an organisation's names that mirror a whole upstream."""

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, Missing, at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import (
    Columns,
    as_json,
    at_most,
    made,
    show_json,
    show_list,
    when,
    words,
    yes_no,
)
from entrepot.cli.session import Session, open_session


def _at(item: Json) -> tuple[str, str]:
    upstream = item["upstream"]["name"]
    text = f"{upstream}/{item['upstream_prefix']}" if item["upstream_prefix"] else upstream
    return text, text


_COLUMNS: Columns = {
    "PREFIX": "prefix",
    "UPSTREAM": _at,
    "ALLOW": words("allow"),
    "DENY": words("deny"),
    "PUBLIC": yes_no("is_public"),
    "FRESHNESS": lambda item: (f"{item['freshness']} s", str(item["freshness"])),
    "CREATED": when("created_at"),
}
_allow = click.option(
    "--allow",
    multiple=True,
    metavar="PATTERN",
    help="Paths there that it lets through: 'library/**' [all].",
)
_deny = click.option(
    "--deny", multiple=True, metavar="PATTERN", help="Paths there that it does not let through."
)
_freshness = click.option(
    "--freshness",
    type=click.IntRange(0),
    metavar="SECONDS",
    help="For how long a tag is not asked for again.",
)

_WHO_PULLS = "Whether everybody may pull what appears from now on, without a token."


@click.group()
def mirror() -> None:
    """Namespace mirrors: names below PREFIX come from an upstream as they are pulled.

    PREFIX is in an organisation: 'hub', or '/' for all of its names that nothing was pushed to.
    """


@mirror.command("add")
@click.argument("prefix")
@click.option("--upstream", required=True, metavar="NAME", help="The upstream to mirror.")
@click.option(
    "--upstream-prefix", default="", metavar="PATH", help="Mirror what is below this there."
)
@_allow
@_deny
@_freshness
@click.option("--public/--private", "is_public", default=False, help=_WHO_PULLS)
@organisation_option
@as_json
def add_mirror(
    prefix: str,
    upstream: str,
    upstream_prefix: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    freshness: int | None,
    organisation: str | None,
    *,
    is_public: bool,
    as_json: bool,
) -> None:
    """Mirror an upstream at a prefix."""
    session = open_session()
    slug = session.organisation(organisation)
    body: Json = {
        "prefix": prefix,
        "upstream": upstream,
        "upstream_prefix": upstream_prefix,
        "allow": list(allow),
        "deny": list(deny),
        "is_public": is_public,
    }
    if freshness is not None:
        body["freshness"] = freshness
    found = session.client.create(at("organisations", slug, "mirrors"), body)
    below = found["prefix"].strip("/")
    name = "/".join(part for part in (session.host, slug, below, "NAME:TAG") if part)
    say(f"{slug} mirrors {upstream} at {found['prefix']}", f"docker pull {name}")
    made(found, found["prefix"], as_json=as_json)


@mirror.command("list")
@organisation_option
@at_most
@as_json
def list_mirrors(organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List the namespace mirrors of an organisation."""
    session = open_session()
    slug = session.organisation(organisation)
    found = session.client.pages(at("organisations", slug, "mirrors"), limit=limit)
    empty = (
        f"{slug} has no namespace mirrors",
        command("mirror", "add", "PREFIX", "--upstream", "NAME", "--org", slug),
    )
    show_list(found, _COLUMNS, as_json=as_json, empty=empty, spare=("CREATED", "FRESHNESS"))


@mirror.command("set", short_help="Change a mirror; what is not named stays.")
@click.argument("prefix")
@_allow
@_deny
@_freshness
@click.option("--allow-all", is_flag=True, help="It lets through all that is not denied.")
@click.option("--no-deny", is_flag=True, help="Nothing is denied.")
@click.option("--public/--private", "is_public", default=None, help=_WHO_PULLS)
@organisation_option
@as_json
def set_mirror(
    prefix: str,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    freshness: int | None,
    organisation: str | None,
    *,
    allow_all: bool,
    no_deny: bool,
    is_public: bool | None,
    as_json: bool,
) -> None:
    """Change a mirror; what is not named stays, patterns replace those before."""
    if (allow and allow_all) or (deny and no_deny):
        raise UsageError("--allow and --allow-all, --deny and --no-deny exclude each other")
    named = {
        "allow": list(allow) if allow or allow_all else None,
        "deny": list(deny) if deny or no_deny else None,
        "freshness": freshness,
        "is_public": is_public,
    }
    body = {name: value for name, value in named.items() if value is not None}
    if not body:
        raise UsageError("nothing to change; `entrepot mirror set --help` lists what can be")
    session = open_session()
    wanted = _find(session, session.organisation(organisation), prefix)
    found = session.client.change(at("mirrors", wanted["id"]), body)
    say(
        f"changed the mirror at {found['prefix']}",
        command("mirror", "list", "--org", found["organisation"]),
    )
    if as_json:
        show_json(found)


@mirror.command("rm")
@click.argument("prefix")
@organisation_option
@yes_option
def remove_mirror(prefix: str, organisation: str | None, *, yes: bool) -> None:
    """End a mirror; repositories that were pulled through it stay."""
    session = open_session()
    slug = session.organisation(organisation)
    wanted = _find(session, slug, prefix)
    what = f"{wanted['prefix']} of {slug} ({wanted['upstream']['name']})"
    confirm(f"End the mirror at {what}?", yes=yes)
    session.client.delete(at("mirrors", wanted["id"]))
    say(
        f"ended the mirror at {what}; what was pulled through it stays",
        command("repository", "list", "--org", slug),
    )


def _find(session: Session, slug: str, prefix: str) -> Json:
    """The mirror at a prefix, read so that a change notices another. Raises Missing."""
    wanted = prefix.strip("/") or "/"
    for found in session.client.pages(at("organisations", slug, "mirrors")):
        if found["prefix"] == wanted:
            return session.client.get(at("mirrors", found["id"]))
    raise Missing(f"{slug} has no mirror at {wanted}", command("mirror", "list", "--org", slug))
