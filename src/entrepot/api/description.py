"""The OpenAPI document: what the framework reads from the routes, completed from tables."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from entrepot.api.call import ACTION
from entrepot.api.examples import BODIES, VALUES
from entrepot.api.problems import (
    FRAMEWORK,
    MEDIA_TYPE,
    PROBLEMS,
    RETRY_SECONDS,
    TYPE_PREFIX,
    Problem,
)
from entrepot.model.access import Action

Json = dict[str, Any]

_SUMMARY = "The management API of an Entrepot registry"
_ABOUT = f"""\
Organisations, people, projects, repositories, tokens and the audit log.

Send a token as the password of HTTP Basic authentication, with `x-token` or anything else as the
user name, or as `Authorization: Bearer`.

Bodies are JSON in UTF-8, up to 256 KiB, with no other fields than the ones named. Times are RFC
3339 in UTC.

A list answers `items` and `next`. Ask again with `cursor` set to `next` for the part that follows;
there is none when it is null.

What can be changed by several people has an `ETag`. Send it back as `If-Match`, and the change is
refused with 412 if somebody else was faster.

Creations take an `Idempotency-Key`: repeat a request whose answer was lost with the same key, and
nothing is made twice.

Errors are `{MEDIA_TYPE}` (RFC 9457). Programs read `type`, people `detail`. What a caller may not
see is answered like what does not exist. Every answer has an `X-Request-Id`, which the server's log
has as well.
"""

TAGS: Mapping[str, str] = {
    "session": "Who you are: logging in, asking, and changing your password.",
    "users": "The people of the server, for its administrators.",
    "organisations": "What owns projects, repositories and tokens, and keeps its own audit log.",
    "members": "Users in an organisation, each with a role.",
    "invitations": "Links by which people join an organisation.",
    "projects": "What builds are pushed to, each at an address of its own.",
    "usage": "What is held, for how long, and what that costs.",
    "repositories": "Where images and artifacts are, and the policies that hold for them.",
    "contents": "What repositories hold: tags and manifests.",
    "undo": "What was, and bringing back what was deleted or removed.",
    "retention": "For how long what was pushed is kept, and what goes by that.",
    "upstreams": "Other registries that pull-through repositories and mirrors stand in front of.",
    "mirrors": "Prefixes of an organisation's names that mirror a whole upstream.",
    "tokens": "Credentials: of users, organisations and projects, and for pulling alone.",
    "audit": "Who did what, when, from where, by which credential.",
    "server": "What holds for all organisations.",
}

# What stands in a path, wherever it does.
PATHS: Mapping[str, str] = {
    "organisation": "slug or id of the organisation",
    "user": "name of the user",
    "invitation": "id of the invitation",
    "project": "id of the project",
    "repository": "id of the repository",
    "tag": "the tag",
    "digest": "digest of the manifest: `sha256:` and 64 hexadecimal digits",
    "token": "id of the token",
    "upstream": "id of the upstream registry",
    "mirror": "id of the namespace mirror",
}

# Every status that refuses: what its answer is called in the document, and when it comes.
REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("Unreadable", "The request cannot be read"),
    401: ("Unauthenticated", "No credential, or one that is wrong, expired or revoked"),
    403: ("Denied", "The credential is known and may not do this"),
    404: ("NotFound", "No such thing, or none that the caller may see"),
    408: ("TimedOut", "The body stopped arriving"),
    409: ("InTheWay", "Something else has the name, or needs what was to go"),
    412: ("Stale", "It was changed since the `ETag` in `If-Match` was read"),
    413: ("TooLarge", "The body has more than 256 KiB, or the headers more than 32 KiB"),
    415: ("NotJson", "The body is not `application/json`"),
    422: ("Invalid", "A field or parameter has a value that cannot be taken"),
    429: (
        "TooMany",
        "Too many attempts; `Retry-After` says when to try again",
    ),
    500: ("Failed", "A fault of the server, which its log explains"),
    502: ("UpstreamFailed", "The upstream registry does not answer, or not as it should"),
    503: ("Unavailable", "Database or store do not answer; trying again is safe"),
    504: ("UpstreamSlow", "The upstream registry did not answer in time"),
    507: ("StorageFull", "No space is left"),
}
# What any request can meet.
COMMON = frozenset({400, 401, 408, 413, 429, 500, 503})
# What asks an upstream before it answers, where it changes something.
_ASKS_UPSTREAMS = frozenset({Action.MANAGE_UPSTREAMS, Action.CREATE_REPOSITORY})

_HEADERS: Mapping[str, Json] = {
    "ETag": {
        "description": "the version of what was answered, for `If-Match`",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
        "example": '"3"',
    },
    "Idempotency-Replayed": {
        "description": "`true` when this is the first answer again, to the same `Idempotency-Key`",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Restorable-Until": {
        "description": "until when what was deleted can be restored",
        "schema": {"type": "string", "format": "date-time"},
        "example": "2026-11-27T10:00:00Z",
    },
    "Retry-After": {
        "description": "seconds to wait before trying again",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "example": "30",
    },
    "WWW-Authenticate": {
        "description": "how to authenticate",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Basic realm="https://registry.example.com"',
    },
}
_SECURITY: Mapping[str, Json] = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "any user name, and a token as the password",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "a token as it is"},
}
_PART = "A part of a list. `next` is the `cursor` of the part that follows, if one does."
_ANSWERED = {
    "200": "What was asked for, or what came of it",
    "201": "It was made",
    "202": "It was begun, or goes on already",
    "204": "It was done",
}


def describe(app: FastAPI, routers: Iterable[APIRouter]) -> Json:
    """The whole document, of these routers of the application.

    `servers` is relative: whoever hands it out knows the address.
    """
    document: Json = get_openapi(
        title=app.title,
        version=app.version,
        summary=_SUMMARY,
        description=_ABOUT,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        servers=[{"url": "/"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        separate_input_output_schemas=False,
    )
    # Names for people and for generated clients: TokenPage, not Page_Token_.
    document = json.loads(re.sub(r'Page_(\w+)_(?=")', r"\1Page", json.dumps(document)))
    components = document["components"]
    schemas = components["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's; ours is Problem
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs") | {"Problem": problem}
    for name, body in BODIES.items():
        schemas[name]["examples"] = [body]
    for name, schema in schemas.items():
        schema["title"] = name
        schema.setdefault("description", _PART)  # pydantic gives it to no Page[Token]
    components["headers"] = dict(_HEADERS)
    components["responses"] = {name: _refusal(status) for status, (name, _) in REFUSALS.items()}
    components["securitySchemes"] = dict(_SECURITY)
    document["security"] = [{name: []} for name in _SECURITY]
    routes = {
        route.name: route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    }
    for method, _, operation in operations(document):
        _complete(operation, routes[operation["operationId"]])
        if method == "PATCH":
            # What is not named stays. A generated client would send its default.
            for field in schemas[body_of(operation)]["properties"].values():
                field.pop("default", None)
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def body_of(operation: Json) -> str:
    """The name of the schema that an operation takes."""
    content: Json = operation["requestBody"]["content"]["application/json"]["schema"]
    return str(content["$ref"]).rpartition("/")[2]


def problems_of(status: int) -> list[str]:
    """The names of the problems that come with a status."""
    pairs = [*PROBLEMS.values(), *FRAMEWORK.items()]
    return sorted({name for found, name in pairs if found == status})


def _refusal(status: int) -> Json:
    named = " or ".join(f"`{name}`" for name in problems_of(status))
    refusal: Json = {
        "description": f"{REFUSALS[status][1]}: {named}",
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": _example(status),
            }
        },
    }
    if status in RETRY_SECONDS:
        refusal["headers"] = {"Retry-After": _header("Retry-After")}
    if status == 401:  # noqa: PLR2004  # the status that has this header (RFC 9110, 11.6.1)
        refusal["headers"] = {"WWW-Authenticate": _header("WWW-Authenticate")}
    return refusal


def _example(status: int) -> Json:
    name = problems_of(status)[0]
    return {
        "type": f"{TYPE_PREFIX}{name}",
        "title": name.replace("-", " ").capitalize(),
        "status": status,
        "detail": REFUSALS[status][1],
        "request_id": "5f0e2c1a-7",
        "errors": [],
    }


def _complete(operation: Json, route: APIRoute) -> None:
    """Say what the framework cannot know of an operation."""
    action = Action(operation[ACTION])
    operation["summary"] = route.name.replace("_", " ").capitalize()
    operation["description"] = _unwrapped(operation["description"])
    if action is Action.PUBLIC:
        # Anonymous comes first; a credential that is sent has to be right all the same.
        operation["security"] = [{}, *({name: []} for name in _SECURITY)]
    for parameter in operation.get("parameters", []):
        _complete_parameter(parameter)
    answers = {
        status: _answer(status, answer, route)
        for status, answer in operation["responses"].items()
        if status in _ANSWERED
    }
    for status in sorted(_refusals(operation, route, action)):
        answers[str(status)] = {"$ref": f"#/components/responses/{REFUSALS[status][0]}"}
    operation["responses"] = answers


def _unwrapped(text: str) -> str:
    """The paragraphs of a docstring, a line each."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _complete_parameter(parameter: Json) -> None:
    name = parameter["name"]
    if parameter["in"] == "path":
        parameter["description"] = PATHS[name]
    elif parameter["in"] == "header":
        parameter["name"] = "-".join(word.capitalize() for word in name.split("-"))
    schema = parameter["schema"]
    # A parameter is there or not there; there is no null in an address or a header.
    kinds = [kind for kind in schema.pop("anyOf", []) if kind.get("type") != "null"]
    for kind in kinds:
        schema |= kind
    schema.pop("description", None)  # the parameter has it
    if name in VALUES:
        parameter["example"] = VALUES[name]


def _answer(status: str, answer: Json, route: APIRoute) -> Json:
    headers: Json = {}
    # Routes take the response in hand to set the ETag, or to say how long a deletion can be undone.
    if route.dependant.response_param_name is not None:
        name = "Restorable-Until" if "DELETE" in (route.methods or ()) else "ETag"
        headers[name] = _header(name)
    if _takes_key(route):
        headers["Idempotency-Replayed"] = _header("Idempotency-Replayed")
    return answer | {"description": _ANSWERED[status]} | ({"headers": headers} if headers else {})


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def _takes_key(route: APIRoute) -> bool:
    given = (route.openapi_extra or {}).get("parameters", [])
    return any(parameter["name"] == "Idempotency-Key" for parameter in given)


def _refusals(operation: Json, route: APIRoute, action: Action) -> set[int]:
    """How an operation can refuse, by what it takes."""
    found = set(COMMON)
    where: dict[str, set[str]] = defaultdict(set)
    for parameter in operation.get("parameters", []):
        where[parameter["in"]].add(parameter["name"])
    is_change = "GET" not in (route.methods or ())
    if action is not Action.PUBLIC or is_change:
        found.add(403)
    if where["path"] or is_change:
        found.add(404)
    if is_change:
        found |= {409, 507}
    if is_change and action in _ASKS_UPSTREAMS:
        found |= {502, 504}
    if "If-Match" in where["header"]:
        found.add(412)
    if "requestBody" in operation:
        found.add(415)
    if "requestBody" in operation or where["query"] or where["header"] or where["path"]:
        found.add(422)
    return found
