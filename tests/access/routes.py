"""The real routes of every surface, as the program has them."""

import ast
import inspect
from dataclasses import dataclass
from typing import Any, cast

from fastapi.routing import APIRoute

from entrepot.api import reference
from entrepot.api.application import PREFIX, ROUTERS, action_of, build
from entrepot.model.access import Action
from entrepot.oci.routes import ROUTES
from entrepot.ops import surface

ROUTED = [*((PREFIX, router) for router in ROUTERS), ("/api", reference.router)]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One method of one route, and the action that it declares, if its surface declares any."""

    method: str
    template: str
    action: Action | None


def protocol() -> list[Entry]:
    return [
        Entry(method, route.template, endpoint.action)
        for route in ROUTES
        for method, endpoint in route.methods.items()
    ]


def management() -> list[Entry]:
    """What the application answers, as its routers have it. Each GET is a HEAD as well."""
    return [
        Entry(method, prefix + route.path, action_of(route))
        for prefix, router in ROUTED
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    ]


def operation() -> list[Entry]:
    """The paths that the ops surface compares with, read from its source."""
    tree = ast.parse(inspect.getsource(surface))
    paths = [
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant)
    ]
    return [Entry(method, str(path), None) for path in paths for method in ("GET", "HEAD")]


def application() -> Any:
    return build(cast("Any", None), "0")


def schema() -> dict[str, Any]:
    """The description of the management API."""
    found: dict[str, Any] = application().openapi()
    return found
