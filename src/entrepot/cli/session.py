"""What a command begins with: which server, who asks, which organisation, which repository."""

import os
from dataclasses import dataclass

from entrepot.cli import stored
from entrepot.cli.client import Client, Json, Missing, at, is_loopback, read_server
from entrepot.cli.messages import Refused, UsageError, command
from entrepot.cli.stored import DEFAULT_SERVER, Login
from entrepot.model.access import Kind
from entrepot.model.names import is_public_id

# The organisation of names that name none; the first start of every server makes it.
DEFAULT_ORGANISATION = "main"


@dataclass(frozen=True, slots=True)
class Session:
    """A server, and a credential for it."""

    client: Client
    server: str
    token: str
    login: Login | None

    @property
    def host(self) -> str:
        """The server as docker names it."""
        return self.server.partition("://")[2]

    def organisation(self, given: str | None) -> str:
        """The organisation that is meant: given, chosen once, or the only one."""
        if given:
            return given
        if self.login and self.login.organisation:
            return self.login.organisation
        who = self.client.get("/whoami")
        slugs = [found["slug"] for found in who["organisations"]]
        if len(slugs) == 1:
            return str(slugs[0])
        if not slugs:
            self._refuse_mere_content(who)
            message = "you are in no organisation; ask somebody to invite you"
            raise Refused(message, command("join", "LINK"))
        raise UsageError(
            f"say which organisation with --org: {', '.join(slugs)}",
            *(command("org", "use", slug) for slug in slugs[:3]),
        )

    def repository(self, path: str) -> Json:
        """The repository that `path` names, as the registry reads names. Raises Missing."""
        organisation, inner = self.place(path)
        listing = at("organisations", organisation, "repositories")
        for found in self.client.pages(listing, limit=1, path=inner):
            return found
        raise Missing(
            f"there is no repository {organisation}/{inner}, or none that you may see",
            command("repository", "list", "--org", organisation),
        )

    def place(self, path: str) -> tuple[str, str]:
        """The organisation that `path` is in, and the path within it."""
        path, _ = split_tag(path)
        path = path.removeprefix(f"{self.host}/")
        first, _, rest = path.partition("/")
        if rest and self.client.find(at("organisations", first)) is not None:
            return first, rest
        if not rest and is_public_id(first):
            project = self.client.find(at("projects", first))
            if project is not None:
                return project["organisation"]["slug"], first
        if self.client.find(at("organisations", DEFAULT_ORGANISATION)) is None:
            self._refuse_mere_content(self.client.get("/whoami"))
            message = f"there is no organisation {first}, or none that you may see; name ORG/REPO"
            raise Missing(message, command("org", "list"))
        return DEFAULT_ORGANISATION, path

    def _refuse_mere_content(self, who: Json) -> None:
        """Some tokens see no organisation, and so nothing that is managed. Raises Refused."""
        if who["kind"] in {Kind.PROJECT, Kind.PULL}:
            message = f"this is a {who['kind']} token, which only moves images; log in as a user"
            raise Refused(message, command("login", self.server))

    def project(self, text: str, organisation: str | None = None) -> Json:
        """A project by its id, or by its name where one project has it. Raises Missing."""
        if is_public_id(text) and (found := self.client.find(at("projects", text))):
            return found
        within = self.organisation(organisation)
        listing = at("organisations", within, "projects")
        named = [found for found in self.client.pages(listing) if found["name"] == text]
        if not named:
            message = f"there is no project {text} in {within}, or none that you may see"
            raise Missing(message, command("project", "list", "--org", within))
        if len(named) > 1:
            ids = ", ".join(found["id"] for found in named)
            raise UsageError(f"{len(named)} projects are named {text}; say which by its id: {ids}")
        return named[0]


def split_tag(path: str) -> tuple[str, str | None]:
    """`org/repo:tag` as `org/repo` and `tag`."""
    before, slash, last = path.rpartition("/")
    name, _, tag = last.partition(":")
    return before + slash + name, tag or None


def open_session() -> Session:
    """The session of this command line, from the environment or as stored. Raises Refused."""
    kept = stored.load()
    server = current_server(kept)
    login = kept.logins.get(server)
    from_environment = os.environ.get("ENTREPOT_TOKEN")
    token = from_environment or (login.token if login else "")
    if not token:
        raise Refused(f"you are not logged in to {server}", command("login", server))
    require_safe(server, is_insecure=login is not None and login.is_insecure)
    first = ("unset ENTREPOT_TOKEN",) if from_environment else ()
    client = Client(server, token, instead=(*first, command("login", server)))
    return Session(client, server, token, login)


def current_server(kept: stored.Stored) -> str:
    """Whom commands speak to."""
    named = os.environ.get("ENTREPOT_SERVER")
    return read_server(named) if named else kept.current or DEFAULT_SERVER


def require_safe(server: str, *, is_insecure: bool) -> None:
    """Refuse to send a secret over a network in the clear. Raises Refused."""
    if server.startswith("https:") or is_loopback(server) or is_insecure:
        return
    raise Refused(
        f"{server} has no TLS: everybody on the way could read your credential; use https, or say"
        " that the way is safe",
        command("login", server, "--insecure"),
    )
