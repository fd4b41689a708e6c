"""The management API as a client sees it: the only module of the command that speaks HTTP."""

import ssl
import sys
import time
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

import click

from entrepot.cli.messages import Refused, command, repeated

# Importing httpx also imports a command of its own where click and rich are installed: without it
# ours starts in 0.2 s of processor time rather than 0.3 s. None makes that import fail, as it may.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # as the import system has it

import httpx  # noqa: E402  # after the line above

Json = dict[str, Any]

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_PAUSE_SECONDS = 1.0  # before a request is sent again
_PAGE = 1_000
_PROBLEM = "application/problem+json"
# By the first word of a path: the command that shows what there is instead.
_LISTS = {
    "mirrors": ("mirror", "list"),
    "organisations": ("org", "list"),
    "projects": ("project", "list"),
    "repositories": ("repository", "list"),
    "tokens": ("token", "list"),
    "upstreams": ("upstream", "list"),
    "users": ("user", "list"),
}


def read_server(text: str) -> str:
    """A server's address as `scheme://host[:port]`; without a scheme, https but on this machine."""
    if "://" not in text:
        text = f"{'http' if is_loopback(f'//{text}') else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise click.BadParameter(f"{text} is no address: {error}") from error
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise click.BadParameter(f"{text} is no address such as https://registry.example.com")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise click.BadParameter(f"{text} has more than scheme, host and port")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def is_loopback(server: str) -> bool:
    """Whether a server's address stays on this machine."""
    host = urlsplit(server).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def at(*segments: str) -> str:
    """A path of the API; every segment is data, whatever is in it."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


class Client:
    """One caller of one server.

    It remembers the version of what it read singly: what a command has read, it changes only if
    nobody else changed it since. `instead` are the commands for whoever the server does not know.
    """

    def __init__(
        self, server: str, token: str | None = None, *, instead: tuple[str, ...] = ()
    ) -> None:
        self.server = server
        self._instead = instead or (command("login", server),)
        self._versions: dict[str, str] = {}
        headers = {"user-agent": f"entrepot/{version('entrepot')}"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        # This machine is never behind a proxy; a transport of our own leaves the proxies out.
        trust = _certificates() if server.startswith("https:") else _nobody()
        transport = httpx.HTTPTransport(verify=trust) if is_loopback(server) else None
        self._http = httpx.Client(
            base_url=f"{server}/api/v1",
            headers=headers,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            transport=transport,
            verify=trust,
        )

    def get(self, path: str, /, **query: object) -> Json:
        """One object."""
        answer = self._send("GET", path, query=query, again=True)
        if etag := answer.headers.get("etag"):
            self._versions[path] = etag
        return self._object(answer)

    def find(self, path: str) -> Json | None:
        """One object, or nothing where there is none that we may see."""
        try:
            return self.get(path)
        except Missing:
            return None

    def pages(self, path: str, /, *, limit: int | None = None, **query: object) -> Iterator[Json]:
        """The entries of a list, page after page, `limit` at most."""
        left, cursor = limit, None
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            answer = self._send("GET", path, {**query, "limit": size, "cursor": cursor}, again=True)
            page = self._object(answer)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def text(self, path: str, /, **query: object) -> Iterator[str]:
        """An answer that is no JSON, as it arrives."""
        known = {name: str(value) for name, value in query.items() if value is not None}
        try:
            with self._http.stream("GET", path, params=known) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer)
                yield from answer.iter_text()
        except httpx.TransportError as error:
            raise _lost(self.server, error) from error

    def create(self, path: str, body: Json) -> Json:
        """Make something; safe to send again, since the server knows the key."""
        key = {"idempotency-key": str(uuid.uuid4())}
        return self._object(self._send("POST", path, body=body, headers=key, again=True))

    def act(self, path: str, body: Json, /, **query: object) -> Json:
        """Do something that is not making something."""
        return self._object(self._send("POST", path, query, body=body))

    def change(self, path: str, body: Json) -> Json:
        """Change fields; what is not named stays."""
        return self._object(self._send("PATCH", path, body=body, headers=self._if_unchanged(path)))

    def put(self, path: str, body: Json | None = None) -> Json:
        """Put something in its place."""
        return self._object(self._send("PUT", path, body=body, headers=self._if_unchanged(path)))

    def delete(self, path: str) -> str | None:
        """Remove something; until when it can be restored, if it can."""
        answer = self._send("DELETE", path, headers=self._if_unchanged(path))
        until: str | None = answer.headers.get("restorable-until")
        return until

    def _if_unchanged(self, path: str) -> dict[str, str]:
        return {"if-match": self._versions[path]} if path in self._versions else {}

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, object] | None = None,
        *,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
        again: bool = False,
    ) -> httpx.Response:
        """One request, once more if the connection was lost and `again`. Raises Refused."""
        known = {name: str(value) for name, value in (query or {}).items() if value is not None}

        def send() -> httpx.Response:
            return self._http.request(method, path, params=known, json=body, headers=headers)

        try:
            try:
                answer = send()
            except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
                if isinstance(error, httpx.ConnectError) or not again:
                    raise
                time.sleep(_PAUSE_SECONDS)
                answer = send()
        except httpx.TransportError as error:
            raise _lost(self.server, error) from error
        if answer.is_success:
            return answer
        raise self._refused(answer)

    def _object(self, answer: httpx.Response) -> Json:
        if answer.status_code == httpx.codes.NO_CONTENT:
            return {}
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refused(f"{self.server} does not answer like an Entrepot server")
        return found

    def _refused(self, answer: httpx.Response) -> Refused:
        """A problem document as a person reads it, and what to type next."""
        if answer.headers.get("content-type", "").partition(";")[0] != _PROBLEM:
            message = f"{self.server} answers {answer.status_code}, not like an Entrepot server"
            return Refused(f"{message}; is this its address?", command("whoami"))
        problem = self._object(answer)
        lines = [problem["detail"]]
        lines += (
            f"  {error['field']}: {error['message']}"
            for error in problem.get("errors") or []
            if error["message"] != problem["detail"]
        )
        match answer.status_code:
            case httpx.codes.UNAUTHORIZED:
                return NotKnown("\n".join(lines), *self._instead)
            case httpx.codes.FORBIDDEN:
                return Refused("\n".join(lines), command("whoami"))
            case httpx.codes.NOT_FOUND:
                noun = answer.request.url.path.removeprefix("/api/v1/").partition("/")[0]
                return Missing(
                    "\n".join(lines), *([command(*_LISTS[noun])] if noun in _LISTS else [])
                )
            case httpx.codes.UNPROCESSABLE_ENTITY:
                fields = [error["field"] for error in problem.get("errors") or []]
                return Wrong("\n".join(lines), *fields)
            case httpx.codes.PRECONDITION_FAILED:
                lines.append("somebody was faster: look, and repeat the command")
                return Refused("\n".join(lines), repeated())
            case status if status >= httpx.codes.INTERNAL_SERVER_ERROR:
                lines.append(f"the server's log has more, under {problem.get('request_id')}")
        return Refused("\n".join(lines))


class Missing(Refused):
    """There is no such thing, or none that we may see."""


class Wrong(Refused):
    """What cannot be taken as it is; `fields` are at fault."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


class NotKnown(Refused):
    """The server does not know who we are."""


def _certificates() -> ssl.SSLContext:
    """The authorities of this machine, and those that come with Python's packages."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _nobody() -> ssl.SSLContext:
    """No authorities at all: reading them takes 0.2 s, and plain HTTP needs none."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _lost(server: str, error: httpx.TransportError) -> Refused:
    """Why there is no answer, or no whole one."""
    why = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return Refused(
            f"the certificate of {server} is not trusted here ({why}); an authority of your own is"
            " named by SSL_CERT_FILE"
        )
    if "[SSL" in why:
        return Refused(
            f"{server} does not speak TLS ({why})", command("login", f"http{server[5:]}")
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Refused(
            f"cannot reach {server} ({why or 'no answer'}); does it run, and there?",
            command("serve"),
            command("login", "SERVER"),
        )
    if isinstance(error, httpx.TimeoutException):
        return Refused(f"{server} did not answer within {_READ_SECONDS:.0f} s; try again")
    return Refused(f"the connection to {server} was lost; look how far it came, then repeat")
