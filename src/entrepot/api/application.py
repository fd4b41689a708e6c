"""The FastAPI application of /api/v1: its routes, its description, its errors."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from entrepot.api import (
    audit,
    collection,
    contents,
    invitations,
    members,
    namespace_mirrors,
    organisations,
    projects,
    reference,
    repositories,
    retention,
    session,
    settings,
    sync_runs,
    tokens,
    undo,
    upstreams,
    usage,
    users,
)
from entrepot.api.call import ACTION
from entrepot.api.management import Management
from entrepot.api.problems import (
    FRAMEWORK,
    MEDIA_TYPE,
    RETRY_SECONDS,
    FieldProblem,
    Problem,
    problem,
    problem_of,
)
from entrepot.api.reference import Reference
from entrepot.model.access import Action
from entrepot.model.errors import EntrepotError, Unauthenticated

PREFIX = "/api/v1"
NOTHING_THERE = "there is nothing at this path"
FAILED = "something went wrong here; the registry's log tells its operator"
NOT_JSON = "the body cannot be read as JSON in UTF-8"
_WRONG_TYPE = "send JSON, with the header Content-Type: application/json"
ROUTERS = (
    session.router,
    users.router,
    organisations.router,
    members.router,
    invitations.router,
    projects.router,
    usage.router,
    repositories.router,
    retention.router,
    sync_runs.router,
    contents.router,
    undo.router,
    upstreams.router,
    namespace_mirrors.router,
    tokens.router,
    audit.router,
    collection.router,
    settings.router,
)


def build(management: Management, version: str) -> FastAPI:
    """The application. Raises TypeError for a route that declares no action."""
    app = FastAPI(
        title="Entrepot",
        version=version,
        openapi_url=None,  # api/reference.py has both; the framework's page loads scripts
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
    )
    app.state.management = management
    app.state.reference = Reference(app, ROUTERS)
    require_declared(reference.router)
    app.include_router(reference.router, prefix="/api")
    for router in ROUTERS:
        require_declared(router)
        app.include_router(router, prefix=PREFIX)
    app.add_exception_handler(EntrepotError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    app.add_exception_handler(HTTPException, _refuse_plainly)
    app.add_exception_handler(Exception, _fail)
    return app


def require_declared(router: APIRouter) -> None:
    """Every route of ours says what it needs. Raises TypeError.

    The router is asked: what the application makes of it when it is included is FastAPI's own.
    """
    for route in router.routes:
        if not isinstance(route, APIRoute) or action_of(route) is None:
            message = f"{route} declares no action"
            raise TypeError(message)


def action_of(route: APIRoute) -> Action | None:
    """The action that a route declares."""
    declared = (route.openapi_extra or {}).get(ACTION)
    return Action(declared) if declared is not None else None


def answer(document: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem as an answer."""
    found = dict(headers or {})
    if document.status in RETRY_SECONDS:
        found.setdefault("retry-after", str(RETRY_SECONDS[document.status]))
    return JSONResponse(
        document.model_dump(mode="json"),
        status_code=document.status,
        headers=found,
        media_type=MEDIA_TYPE,
    )


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, EntrepotError):
        raise error
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = f'Basic realm="{request.scope["entrepot.base"]}"'
    if isinstance(seconds := error.values.get("retry_after"), int):
        headers["retry-after"] = str(seconds)
    return answer(problem_of(error, _request_id(request)), headers)


async def _refuse_fields(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()[:20]
    if any(each["type"] == "json_invalid" for each in found):
        return answer(problem(400, FRAMEWORK[400], NOT_JSON, _request_id(request)))
    is_of_body = any(each["loc"] == ("body",) for each in found)
    if is_of_body and await request.body() and not _is_json(request):
        return answer(problem(415, FRAMEWORK[415], _WRONG_TYPE, _request_id(request)))
    fields = [
        FieldProblem(field=".".join(map(str, each["loc"][1:])), message=str(each["msg"])[:300])
        for each in found
    ]
    named = ", ".join(field.field or "the body" for field in fields)
    detail = f"these fields cannot be taken as they are: {named}"
    return answer(problem(422, FRAMEWORK[422], detail, _request_id(request), fields))


async def _refuse_plainly(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: no such path, a method that it does not take."""
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    headers = dict(error.headers or {})
    detail = NOT_JSON
    if status == 404:  # noqa: PLR2004  # as the framework has them
        detail = NOTHING_THERE
    if status == 405:  # noqa: PLR2004
        # The framework names the methods of the first route that has this path.
        headers["allow"] = ", ".join(methods_at(request.url.path))
        detail = f"this path takes {headers['allow']}"
    name = FRAMEWORK.get(status, FRAMEWORK[400])
    return answer(problem(status, name, detail, _request_id(request)), headers)


async def _fail(request: Request, _error: Exception) -> JSONResponse:
    """Whatever else it is; it is raised once more behind this, and logged there."""
    return answer(problem(500, FRAMEWORK[500], FAILED, _request_id(request)))


def methods_at(path: str) -> list[str]:
    """The methods that a path takes."""
    found = {
        method
        for prefix, router in [("/api", reference.router), *((PREFIX, each) for each in ROUTERS)]
        for route in router.routes
        if isinstance(route, APIRoute)
        and path.startswith(prefix)
        and route.path_regex.match(path.removeprefix(prefix))
        for method in route.methods or ()
    }
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json"


def _request_id(request: Request) -> str:
    text: str = request.scope.get("entrepot.request_id", "")
    return text
