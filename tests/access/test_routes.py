"""Every route has its row, and declares what it needs."""

import pytest
from fastapi import APIRouter

from entrepot.api import application
from entrepot.model.access import Action
from tests.access import routes, table
from tests.access.requests import full_path

READING = {
    Action.BROWSE,
    Action.PULL,
    Action.CATALOG,
    Action.SEE_ORGANISATION,
    Action.SEE_USAGE,
}
SAFE = {"GET", "HEAD"}


def keys_of(rows):
    return {(method, path.partition("#")[0]) for method, path in rows}


def test_every_route_has_its_row_and_every_row_its_route():
    of_management = keys_of(table.MANAGEMENT) | keys_of(table.REPOSITORIES)
    written = {(method, full_path(path)) for method, path in of_management}
    written |= keys_of(table.PROTOCOL) | keys_of(table.NAMELESS) | keys_of(table.OPERATION)
    real = [*routes.protocol(), *routes.management(), *routes.operation()]

    assert {(entry.method, entry.template) for entry in real} == written


def test_the_application_has_no_routes_beside_those_of_its_routers():
    described = {
        (method.upper(), path)
        for path, methods in routes.schema()["paths"].items()
        for method in methods
    }

    hidden = {("GET", "/api/v1/openapi.json"), ("GET", "/api/docs")}
    declared = {(entry.method, entry.template) for entry in routes.management()}
    assert described | hidden == declared
    assert len(routes.application().routes) == len(routes.ROUTED)


@pytest.mark.parametrize("entry", [*routes.protocol(), *routes.management()], ids=str)
def test_a_right_to_read_never_guards_a_change(entry):
    assert entry.method in SAFE or entry.action not in READING


def test_a_route_that_declares_nothing_does_not_start(monkeypatch):
    router = APIRouter()
    router.add_api_route("/quiet", print)
    monkeypatch.setattr(application, "ROUTERS", (*application.ROUTERS, router))

    with pytest.raises(TypeError, match="declares no action"):
        routes.application()
