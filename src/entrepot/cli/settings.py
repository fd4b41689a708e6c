"""`entrepot settings`: what server administrators switch while the server runs."""

import click

from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.output import as_json, show_json, show_one, yes_no
from entrepot.cli.session import open_session


@click.group()
def settings() -> None:
    """Switches of the running server; for server administrators."""


@settings.command("show")
@as_json
def show_settings(*, as_json: bool) -> None:
    """Show the switches."""
    found = open_session().client.get("/settings")
    show_one(found, {"read-only": yes_no("is_read_only")}, as_json=as_json)


@settings.command("set", short_help="Let the whole server only be read, or be written again.")
@click.option(
    "--read-only/--writable",
    "is_read_only",
    default=None,
    help="Whether pushes and deletions are refused.",
)
@as_json
def set_settings(*, is_read_only: bool | None, as_json: bool) -> None:
    """Let the whole server only be read, or be written again; holds within 5 seconds."""
    if is_read_only is None:
        raise UsageError("nothing to change; say --read-only or --writable")
    found = open_session().client.change("/settings", {"is_read_only": is_read_only})
    if is_read_only:
        say(
            "pushes and deletions are refused, pulls go on",
            command("settings", "set", "--writable"),
        )
    else:
        say("pushes and deletions are taken", command("settings", "set", "--read-only"))
    if as_json:
        show_json(found)
