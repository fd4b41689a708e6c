"""Everybody on every route, against the table (T01)."""

from typing import Any

import pytest

from tests.access import table
from tests.access.requests import (
    PROTOCOL_ANSWERS,
    SUCCESS,
    ask_management,
    ask_protocol,
    expected_of,
    path_of,
)
from tests.access.snapshot import difference, snapshot
from tests.access.world import CONTENT, PLACES
from tests.support.server import basic

STATUS = {"1": 401, "3": 403, "4": 404}
# Who holds a bearer token is found out before the database is asked: one of them is enough.
WAYS = [("sqlite", "basic"), ("postgres", "basic"), ("sqlite", "issued"), ("postgres", "signed")]
# Principals whose credential never was, or is no more: nobody issues them anything.
DEAD = {"disabled", "expired", "revoked"}


def in_order(cells):
    """What is refused first, so that nothing that is allowed hides it."""
    return sorted(cells, key=lambda cell: cell[-1] == "+")


def headers_of(world, principal):
    """How somebody presents themselves at the management API."""
    if principal == "bearer":
        return {"authorization": f"Bearer {world.signed(world.principals['owner'], {})}"}
    token = world.principals[principal]
    return basic(token) if token else {}


@pytest.mark.parametrize("principal", table.PRINCIPALS)
def test_the_management_api_answers_everybody_as_the_table_says(world, principal, record_cells):
    headers = headers_of(world, principal)
    todo = [(row, "linked", line) for row, line in table.MANAGEMENT.items()] + [
        (row, place, lines[place]) for row, lines in table.REPOSITORIES.items() for place in PLACES
    ]
    todo = in_order([(row, place, table.outcome(line, principal)) for row, place, line in todo])
    before: Any = snapshot(world.registry)
    wrong = []

    for row, place, letter in todo:
        if letter == "+" and before is not None:
            assert difference(before, snapshot(world.registry)) == {}
            before = None
        is_allowed = letter == "+"
        answer = ask_management(world, row, headers, place=place, is_allowed=is_allowed)
        wanted = expected_of(row) if is_allowed else {STATUS[letter]}
        if answer.status_code not in wanted:
            wrong.append((*row, place, sorted(wanted), answer.status_code, answer.text[:300]))

    record_cells(len(todo))
    assert not wrong
    assert before is None or difference(before, snapshot(world.registry)) == {}


@pytest.mark.parametrize(("database", "scheme"), WAYS)
@pytest.mark.parametrize("principal", [who for who in table.PRINCIPALS if who != "bearer"])
def test_the_protocol_answers_everybody_as_the_table_says(
    request, database, principal, scheme, record_cells
):
    """`issued` bearer tokens cover what the token service gave; `signed` ones all there is."""
    world = request.getfixturevalue(f"{database}_world")
    todo = in_order(
        [
            (row, place, table.outcome(lines[place], principal))
            for row, lines in table.PROTOCOL.items()
            for place in PLACES
        ]
    )
    wrong = []
    headers = {place: protocol_headers(world, principal, scheme, place) for place in PLACES}
    token = world.principals[principal]
    token_id = world.token_id(token) if token else 0
    refused = [cell for cell in todo if cell[-1] != "+"]
    for place in PLACES:
        world.upload(place, None)
    before = snapshot(world.registry)

    for row, place, letter in todo:
        if letter == "+" and refused:
            refused = []
            assert difference(before, snapshot(world.registry)) == {}
        wanted = wanted_of(row, letter, principal, scheme)
        answer = ask_protocol(
            world,
            row,
            headers[place],
            place=place,
            is_allowed=letter == "+",
            token_id=token_id,
        )
        if answer.status_code not in wanted:
            wrong.append((*row, place, sorted(wanted), answer.status_code, answer.text[:300]))

    record_cells(len(todo))
    assert not wrong
    assert not refused or difference(before, snapshot(world.registry)) == {}


def protocol_headers(world, principal, scheme, place):
    token, name = world.principals[principal], world.ours.names[place]
    if scheme == "basic":
        return basic(token) if token else {}
    if scheme == "issued" and principal not in DEAD:
        text = world.issued(token, f"repository:{name}:pull,push,delete")
    else:
        text = world.signed(token, {name: CONTENT})
    return {"authorization": f"Bearer {text}"}


def wanted_of(row, letter, principal, scheme):
    """What the table means for a way of coming."""
    if letter == "+":
        return PROTOCOL_ANSWERS.get(row, SUCCESS)
    if scheme == "basic" or principal in DEAD:
        return {STATUS[letter]}
    if principal == "nobody" and scheme == "issued":
        return {401}  # logging in would help
    if principal == "nobody":
        return {404 if row[0] in {"GET", "HEAD"} else 403}  # nobody, with a token that says all
    return {STATUS[letter]}


@pytest.mark.parametrize("principal", table.PRINCIPALS)
def test_routes_without_a_name_answer_everybody_as_the_table_says(world, principal, record_cells):
    headers, token = headers_of(world, principal), world.principals[principal]
    rows = {**table.NAMELESS, **table.OPERATION}

    for (method, template), line in rows.items():
        letter = table.outcome(line, principal)
        options = {}
        if (method, template) == ("POST", "/v2/token"):
            secret = headers.get("authorization", "").removeprefix("Bearer ")
            password = token if principal != "bearer" else secret
            options["data"] = {"grant_type": "password", "password": password or ""}

        answer = world.http.request(method, path_of(template, {}), headers=headers, **options)

        wanted = SUCCESS if letter == "+" else {STATUS[letter]}
        assert answer.status_code in wanted, (method, template)
    record_cells(len(rows))
