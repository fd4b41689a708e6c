"""Everybody below a mirror, at names that have no repository yet, against the table.

A private mirror tells nobody who may not pull what its upstream has: the upstream is not asked.
"""

from typing import Any

import pytest

from tests.access import table
from tests.access.answers import without
from tests.access.requests import SUCCESS, path_of
from tests.access.snapshot import difference, snapshot
from tests.access.test_matrix import DEAD, STATUS, in_order
from tests.access.world import CONTENT
from tests.support.server import basic, digest_of

OCI_INDEX = "application/vnd.oci.image.index.v1+json"

WAYS = [("sqlite", "basic"), ("sqlite", "issued"), ("postgres", "signed")]
PLACES = {  # the prefix of the mirror, the upstream's folder, and whether it is there
    "private": ("mirrored", "library", True),
    "private, absent": ("mirrored", "library", False),
    "public": ("opened", "library", True),
    "public, absent": ("opened", "library", False),
    "public, denied": ("opened", "closed", True),
}


def name_at(world, place):
    """A name below a mirror that nobody has asked for, and what it is upstream."""
    prefix, folder, is_there = PLACES[place]
    path = f"{folder}/{world.word()}"
    if is_there:
        world.upstream.put_image(path, "v1")
    return f"{world.ours.slug}/{prefix}/{path}", path


def headers_of(world, principal, scheme, name):
    token = world.principals[principal]
    if scheme == "basic":
        return basic(token) if token else {}
    if scheme == "issued" and principal not in DEAD:
        text = world.issued(token, f"repository:{name}:pull,push,delete")
    else:
        text = world.signed(token, {name: CONTENT})
    return {"authorization": f"Bearer {text}"}


def ask(world, row, name, headers):
    method, template = row
    digest = digest_of(name.encode())
    options = {}
    if method == "PUT":
        options["json"] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        headers = headers | {"content-type": OCI_INDEX}
    path = path_of(template, {"name": name, "reference": "v1", "digest": digest})
    return world.http.request(method, path, headers=headers, **options)


def wanted_of(row, letter, principal, scheme):
    """The statuses that the table means; for nobody by the way they come."""
    if letter == "+":
        return SUCCESS
    if letter == "1" and principal == "nobody" and scheme == "signed":
        return {404 if row[0] in {"GET", "HEAD"} else 403}
    return {STATUS[letter]}


@pytest.mark.parametrize(("database", "scheme"), WAYS)
@pytest.mark.parametrize("principal", [who for who in table.PRINCIPALS if who != "bearer"])
def test_below_a_mirror_everybody_is_answered_as_the_table_says(
    request, database, principal, scheme, record_cells
):
    world = request.getfixturevalue(f"{database}_world")
    todo = in_order(
        [
            (row, place, table.outcome(line, principal))
            for row, lines in table.MIRRORED.items()
            for place, line in lines.items()
        ]
    )
    before: Any = snapshot(world.registry)
    wrong = []

    for row, place, letter in todo:
        if letter == "+" and before is not None:
            assert difference(before, snapshot(world.registry)) == {}
            before = None
        name, _ = name_at(world, place)
        answer = ask(world, row, name, headers_of(world, principal, scheme, name))
        wanted = wanted_of(row, letter, principal, scheme)
        if answer.status_code not in wanted:
            wrong.append((*row, place, sorted(wanted), answer.status_code, answer.text[:200]))

    record_cells(len(todo))
    assert not wrong


@pytest.mark.parametrize("principal", [who for who in table.PRINCIPALS if who != "bearer"])
def test_a_private_mirror_tells_nobody_else_what_its_upstream_has(sqlite_world, principal):
    """Not by an answer, and not by asking: for those who may not pull, nothing is asked."""
    world = sqlite_world
    rows = [
        row
        for row, lines in table.MIRRORED.items()
        if table.outcome(lines["private"], principal) != "+"
    ]

    for row in rows:
        names, paths = zip(
            *(name_at(world, place) for place in ("private", "private, absent")), strict=True
        )
        for scheme in ("basic", "issued"):
            answers = [
                without(
                    ask(world, row, name, headers_of(world, principal, scheme, name)),
                    name,
                    path,
                    digest_of(name.encode()),
                )
                for name, path in zip(names, paths, strict=True)
            ]
            assert answers[0] == answers[1], row
        assert [entry for entry in world.upstream.log.entries if entry.name in paths] == [], row
