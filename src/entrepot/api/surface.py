"""The ASGI application of /api/: who asks, limits, the log; then FastAPI."""

import re
import time
from collections.abc import Iterable
from dataclasses import replace

import structlog
from fastapi import FastAPI, Response

from entrepot.api.application import FAILED, NOT_JSON, NOTHING_THERE, answer
from entrepot.api.problems import problem, problem_of
from entrepot.model.access import Origin
from entrepot.model.errors import (
    ClientGone,
    EntrepotError,
    FieldInvalid,
    NotFound,
    RequestInvalid,
    RequestTooLarge,
    Unauthenticated,
)
from entrepot.model.ids import to_text
from entrepot.services.idempotency import First, Idempotency
from entrepot.telemetry import logs
from entrepot.telemetry.metrics import Requests
from entrepot.web.authenticate import Authenticator
from entrepot.web.hosts import Hosts
from entrepot.web.request_ids import RequestIds
from entrepot.web.requests import Message, Receive, Request, Scope, Send

log = structlog.get_logger()

# A slash or NUL that comes encoded means one thing to a proxy and another to us (CVE-2024-4956).
_ENCODED = re.compile(rb"%(?:2[Ff]|5[Cc]|00)")
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox")
_BODY_BYTES = 256 * 1024
_HEADER_BYTES = 32 * 1024
CREATED = 201
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class ApiSurface:
    """Answers the management API through `framework`, which knows its routes."""

    def __init__(
        self,
        framework: FastAPI,
        authenticator: Authenticator,
        hosts: Hosts,
        requests: Requests,
        idempotency: Idempotency,
    ) -> None:
        self._framework = framework
        self._idempotency = idempotency
        self._authenticator = authenticator
        self._hosts = hosts
        self._requests = requests
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        request = Request(scope, receive, idle_seconds=60.0)
        request_id = self._request_ids.of(request)
        logs.context.set({"request": request_id})
        status = 500
        is_begun = False

        async def send_ours(message: Message) -> None:
            nonlocal status, is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                status = message["status"]
                message["headers"] = _headers(request_id, message.get("headers", []))
            elif request.method == "HEAD":
                message["body"] = b""
            await send(message)

        try:
            await self._answer(request, request_id, send_ours)
        except ClientGone:
            status = 499
        except EntrepotError as error:
            headers = {}
            if isinstance(error, Unauthenticated):
                headers["www-authenticate"] = f'Basic realm="{self._hosts.origin(request)}"'
            if not await request.drain():
                headers["connection"] = "close"  # the rest would be taken for the next request
            await answer(problem_of(error, request_id), headers)(scope, receive, send_ours)
        except Exception:  # the edge: whatever it is, the caller gets an answer
            log.exception("request.failed", method=request.method, path=request.path)
            if not is_begun:  # the framework answers by itself, then raises
                document = problem(500, "failed", FAILED, request_id)
                await answer(document)(scope, receive, send_ours)
        route = scope.get("route")
        seconds = time.perf_counter() - started
        template = getattr(route, "path", "none")
        self._requests.observe(template, request.method, status, seconds, 0, request.received)

    async def _answer(self, request: Request, request_id: str, send: Send) -> None:
        if request.header_bytes() > _HEADER_BYTES:
            raise RequestTooLarge(f"headers have at most {_HEADER_BYTES} bytes")
        if _ENCODED.search(request.scope.get("raw_path") or b""):
            raise NotFound(NOTHING_THERE)
        try:
            actor = await self._authenticator.actor(request)
        except Unauthenticated:
            await request.drain()  # an unread body would end the connection, and what is sent next
            raise
        if actor.token_id and (context := logs.context.get()) is not None:
            context["token"] = to_text(actor.token_id)
        body = await request.body(_BODY_BYTES)
        scope = request.scope
        _require_text(scope.get("query_string", b""), body)
        scope["entrepot.request_id"] = request_id
        scope["entrepot.base"] = self._hosts.origin(request)
        origin = Origin(self._hosts.client_address(request), request_id)
        scope["entrepot.actor"] = replace(actor, origin=origin)
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await request.gone()
            return {"type": "http.disconnect"}

        key = request.header(b"idempotency-key")
        if request.method == "POST" and key is not None and self._idempotency.is_for(actor):
            await self._answer_once(request, body, (actor.token_id, key), receive, send)
        elif request.method == "HEAD":
            # As GET; what is sent leaves the body out. (The metrics read the route from `scope`.)
            got = {**scope, "method": "GET"}
            await self._framework(got, receive, send)
            scope["route"] = got.get("route")
        else:
            await self._framework(scope, receive, send)

    async def _answer_once(
        self, request: Request, body: bytes, key: tuple[int, str], receive: Receive, send: Send
    ) -> None:
        """Answer, or answer as before when this credential sent this Idempotency-Key before."""
        scope = request.scope
        asked = b"\n".join((request.path.encode(), scope.get("query_string", b""), body))
        first = await self._idempotency.begin(*key, asked)
        if first is not None:
            await _replay(first, scope, receive, send)
            return
        heard = _Heard(send)
        try:
            await self._framework(scope, receive, heard)
        finally:
            answer = First(heard.status, bytes(heard.body)) if heard.status == CREATED else None
            await self._idempotency.finish(*key, asked, answer)


def _require_text(query: bytes, body: bytes) -> None:
    """Let in UTF-8 without NUL, which PostgreSQL cannot keep. Raises RequestInvalid, FieldInvalid.

    Python's parser would find out by itself that JSON is UTF-16 or UTF-32, past this search.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise RequestInvalid(NOT_JSON) from error
    if b"\0" in body:
        raise RequestInvalid(NOT_JSON)
    if b"%00" in query or _ESCAPED_NUL.search(body):
        raise FieldInvalid("no text holds the character NUL")


class _Heard:
    """Sends on, and remembers what it sent. Answers to creations are small."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.body += message.get("body", b"")
        await self._send(message)


async def _replay(first: First, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"idempotency-replayed": "true"}
    response = Response(first.body, first.status, headers, "application/json")
    await response(scope, receive, send)


def _headers(request_id: str, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What every answer has; a policy of its own stands."""
    headers = [
        *given,
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if all(name != _POLICY[0] for name, _ in headers):
        headers.append(_POLICY)
    return headers
