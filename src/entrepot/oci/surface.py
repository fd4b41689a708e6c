"""The ASGI application of /v2/: route, who asks, may they, the handler, the answer."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog

from entrepot.model.access import Action, Actor, Origin, Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.errors import (
    ClientGone,
    EntrepotError,
    NameInvalid,
    NameUnknown,
    RequestInvalid,
    RequestTooLarge,
    Unauthenticated,
    Unsupported,
)
from entrepot.model.ids import to_text
from entrepot.model.names import RepositoryName
from entrepot.oci.call import Call, Handler, Registry, namespace_of
from entrepot.oci.content import API_VERSION
from entrepot.oci.errors import answer_error, wire_of
from entrepot.oci.routes import ROUTES
from entrepot.services.access import NOBODY
from entrepot.services.addresses import NO_REPOSITORY, Address
from entrepot.services.namespaces import is_host
from entrepot.services.recent import Recent
from entrepot.telemetry import logs
from entrepot.telemetry.metrics import Requests
from entrepot.web.answers import Answer, Header, send_answer
from entrepot.web.authenticate import Authenticator
from entrepot.web.request_ids import RequestIds
from entrepot.web.requests import Receive, Request, Scope, Send
from entrepot.web.routing import Endpoint, Route, Router

log = structlog.get_logger()

# Nothing in the grammar of paths needs percent-encoding; a colon may come encoded. Any other would
# mean one thing to a proxy and another to us (CVE-2024-4956).
_ENCODED = re.compile(rb"%(?!3[Aa])")
_SERVER_ERROR = 500
_READING = frozenset({"GET", "HEAD"})
# A longer credential is looked up each time: its user name can be anything, and so many of them.
_REMEMBERED_BYTES = 4_096
_FAILED = "something went wrong here; the registry's log tells its operator"


@dataclass(frozen=True, slots=True)
class _Admission:
    """An actor who may do what the request asks, and on what.

    `token` is the actor's id as logs have it, empty for nobody: written once for many pulls.
    """

    actor: Actor
    address: Address | None
    where: Repository | Place | None
    token: str


class Surface:
    """Answers the distribution protocol."""

    def __init__(
        self,
        registry: Registry,
        authenticator: Authenticator,
        requests: Requests,
        clock: Clock,
        *,
        log_requests: bool = False,
    ) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._requests = requests
        self._log_requests = log_requests
        self._router: Router[Handler] = Router(ROUTES)
        self._admitted: Recent[object, _Admission] = Recent(clock)
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        limits = self._registry.limits
        request = Request(scope, receive, idle_seconds=limits.body_idle_seconds)
        logs.context.set({"request": self._request_ids.of(request)})
        found = self._router.find(request.path)
        endpoint = found[0].methods.get(request.method) if found else None
        try:
            answer = await self._answer(request, found, endpoint)
        except EntrepotError as error:
            answer = await self._refuse(request, error, endpoint, found[1] if found else {})
        except Exception:  # the edge: whatever it is, the caller gets an answer
            log.exception("request.failed", method=request.method, path=request.path)
            answer = await self._refuse(request, EntrepotError(_FAILED), None, {})
        sent = 0
        try:
            sent = await send_answer(answer, request, send)
        except ClientGone:
            log.debug("request.abandoned", path=request.path)
        seconds = time.perf_counter() - started
        template = found[0].template if found else "none"
        self._requests.observe(
            template, request.method, answer.status, seconds, sent, request.received
        )
        if self._log_requests:
            log.info(
                "request.answered",
                method=request.method,
                path=request.path,
                status=answer.status,
                seconds=round(seconds, 6),
                sent=sent,
            )

    async def _answer(
        self,
        request: Request,
        found: tuple[Route[Handler], Mapping[str, str]] | None,
        endpoint: Endpoint[Handler] | None,
    ) -> Answer:
        registry = self._registry
        if request.header_bytes() > registry.limits.header_bytes:
            limit = registry.limits.header_bytes
            raise RequestTooLarge(f"headers have at most {limit} bytes", limit=limit, status=431)
        raw_path = request.scope.get("raw_path") or b""
        if found is None or (b"%" in raw_path and _ENCODED.search(raw_path)):
            raise NameUnknown("there is nothing at this path")
        route, values = found
        if endpoint is None:
            allow = ", ".join(route.methods)
            raise Unsupported(f"this path takes {allow}", headers=[(b"allow", allow.encode())])
        label, service = registry.hosts.names(request)
        if endpoint.action is Action.PUBLIC:
            return await endpoint.handler(registry, Call(request, NOBODY, values, label))
        who = request.header(b"authorization") or request.is_forwarded()
        ns = namespace_of(request)
        key = (who, service, label, endpoint.action, values.get("name"), ns)
        admission = self._admitted.get(key)
        if admission is None:
            admission = await self._admit(request, endpoint, values.get("name"), label, ns)
            if isinstance(admission.where, Repository) and _may_remember(who, admission.actor):
                self._admitted.put(key, admission)
        actor = admission.actor
        context = logs.context.get() or {}
        if admission.token:
            context["token"] = admission.token
        if request.method not in _READING or isinstance(admission.where, Place):
            origin = Origin(registry.hosts.client_address(request), context["request"])
            actor = replace(actor, origin=origin)
        call = Call(
            request,
            actor,
            values,
            label,
            admission.address,
            admission.where,
            registry.access.opened_before(actor, is_finishing=endpoint.is_finishing),
        )
        answer = await endpoint.handler(registry, call)
        if ns and call.where is not None and call.where.source is not None:
            answer.headers.append((b"oci-namespace", ns.encode()))
        return answer

    async def _admit(
        self,
        request: Request,
        endpoint: Endpoint[Handler],
        name: str | None,
        label: str | None,
        ns: str,
    ) -> "_Admission":
        """Who asks, for what, and that they may.

        Raises Unauthenticated, NameInvalid, NameUnknown, Denied.
        """
        registry, action = self._registry, endpoint.action
        actor = await self._authenticator.actor(request)
        token = to_text(actor.token_id) if actor.token_id else ""
        # First of all: a right that has ended tells nothing of what is there any more.
        registry.access.opened_before(actor, is_finishing=endpoint.is_finishing)
        if name is None:
            registry.access.require_login(actor)
            return _Admission(actor, None, None, token)
        address = Address(label, RepositoryName.parse(name), ns)
        where = await registry.addresses.where(address)
        if where is None:
            registry.access.refuse(actor, action, address)
            raise NameUnknown(NO_REPOSITORY, name=name)
        registry.access.require(actor, action, where, address)
        return _Admission(actor, address, where, token)

    async def _refuse(
        self,
        request: Request,
        error: EntrepotError,
        endpoint: Endpoint[Handler] | None,
        values: Mapping[str, str],
    ) -> Answer:
        headers: list[Header] = []
        if (context := logs.context.get()) is not None:
            headers.append((b"x-request-id", context["request"].encode()))
        extra = error.values.get("headers")
        if isinstance(extra, list):
            headers.extend(extra)
        if isinstance(error, Unauthenticated):
            # Older Docker engines look for the version on a 401 too.
            headers.extend((self._challenge(request, error, endpoint, values), API_VERSION))
        if wire_of(error)[0] >= _SERVER_ERROR:
            cause = repr(error.__cause__)
            log.error("request.refused", error=error.message, cause=cause, **_loggable(error))
        answer = answer_error(error, headers)
        if not await request.drain():
            # Unread bytes would be taken for the next request.
            answer.headers.append((b"connection", b"close"))
        return answer

    def _challenge(
        self,
        request: Request,
        error: Unauthenticated,
        endpoint: Endpoint[Handler] | None,
        values: Mapping[str, str],
    ) -> Header:
        """What would help (RFC 6750). Bearer alone: clients that see both mix them up."""
        hosts = self._registry.hosts
        origin = hosts.origin(request)
        if endpoint is not None and endpoint.action is Action.PUBLIC:
            return (b"www-authenticate", f'Basic realm="{origin}"'.encode())
        # Clients keep the query of the realm, and so ask for a token in the same registry's name.
        ns = namespace_of(request)
        query = f"?ns={ns}" if is_host(ns) else ""
        parts = [f'Bearer realm="{origin}/v2/token{query}"', f'service="{hosts.service(request)}"']
        if endpoint is not None and (scope := _scope(request, endpoint.action, values)):
            parts.append(f'scope="{scope}"')
        if isinstance(reason := error.values.get("error"), str):
            parts.append(f'error="{reason}"')
        return (b"www-authenticate", ",".join(parts).encode())


def _may_remember(who: str | bool, actor: Actor) -> bool:  # noqa: FBT001  # as it is in the key
    """Whether `who` tells enough, in few bytes.

    A bearer token of nobody does not: it counts less when a proxy sends it.
    """
    is_bearer_of_nobody = actor.is_anonymous and actor.granted is not None
    return not is_bearer_of_nobody and len(str(who)) <= _REMEMBERED_BYTES


_ASKED_FOR = {
    Action.PULL: "pull",
    Action.PUSH: "pull,push",
    Action.DELETE_TAG: "delete",
    Action.DELETE: "delete",
}


def _scope(request: Request, action: Action, values: Mapping[str, str]) -> str:
    """The scope that a token needs for this request; a mount needs its source as well."""
    if action is Action.CATALOG:
        return "registry:catalog:*"
    if "name" not in values or action not in _ASKED_FOR:
        return ""
    try:
        names = [str(RepositoryName.parse(values["name"]))]
        if request.method == "POST" and (source := request.field("from")):
            names.append(str(RepositoryName.parse(source)))
    except (NameInvalid, RequestInvalid):
        return ""
    scopes = [f"repository:{names[0]}:{_ASKED_FOR[action]}"]
    return " ".join(scopes + [f"repository:{name}:pull" for name in names[1:]])


def _loggable(error: EntrepotError) -> dict[str, object]:
    return {key: value for key, value in error.values.items() if key not in {"headers", "error"}}
