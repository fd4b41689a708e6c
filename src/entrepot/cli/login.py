"""`entrepot login`, `logout`, `whoami`: the credential that commands use."""

import os
from contextlib import suppress

import click

from entrepot.cli import stored
from entrepot.cli.asking import ask, ask_secret, first_line, is_attended, password
from entrepot.cli.client import Client, Json, NotKnown, at, read_server
from entrepot.cli.durations import lifetime, seconds
from entrepot.cli.messages import Refused, UsageError, command, say
from entrepot.cli.output import as_json, relative, show_one, when, yes_no
from entrepot.cli.session import current_server, open_session, require_safe
from entrepot.cli.stored import Login
from entrepot.model.clock import DAY

_LIFETIME = 90 * DAY


@click.command()
@click.argument("server", required=False)
@click.option("--token", help="The token itself; other users of this machine can see it.")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--user", help="Log in by name and password instead; makes a token.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option(
    "--expires",
    type=lifetime(longest=366 * DAY),
    default=None,
    help="Life of the token made with --user [90d].",
)
@click.option("--insecure", is_flag=True, help="Send the credential without TLS, to any machine.")
def login(
    server: str | None,
    token: str | None,
    user: str | None,
    expires: int | None,
    *,
    token_stdin: bool,
    password_stdin: bool,
    insecure: bool,
) -> None:
    """Store a credential for SERVER, and make it the current one.

    SERVER is ENTREPOT_SERVER, else http://localhost:5000, if it is not given.
    """
    if sum([token is not None, token_stdin, user is not None]) > 1:
        raise UsageError("--token, --token-stdin and --user exclude each other")
    if password_stdin and user is None:
        raise UsageError("--password-stdin goes with --user NAME")
    address = read_server(server) if server else current_server(stored.Stored())
    require_safe(address, is_insecure=insecure)
    if token_stdin:
        token = first_line("token")
    if token is None and user is None:
        if not is_attended():
            raise UsageError(
                "nobody is here to be asked for a token; say how to log in",
                f"{command('login', address, '--token-stdin')} < FILE",
                f"{command('login', address, '--user', 'NAME', '--password-stdin')} < FILE",
            )
        token = ask_secret("Token (empty: by name)", "--token-stdin", may_be_empty=True)
    is_made = not token
    if is_made:
        user = user or ask("Name", "--user NAME")
        secret = password(from_stdin=password_stdin)
        body = {"name": user, "password": secret, "expires_in": seconds(expires or _LIFETIME)}
        client = Client(address, instead=(command("login", address, "--user", user),))
        token = client.act("/login", body | {"token_name": _token_name()})["token"]
    enter(address, token or "", is_made=is_made, is_insecure=insecure)


def enter(server: str, token: str, *, is_made: bool, is_insecure: bool) -> None:
    """Keep a token that the server knows, and say what can be done with it."""
    try:
        who = Client(server, token).get("/whoami")
    except NotKnown as error:
        message = f"{server} does not know this token: it is wrong, has ended, or was revoked"
        raise Refused(message) from error
    name = who["user"]["name"] if who["user"] else who["token"]["name"]
    before = stored.load().logins.get(server)
    stored.keep(
        server,
        Login(
            token,
            user=name,
            made_token=who["token"]["id"] if is_made else "",
            organisation=before.organisation if before and before.user == name else "",
            is_insecure=is_insecure,
        ),
    )
    if before and before.made_token not in {"", who["token"]["id"]}:
        with suppress(Refused):  # it has ended by itself
            Client(server, before.token).delete(at("tokens", before.made_token))
    ends = who["token"]["expires_at"]
    life = f"the token ends {relative(ends)}" if ends else "the token has no end"
    say(f"logged in to {server} as {_described(who)}; {life}", *_first_steps(who))


def _first_steps(who: Json) -> tuple[str, ...]:
    """What may come after logging in, for somebody who can do this."""
    steps = [command("docker-login")]
    if who["user"] and who["user"]["is_administrator"]:
        steps.append(command("org", "create", "SLUG"))
    elif who["user"] and who["organisations"]:
        slug = who["organisations"][0]["slug"]
        steps.append(command("project", "create", "NAME", "--org", slug))
    return (*steps, command("whoami"))


@click.command()
@click.argument("server", required=False)
def logout(server: str | None) -> None:
    """Forget the credential for SERVER, and revoke it if `login` made it from a password."""
    kept = stored.load()
    address = read_server(server) if server else current_server(kept)
    login = kept.logins.get(address)
    if login is None:
        raise Refused(f"you are not logged in to {address}")
    try:
        if login.made_token:
            Client(address, login.token).delete(at("tokens", login.made_token))
    except NotKnown:
        pass  # it has ended already
    except Refused as error:
        stored.forget(address)
        raise Refused(
            f"forgot the credential for {address}, but could not revoke it: {error.message}"
        ) from error
    else:
        stored.forget(address)
    done = "revoked the token and logged out" if login.made_token else "logged out"
    say(f"{done} of {address}", command("login", address))


@click.command()
@as_json
def whoami(*, as_json: bool) -> None:
    """Show who you are to the server, and in which organisations."""
    session = open_session()
    who = session.client.get("/whoami") | {"server": session.server}
    columns = {
        "server": "server",
        "kind": "kind",
        "name": "user.name",
        "token": "token.id",
        "token name": "token.name",
        "token ends": when("token.expires_at"),
        "administrator": yes_no("user.is_administrator"),
        "organisations": _organisations,
    }
    show_one(who, columns, as_json=as_json)
    if "ENTREPOT_TOKEN" in os.environ:
        say("this is the token in ENTREPOT_TOKEN, whatever is stored")


def _organisations(who: Json) -> tuple[str, str]:
    found = [
        f"{organisation['slug']} ({organisation['role']})"
        if organisation.get("role")
        else organisation["slug"]
        for organisation in who["organisations"]
    ]
    return "\n".join(found) or "none", ",".join(o["slug"] for o in who["organisations"])


def _described(who: Json) -> str:
    if who["user"]:
        return str(who["user"]["name"])
    return f"{who['kind']} token {who['token']['name'] or who['token']['id']}"


def _token_name() -> str:
    return os.uname().nodename[:100]
