"""The token endpoint, GET and POST (distribution, "Token Authentication" and "OAuth2")."""

from urllib.parse import parse_qs

import msgspec

from entrepot.model.access import Actor
from entrepot.model.clock import to_rfc3339
from entrepot.model.errors import RequestInvalid, Unauthenticated
from entrepot.model.scopes import parse_scopes
from entrepot.oci.call import Call, Registry, namespace_of
from entrepot.services.token_service import BearerToken
from entrepot.web.answers import Answer
from entrepot.web.authenticate import nobody, password_of
from entrepot.web.requests import Request

_FORM_BYTES = 64 * 1024

_encode = msgspec.json.Encoder().encode


async def get(registry: Registry, call: Call) -> Answer:
    """A bearer token for whoever the Basic credential names, or for nobody where that may read."""
    request = call.request
    secret = _basic(request)
    actor = await registry.credentials.by_token(secret) if secret else nobody(request)
    wants_refresh = request.field("offline_token") == "true"
    return await _issue(
        registry, call, actor, request.query.get("scope", []), secret if wants_refresh else None
    )


async def post(registry: Registry, call: Call) -> Answer:
    """The same by form: `grant_type=password` or `refresh_token`."""
    form = await _form(call.request)
    match form.get("grant_type", [""])[0]:
        case "password":
            secret = form.get("password", [""])[0]
        case "refresh_token":
            secret = form.get("refresh_token", [""])[0]
        case _:
            raise RequestInvalid("grant_type is password or refresh_token")
    actor = await registry.credentials.by_token(secret)
    wants_refresh = form.get("access_type", [""])[0] == "offline"
    return await _issue(
        registry, call, actor, form.get("scope", []), secret if wants_refresh else None
    )


async def _issue(
    registry: Registry, call: Call, actor: Actor, scopes: list[str], refresh_token: str | None
) -> Answer:
    """`refresh_token` is the caller's own secret: it can be revoked, and opens nothing new."""
    token = await registry.token_service.issue(
        actor,
        parse_scopes(scopes),
        audience=registry.hosts.service(call.request),
        label=call.label,
        ns=namespace_of(call.request),
    )
    return Answer(
        200,
        [(b"content-type", b"application/json"), (b"cache-control", b"no-store")],
        _encode(_body(token, refresh_token)),
    )


def _body(token: BearerToken, refresh_token: str | None) -> dict[str, object]:
    body: dict[str, object] = {
        "token": token.text,
        "access_token": token.text,
        "token_type": "Bearer",
        "expires_in": token.expires_in,
        "issued_at": to_rfc3339(token.issued_at),
        "scope": token.scope,
    }
    if refresh_token:
        body["refresh_token"] = refresh_token
    return body


def _basic(request: Request) -> str | None:
    header = request.header(b"authorization")
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated("get a token with Basic authentication")
    return password_of(value)


async def _form(request: Request) -> dict[str, list[str]]:
    body = await request.body(_FORM_BYTES)
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError as error:
        raise RequestInvalid("the form cannot be read") from error
