"""Another organisation's ids in our paths and bodies: as if they were nobody's (T51)."""

import itertools
import re

import pytest

from tests.access import table
from tests.access.answers import without
from tests.access.requests import MANAGEMENT, Ask, full_path, path_of
from tests.access.snapshot import difference, snapshot
from tests.access.world import random_id
from tests.support.server import basic, digest_of

WORDS = (
    "organisation",
    "project",
    "repository",
    "token",
    "invitation",
    "user",
    "digest",
    "upstream",
    "mirror",
)
# A user is known on the whole server, to its administrators: the others hear 403 for any name.
SERVER = {
    row
    for row, line in table.MANAGEMENT.items()
    if table.outcome(line, "owner") == "3" or row[1].startswith("/users")
}
ROWS = [
    (method, path, word)
    for method, path in (*table.MANAGEMENT, *table.REPOSITORIES)
    for word in WORDS
    if f"{{{word}}}" in path
]


def theirs_of(world, word):
    """Their ids of this kind."""
    theirs = world.theirs
    found = {
        "organisation": [theirs.slug, theirs.id],
        "project": [theirs.project],
        "repository": [theirs.repositories["linked"], theirs.repositories["builds"]],
        "token": list(theirs.tokens.values()),
        "invitation": [theirs.invitation],
        "user": [theirs.users["reader"]],
        "digest": [theirs.manifest],
        "upstream": list(theirs.upstreams.values()),
        "mirror": [theirs.mirror],
    }
    return found[word]


def ask(world, token, method, path, values):
    spec = MANAGEMENT.get((method, path), Ask())
    body = spec.body(world) if callable(spec.body) else spec.body
    options = {} if body is None else {"json": body}
    return world.http.request(
        method,
        full_path(path_of(path, values)),
        headers={**(spec.headers or {}), **basic(token)},
        **options,
    )


@pytest.mark.parametrize("principal", ["owner", "managing"])
@pytest.mark.parametrize("word", WORDS)
def test_an_id_of_another_organisation_is_nobodys(world, principal, word):
    token = world.principals[principal]
    before = snapshot(world.registry)

    for method, path in (row[:2] for row in ROWS if row[2] == word):
        for real in theirs_of(world, word):
            absent = random_id(real)
            answers = [
                without(ask(world, token, method, path, world.ours.values() | {word: value}), value)
                for value in (real, absent)
            ]

            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] == (403 if (method, path) in SERVER else 404), (method, path)
    assert difference(before, snapshot(world.registry)) == {}


@pytest.mark.parametrize("principal", ["owner", "managing"])
def test_an_id_of_another_organisation_in_a_body_is_nobodys(world, principal):
    ours, theirs, token = world.ours, world.theirs, world.principals[principal]
    before = snapshot(world.registry)
    tokens = f"/organisations/{ours.slug}/tokens"
    bodies = [
        (tokens, "project", theirs.project, {"kind": "project"}),
        (tokens, "project", theirs.project, {"kind": "pull"}),
        (f"/projects/{ours.project}/transfer", "organisation", theirs.slug, {}),
        (f"/projects/{ours.project}/transfer", "organisation", theirs.id, {}),
    ]

    for path, field, real, rest in bodies:
        answers = [
            without(world.ask("POST", path, token, json=rest | {field: value}), value)
            for value in (real, random_id(real))
        ]

        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert difference(before, snapshot(world.registry)) == {}


@pytest.mark.parametrize("principal", ["owner", "managing", "project", "pull of organisation"])
@pytest.mark.parametrize("scheme", ["basic", "signed"])
def test_another_organisation_is_not_there_by_name(world, principal, scheme):
    ours, theirs, token = world.ours, world.theirs, world.principals[principal]
    world.upload("linked", None)
    before = snapshot(world.registry)
    names = (theirs.names["linked"], theirs.project)

    for (method, template), name in itertools.product(table.PROTOCOL, names):
        is_read = method in {"GET", "HEAD"}
        values = ours.values() | {"upload": world.upload("linked", None)}
        if template.endswith("#digest"):
            values["reference"] = theirs.manifest
        answers = []
        for value in (name, random_id(name)):
            headers = basic(token)
            if scheme == "signed":
                everything = {value: frozenset({"pull", "push", "delete"})}
                headers = {"authorization": f"Bearer {world.signed(token, everything)}"}
            path = path_of(template, values | {"name": value})
            content = None if is_read or method == "DELETE" else b"{}"
            answer = world.http.request(method, path, headers=headers, content=content)
            answers.append(without(answer, value))

        assert answers[0] == answers[1], (method, template)
        assert answers[0][0] == (404 if is_read else 403), (method, template)
    assert difference(before, snapshot(world.registry)) == {}


def test_what_only_they_hold_is_not_in_our_repository(world):
    """Bytes are kept once for all; a link row alone gives them."""
    ours, theirs, owner = world.ours, world.theirs, world.ours.secrets["owner"]
    doors = [
        ("GET", "manifests/{}", theirs.manifest),
        ("HEAD", "manifests/{}", theirs.manifest),
        ("DELETE", "manifests/{}", theirs.manifest),
        ("GET", "blobs/{}", theirs.blob),
        ("HEAD", "blobs/{}", theirs.blob),
        ("DELETE", "blobs/{}", theirs.blob),
        ("GET", "referrers/{}", theirs.manifest),
    ]

    for method, path, real in doors:
        answers = [
            without(
                world.http.request(
                    method, f"/v2/{ours.names['linked']}/{path.format(value)}", headers=basic(owner)
                ),
                value,
            )
            for value in (real, digest_of(b"nobody has this"))
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == (200 if path.startswith("referrers") else 404)


@pytest.mark.parametrize("source", ["linked", "builds", "nothing", ""])
def test_a_mount_of_what_only_they_hold_is_an_upload(world, source):
    ours, theirs, owner = world.ours, world.theirs, world.ours.secrets["owner"]
    query = {"from": "" if not source else theirs.names.get(source, "org-none/app")}
    path = f"/v2/{ours.names['linked']}/blobs/uploads/"

    answers = [
        without(
            world.http.post(
                path,
                params={k: v for k, v in query.items() if v} | {"mount": digest},
                headers=basic(owner),
            ),
            digest,
        )
        for digest in (theirs.blob, digest_of(b"nobody has this"))
    ]

    assert answers[0] == answers[1]
    assert answers[0][0] == 202
    held = world.http.head(f"/v2/{ours.names['linked']}/blobs/{theirs.blob}", headers=basic(owner))
    assert held.status_code == 404


def test_ids_are_in_every_path_that_is_swapped():
    """A new word in a path needs its line in `theirs_of`."""
    words = {
        word
        for _, path in (*table.MANAGEMENT, *table.REPOSITORIES)
        for word in re.findall(r"\{(\w+)\}", path)
    }

    assert words - {"tag"} == set(WORDS)
