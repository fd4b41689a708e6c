"""Who may read a played registry: nobody asks, Basic, or Bearer with a token realm.

https://distribution.github.io/distribution/spec/auth/token/ for the exchange.
"""

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from tests.support.upstreams.log import Entry
from tests.support.upstreams.wire import Reply, Request, WireServer

_SCOPE = re.compile(r"([a-z]+)(?:\([a-z]+\))?:(.+):([a-z_,*]*)")


def refusal(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error as the distribution specification writes it."""
    body = {"errors": [{"code": code, "message": message}]}
    return Reply(
        status,
        {
            "Content-Type": "application/json",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        },
        json.dumps(body).encode(),
    )


def basic_pair(authorization: str) -> tuple[str, str] | None:
    """User and password of a Basic header."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    user, _, password = base64.b64decode(value).decode().partition(":")
    return user, password


class Login(Protocol):
    """How a registry decides who may read."""

    def refuse(self, request: Request, name: str, /) -> Reply | None:
        """The answer to whoever may not pull; None to whoever may. `name` is empty for /v2/."""
        ...


class NoLogin:
    """Anybody may."""

    def refuse(self, _request: Request, _name: str, /) -> Reply | None:
        return None


@dataclass
class BasicLogin:
    """Whoever knows a password may (RFC 7617)."""

    people: dict[str, str]
    realm: str = "registry"

    def refuse(self, request: Request, _name: str, /) -> Reply | None:
        pair = basic_pair(request.headers.get("authorization", ""))
        if pair is not None and self.people.get(pair[0]) == pair[1]:
            return None
        return refusal(
            401,
            "UNAUTHORIZED",
            "authentication required",
            WWW_Authenticate=f'Basic realm="{self.realm}"',
        )


@dataclass(slots=True)
class Ticket:
    """A bearer token that a realm gave."""

    service: str
    access: frozenset[tuple[str, str]]  # repository and action
    expires: float
    user: str = ""


@dataclass
class Realm:
    """Gives tokens. `may_read` says which repositories a user ("" is nobody) gets into a token."""

    service: str = "registry.test"
    people: dict[str, str] = field(default_factory=dict)
    anonymous: bool = True
    life: int | None = 300  # seconds; None: not said, which means 60
    may_read: Callable[[str, str], bool] = lambda _user, _name: True
    now: Callable[[], float] = time.time
    field_name: str = "token"  # or access_token, by which OAuth 2 names it
    given: dict[str, Ticket] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def exchange(self, request: Request) -> Reply:
        """Answer GET with a token; a wrong password is 401, a scope not granted is left out."""
        user = ""
        if "authorization" in request.headers:
            pair = basic_pair(request.headers["authorization"])
            if pair is None or self.people.get(pair[0]) != pair[1]:
                return refusal(401, "UNAUTHORIZED", "incorrect username or password")
            user = pair[0]
        elif not self.anonymous:
            return refusal(401, "UNAUTHORIZED", "authentication required")
        if request.query.get("service") != [self.service]:
            return refusal(400, "UNSUPPORTED", "this realm does not know that service")
        return self.give(user, request.query.get("scope", []))

    def give(self, user: str, scopes: list[str]) -> Reply:
        """A token for what of these scopes the user may do."""
        access = {
            (match[2], action)
            for scope in " ".join(scopes).split()
            if (match := _SCOPE.fullmatch(scope)) and match[1] == "repository"
            for action in match[3].split(",")
            if self.may_read(user, match[2])
        }
        token = secrets.token_urlsafe(24)
        expires = self.now() + (60 if self.life is None else self.life)
        with self.lock:
            self.given[token] = Ticket(self.service, frozenset(access), expires, user)
        answer: dict[str, object] = {
            self.field_name: token,
            "issued_at": datetime.fromtimestamp(self.now(), UTC).isoformat(),
        }
        if self.life is not None:
            answer["expires_in"] = self.life
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def ticket(self, token: str) -> Ticket | None:
        """What a token stands for, if it has not expired."""
        with self.lock:
            ticket = self.given.get(token)
        return ticket if ticket is not None and ticket.expires > self.now() else None

    def revoke_all(self) -> None:
        """Take back every token, whatever its life: a realm may lose its key."""
        with self.lock:
            self.given.clear()


@dataclass
class BearerLogin:
    """Whoever has a token of the realm for this repository may (RFC 6750)."""

    realm: Realm
    url: Callable[[], str]

    def refuse(self, request: Request, name: str, /) -> Reply | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        ticket = self.realm.ticket(token) if scheme.lower() == "bearer" else None
        if ticket is not None and (
            not name or (name, "pull") in ticket.access or (name, "*") in ticket.access
        ):
            return None
        scope = f',scope="repository:{name}:pull"' if name else ""
        if scheme.lower() == "bearer":
            scope += ',error="insufficient_scope"' if ticket else ',error="invalid_token"'
        return refusal(
            401,
            "UNAUTHORIZED",
            "authentication required",
            WWW_Authenticate=f'Bearer realm="{self.url()}",service="{self.realm.service}"{scope}',
        )


class RealmServer(WireServer):
    """A token realm on a host of its own, as auth.docker.io is."""

    def __init__(self, realm: Realm, path: str = "/token", **options) -> None:
        super().__init__(**options)
        self.realm = realm
        self.path = path

    @property
    def url(self) -> str:
        """What a challenge names."""
        return f"{self.origin}{self.path}"

    async def answer(self, request: Request, entry: Entry) -> Reply:
        entry.kind = "token"
        if request.path != self.path or request.method != "GET":
            return refusal(404, "UNSUPPORTED", "no such page")
        return self.realm.exchange(request)
