"""`entrepot join`: take an invitation."""

import os
from urllib.parse import urlsplit

import click

from entrepot.cli import stored
from entrepot.cli.asking import ask, password
from entrepot.cli.client import Client, Json, read_server
from entrepot.cli.login import enter
from entrepot.cli.messages import command, say
from entrepot.cli.options import password_option
from entrepot.cli.output import as_json, show_json
from entrepot.cli.session import current_server, require_safe


@click.command()
@click.argument("link")
@click.option("--user", help="Be a new user of this name, whoever is logged in.")
@password_option
@click.option("--insecure", is_flag=True, help="Send the password without TLS, to any machine.")
@as_json
def join(
    link: str, user: str | None, *, password_stdin: bool, insecure: bool, as_json: bool
) -> None:
    """Join the organisation that LINK invites to, as who you are or as a new user."""
    kept = stored.load()
    server, secret = _read_link(link, current_server(kept))
    login = kept.logins.get(server)
    require_safe(server, is_insecure=insecure or (login is not None and login.is_insecure))
    token = login.token if login else None
    if server == current_server(kept):  # no other server gets to see it, whatever a link says
        token = os.environ.get("ENTREPOT_TOKEN") or token
    body: Json = {"invitation": secret}
    if user is not None or token is None:
        if user is None:
            say(
                f"this makes a new user of {server}; if you are one already, log in first",
                command("login", server),
            )
        token = None
        body["name"] = user or ask("Name for your new user", "--user NAME --password-stdin")
        body["password"] = password(from_stdin=password_stdin, new=True)
    found = Client(server, token).act("/invitations/accept", body)
    slug = found["organisation"]["slug"]
    joined = f"you are {found['role']} of {slug} now"
    if found.get("token"):
        say(joined)
        enter(server, found["token"], is_made=True, is_insecure=insecure)  # says what comes next
    else:
        say(
            joined,
            command("project", "create", "NAME", "--org", slug),
            command("repository", "list", "--org", slug),
        )
    if as_json:
        show_json(found)


def _read_link(link: str, server: str) -> tuple[str, str]:
    """The server and the secret of a link; a bare secret is for the current server."""
    parts = urlsplit(link)
    secret = parts.fragment if "://" in link else link
    if not secret:
        raise click.BadParameter(f"{link or 'nothing'} holds no invitation", param_hint="LINK")
    if "://" not in link:
        return server, secret
    return read_server(f"{parts.scheme}://{parts.netloc}"), secret
