"""`entrepot password`: one's own."""

import sys

import click

from entrepot.cli.asking import ask_secret, first_line, is_attended
from entrepot.cli.messages import UsageError, command, say
from entrepot.cli.session import open_session


@click.command()
@click.option("--stdin", "from_stdin", is_flag=True, help="Two lines: the present one, the new.")
def password(*, from_stdin: bool) -> None:
    """Choose a password, or another one. Who has none yet gives an empty present one."""
    session = open_session()
    if not from_stdin and not is_attended():
        raise UsageError("nobody is here to be asked for passwords", command("password", "--stdin"))
    if from_stdin:
        current, new = sys.stdin.readline().rstrip("\r\n"), first_line("new password")
    else:
        question = "Present password (empty: none yet)"
        current = ask_secret(question, "--stdin", may_be_empty=True)
        new = ask_secret("New password", "--stdin", twice=True)
    session.client.put("/password", {"current": current or None, "new": new})
    name = session.login.user if session.login else "NAME"
    say("changed your password", command("login", session.server, "--user", name))
