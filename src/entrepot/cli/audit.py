"""`entrepot audit`: who did what."""

import sys
from datetime import UTC, datetime, timedelta

import click

from entrepot.cli.client import Json, at
from entrepot.cli.durations import duration
from entrepot.cli.messages import UsageError, command, printable, repeated, say
from entrepot.cli.options import organisation_option
from entrepot.cli.output import as_json, show_list, when
from entrepot.cli.session import open_session

_LIMIT = 100
_TOKENS = frozenset({"org", "project", "pull"})  # who is no user


def _actor(item: Json) -> tuple[str, str]:
    kind, name = item["actor"]["kind"], item["actor"]["name"]
    return f"{name} ({kind} token)" if kind in _TOKENS else name or kind, name


_COLUMNS = {
    "WHEN": when("at"),
    "WHO": _actor,
    "DID": "action",
    "TO": "object.name",
    "FROM": "address",
    "TOKEN": "token",
}
_SPARE = ("TOKEN", "FROM")


@click.command()
@organisation_option
@click.option(
    "--server", "of_server", is_flag=True, help="The log of the server, not of an organisation."
)
@click.option("--action", help="Such as token.created.")
@click.option("--actor", help="Name of a user or token.")
@click.option("--object", "object_name", help="Name of what it was done to.")
@click.option("--since", type=duration, help="Such as 7d: no older than that.")
@click.option("--until", type=duration, help="Such as 1d: no newer than that.")
@click.option("--limit", type=click.IntRange(1), help=f"Events at most [{_LIMIT}].")
@click.option("--csv", "as_csv", is_flag=True, help="Print all events as CSV.")
@as_json
def audit(
    organisation: str | None,
    since: int | None,
    until: int | None,
    limit: int | None,
    object_name: str | None,
    *,
    of_server: bool,
    as_csv: bool,
    as_json: bool,
    **filters: str | None,
) -> None:
    """Show the audit log of an organisation, the newest events first; for administrators."""
    if as_csv and (as_json or limit):
        raise UsageError("--csv prints all events and takes neither --json nor --limit")
    session = open_session()
    slug = None if of_server else session.organisation(organisation)
    path = at("organisations", slug, "audit") if slug else "/audit"
    query = filters | {"object": object_name, "since": _ago(since), "until": _ago(until)}
    if as_csv:
        is_shown = sys.stdout.isatty()
        for text in session.client.text(path, **query, format="csv"):
            # A terminal would obey what somebody put into a name; a file gets it as it is.
            sys.stdout.write(printable(text.replace("\r\n", "\n")) if is_shown else text)
        return
    wanted = limit or _LIMIT
    found = list(session.client.pages(path, limit=wanted + 1, **query))
    empty = ("no such events", command("audit", "--help"))
    show_list(found[:wanted], _COLUMNS, as_json=as_json, empty=empty, spare=_SPARE)
    if len(found) > wanted:
        more = repeated() if limit else repeated("--limit", str(10 * wanted))
        say(f"there are more than these {wanted} events; ask for more with --limit", more)


def _ago(length: int | None) -> str | None:
    if length is None:
        return None
    return (datetime.now(UTC) - timedelta(microseconds=length)).isoformat()
