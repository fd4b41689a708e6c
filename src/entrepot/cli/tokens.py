"""`entrepot token` and `entrepot pull-token`: credentials for programs."""

import click

from entrepot.cli.asking import confirm
from entrepot.cli.client import Json, at
from entrepot.cli.durations import lifetime, seconds
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import organisation_option, yes_option
from entrepot.cli.output import (
    as_json,
    at_most,
    made,
    relative,
    show_list,
    show_one,
    when,
    words,
    yes_no,
)
from entrepot.cli.scopes import read_scopes
from entrepot.cli.session import Session, open_session

_LIST = {
    "ID": "id",
    "KIND": "kind",
    "NAME": "name",
    "MAY": words("actions", "all"),
    "WHERE": words("patterns", "all"),
    "ENDS": when("expires_at"),
    "USED": when("last_used_at"),
}
_ONE = {
    "id": "id",
    "kind": "kind",
    "name": "name",
    "user": "user",
    "organisation": "organisation",
    "project": "project",
    "may": words("actions", "all that its kind may"),
    "where": words("patterns", "all that its kind reaches"),
    "manages": yes_no("may_manage"),
    "made": when("created_at"),
    "made by": "created_by",
    "ends": when("expires_at"),
    "last used": when("last_used_at"),
    "revoked": when("revoked_at"),
}


@click.group()
def token() -> None:
    """Tokens: what programs and people prove themselves with."""


@token.command("list", short_help="List your own tokens, or an organisation's.")
@click.option("--org", "organisation", help="Those of an organisation, not your own.")
@at_most
@as_json
def list_tokens(organisation: str | None, limit: int | None, *, as_json: bool) -> None:
    """List your own tokens, or with --org an organisation's, the newest first."""
    path = at("organisations", organisation, "tokens") if organisation else "/tokens"
    found = open_session().client.pages(path, limit=limit)
    to_make = ("--kind", "org", "--org", organisation) if organisation else ("--kind", "user")
    empty = ("there are no tokens", command("token", "create", *to_make))
    show_list(found, _LIST, as_json=as_json, empty=empty)


@token.command("create")
@click.option(
    "--kind",
    type=click.Choice(["user", "org", "project", "pull"]),
    required=True,
    help="Your own; an organisation's; a project's; one that only pulls.",
)
@organisation_option
@click.option("--project", help="Id or name, for --kind project and pull.")
@click.option("--expires", type=lifetime(), help="Such as 90d; pull tokens live 1h by default.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="PATTERN or PATTERN:ACTIONS, such as 'team/*:pull,push'; may be repeated.",
)
@click.option("--name", default="", help="What it is for.")
@click.option("--manage", is_flag=True, help="An organisation's token that may administer it.")
@as_json
def create_token(
    kind: str,
    organisation: str | None,
    project: str | None,
    expires: int | None,
    scopes: tuple[str, ...],
    name: str,
    *,
    manage: bool,
    as_json: bool,
) -> None:
    """Make a token and print it, alone, on standard output. It is shown once."""
    patterns, actions = read_scopes(scopes)
    if project and kind not in {"project", "pull"}:
        raise UsageError("--project goes with --kind project and --kind pull")
    if kind == "project" and not project:
        raise UsageError("a project token needs --project", command("project", "list"))
    if manage and kind != "org":
        raise UsageError("--manage goes with --kind org")
    session = open_session()
    body: Json = {
        "name": name,
        "expires_in": seconds(expires),
        "patterns": list(patterns) if patterns else None,
        "actions": sorted(actions) if actions else None,
    }
    if kind == "user":
        path = "/tokens"
    else:
        path, limits = _place(session, organisation, project)
        body |= limits | {"kind": kind, "may_manage": manage}
    found = session.client.create(path, body)
    say(
        f"made token {found['id']}, {_ends(found)}; it is shown only now",
        f"docker login {session.host} -u x-token",
        *_afterwards(kind, found),
        command("token", "revoke", found["id"]),
    )
    made(found, found["token"], as_json=as_json)


@token.command("show")
@click.argument("token_id", metavar="ID")
@as_json
def show_token(token_id: str, *, as_json: bool) -> None:
    """Show a token: all but its secret, which nobody has."""
    show_one(open_session().client.get(at("tokens", token_id)), _ONE, as_json=as_json)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@yes_option
def revoke_token(token_id: str, *, yes: bool) -> None:
    """End a token for good, everywhere within 10 seconds."""
    session = open_session()
    found = session.client.get(at("tokens", token_id))
    used = f"last used {relative(found['last_used_at'])}" if found["last_used_at"] else "never used"
    confirm(f"Revoke the {found['kind']} token {found['name'] or token_id}, {used}?", yes=yes)
    session.client.delete(at("tokens", token_id))
    of = () if found["kind"] == "user" else ("--org", found["organisation"])
    say("revoked; it stops working within 10 seconds", command("token", "list", *of))


@click.command("pull-token")
@organisation_option
@click.option("--project", help="Id or name: only its builds and what it is linked to.")
@click.option("--repository", "patterns", multiple=True, metavar="PATTERN", help="Only these.")
@click.option("--expires", type=lifetime(), default="1h", show_default=True)
@as_json
def pull_token(
    organisation: str | None,
    project: str | None,
    patterns: tuple[str, ...],
    expires: int,
    *,
    as_json: bool,
) -> None:
    """Make a token that can only pull, for an hour, and print it, alone."""
    session = open_session()
    found = make_pull_token(session, organisation, project, patterns, expires, name="")
    say(
        f"made pull token {found['id']}, {_ends(found)}",
        f"docker login {session.host} -u x-token",
    )
    made(found, found["token"], as_json=as_json)


def make_pull_token(
    session: Session,
    organisation: str | None,
    project: str | None,
    patterns: tuple[str, ...],
    expires: int,
    *,
    name: str,
) -> Json:
    """A token that only pulls, and its secret."""
    path, limits = _place(session, organisation, project)
    body = {
        "kind": "pull",
        "name": name,
        "expires_in": seconds(expires),
        "patterns": list(patterns) or None,
    }
    return session.client.create(path, body | limits)


def _place(session: Session, organisation: str | None, project: str | None) -> tuple[str, Json]:
    """Where a token is made, and the project that it is limited to."""
    if project is None:
        return at("organisations", session.organisation(organisation), "tokens"), {}
    found = session.project(project, organisation)
    return at("organisations", found["organisation"]["slug"], "tokens"), {"project": found["id"]}


def _afterwards(kind: str, found: Json) -> list[str]:
    """What else comes with a token of this kind."""
    match kind:
        case "project":
            return [command("kubernetes-secret", "NAME", "--project", found["project"])]
        case "org":
            return [command("kubernetes-secret", "NAME", "--org", found["organisation"])]
        case _:
            return []


def _ends(found: Json) -> str:
    if found["expires_at"] is None:
        return "which has no end (--expires 90d gives it one)"
    return f"which ends {relative(found['expires_at'])}"
