"""`entrepot user`: users of the server."""

import click

from entrepot.cli.asking import password
from entrepot.cli.client import at
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.options import password_option
from entrepot.cli.output import as_json, at_most, made, show_json, show_list, show_one, when, yes_no
from entrepot.cli.session import open_session

_LIST = {
    "NAME": "name",
    "ADMINISTRATOR": yes_no("is_administrator"),
    "DISABLED": yes_no("is_disabled"),
    "CREATED": when("created_at"),
}
_ONE = {
    "name": "name",
    "id": "id",
    "administrator": yes_no("is_administrator"),
    "password": yes_no("has_password"),
    "disabled": yes_no("is_disabled"),
    "created": when("created_at"),
}


@click.group()
def user() -> None:
    """Users of the server; for server administrators."""


@user.command("list")
@at_most
@as_json
def list_users(limit: int | None, *, as_json: bool) -> None:
    """List users."""
    found = open_session().client.pages("/users", limit=limit)
    empty = ("there are no users", command("user", "create", "NAME"))
    show_list(found, _LIST, as_json=as_json, empty=empty)


@user.command("create")
@click.argument("name")
@click.option("--administrator", is_flag=True, help="Of the whole server.")
@password_option
@as_json
def create_user(name: str, *, administrator: bool, password_stdin: bool, as_json: bool) -> None:
    """Make a user who logs in with a password. An invitation lets people choose their own."""
    session = open_session()
    body = {
        "name": name,
        "password": password(from_stdin=password_stdin, new=True),
        "is_administrator": administrator,
    }
    found = session.client.create("/users", body)
    say(f"made user {name}, who types:", command("login", session.server, "--user", name))
    made(found, found["name"], as_json=as_json)


@user.command("show")
@click.argument("name")
@as_json
def show_user(name: str, *, as_json: bool) -> None:
    """Show a user."""
    show_one(open_session().client.get(at("users", name)), _ONE, as_json=as_json)


@user.command("set")
@click.argument("name")
@click.option(
    "--administrator/--no-administrator",
    "is_administrator",
    default=None,
    help="Of the whole server.",
)
@click.option(
    "--disable/--enable", "is_disabled", default=None, help="Whether their tokens stop working."
)
@click.option("--password", "new_password", is_flag=True, help="Ask for a new password.")
@password_option
@as_json
def set_user(
    name: str,
    *,
    is_administrator: bool | None,
    is_disabled: bool | None,
    new_password: bool,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Change a user; what is not named stays."""
    body: dict[str, object] = {
        field: value
        for field, value in {
            "is_administrator": is_administrator,
            "is_disabled": is_disabled,
        }.items()
        if value is not None
    }
    if new_password or password_stdin:
        body["password"] = password(from_stdin=password_stdin, new=True)
    if not body:
        raise UsageError("nothing to change; `entrepot user set --help` lists what can be")
    found = open_session().client.change(at("users", name), body)
    say(f"changed user {name}", command("user", "show", name))
    if as_json:
        show_json(found)
