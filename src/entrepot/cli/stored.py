"""What `entrepot login` keeps: a credential for each server, and which server is the current one.

In `$XDG_CONFIG_HOME/entrepot/config.json`, which only its owner can read.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from entrepot.cli.messages import Refused
from entrepot.cli.private_files import read_object, write_private

DEFAULT_SERVER = "http://localhost:5000"


@dataclass(frozen=True, slots=True)
class Login:
    """A credential for a server.

    `made_token` is the id of the token if logging in made it; `organisation` is what `org use`
    chose; `is_insecure` says that plain HTTP to another machine was asked for.
    """

    token: str
    user: str = ""
    made_token: str = ""
    organisation: str = ""
    is_insecure: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """All of it."""

    current: str | None = None
    logins: dict[str, Login] = field(default_factory=dict)


def load() -> Stored:
    """What is stored. Raises Refused when it cannot be read."""
    path = config_file()
    found = read_object(path)
    known = {field.name for field in fields(Login)}
    try:
        return Stored(
            current=found.get("current"),
            logins={
                server: Login(**{name: value for name, value in login.items() if name in known})
                for server, login in found.get("servers", {}).items()
            },
        )
    except (AttributeError, TypeError) as error:
        raise Refused(f"{path} is not as we wrote it; move it away and log in again") from error


def keep(server: str, login: Login) -> None:
    """Store a credential; its server becomes the current one."""
    stored = load()
    _save(Stored(server, {**stored.logins, server: login}))


def forget(server: str) -> None:
    """Remove a server's credential; another one that is left becomes the current server."""
    stored = load()
    left = {name: login for name, login in stored.logins.items() if name != server}
    current = stored.current if stored.current in left else next(iter(left), None)
    _save(Stored(current, left))


def config_file() -> Path:
    """Where it is."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(folder).expanduser() / "entrepot" / "config.json"


def _save(stored: Stored) -> None:
    servers = {server: asdict(login) for server, login in stored.logins.items()}
    document = {"current": stored.current, "servers": servers}
    write_private(config_file(), json.dumps(document, indent=2) + "\n")
