"""A private repository looks like none, by whatever way one looks (T02, T38)."""

import statistics
import time

import pytest

from tests.access import table
from tests.access.answers import without
from tests.access.requests import full_path, path_of
from tests.access.world import random_id
from tests.support.server import basic, digest_of

_READ = {"GET", "HEAD"}
BY_NAME = [row for row in table.PROTOCOL if row[0] in _READ]
BY_ID = [row for row in table.REPOSITORIES if row[0] in _READ]
STRANGERS = {
    place: [
        who
        for who in table.PRINCIPALS
        if table.outcome(table.REPOSITORIES["GET", "/repositories/{repository}"][place], who) != "+"
    ]
    for place in ("other", "builds")
}
CASES = [(who, place) for place, people in STRANGERS.items() for who in people]


def headers_of(world, principal, name):
    token = world.principals[principal]
    if principal == "bearer":
        return {"authorization": f"Bearer {world.signed(world.principals['owner'], {})}"}
    return basic(token) if token else {}


def _conditions(template, digest):
    """Headers by which a read may be answered otherwise."""
    found: list[tuple[tuple[str, str], ...]] = [()]
    if "/blobs/{digest}" in template:
        found.append((("range", "bytes=0-3"),))
    if "/manifests/" in template:
        found.append((("if-none-match", f'"{digest}"'),))
    return found


@pytest.mark.parametrize(("principal", "place"), CASES)
def test_a_private_repository_looks_like_none_by_its_name(world, principal, place):
    """By tag, by digest, by its blobs, whole and in part, by its lists, by its uploads."""
    name = world.ours.names[place]
    absent = random_id(name)
    headers = headers_of(world, principal, name)
    upload = world.upload(place, None)
    values = world.ours.values(place) | {"upload": upload}
    others = [
        {},
        {"digest": world.ours.blob},
        {"reference": world.ours.manifest},
        {"reference": "v9", "digest": digest_of(b"x"), "upload": upload[::-1]},
    ]
    doors = {
        (method, path_of(template, values | other | {"name": "NAME"}), extra)
        for method, template in BY_NAME
        for other in others
        for extra in _conditions(template, world.ours.manifest)
    }
    seen = []

    for method, path, extra in sorted(doors):
        answers = [
            without(
                world.http.request(
                    method, path.replace("NAME", value), headers={**headers, **dict(extra)}
                ),
                value,
            )
            for value in (name, absent)
        ]
        assert answers[0] == answers[1], (method, path)
        seen.append(answers[0][0])

    assert set(seen) <= {401, 404}


@pytest.mark.parametrize(("principal", "place"), CASES)
def test_a_private_repository_looks_like_none_by_its_id(world, principal, place):
    ours, repository = world.ours, world.ours.repositories[place]
    headers = headers_of(world, principal, "")
    absent = random_id(repository)

    for method, template in BY_ID:
        for given in ({}, {"tag": "v9", "digest": digest_of(b"x")}):
            answers = [
                without(
                    world.http.request(
                        method,
                        full_path(
                            path_of(template, ours.values(place) | given | {"repository": value})
                        ),
                        headers=headers,
                    ),
                    value,
                )
                for value in (repository, absent)
            ]
            assert answers[0] == answers[1], (method, template)
            assert answers[0][0] in {401, 404}


@pytest.mark.parametrize(("principal", "place"), CASES)
def test_a_private_repository_is_in_no_list(world, principal, place):
    ours, headers = world.ours, headers_of(world, principal, "")
    name = ours.names[place]
    path = name.removeprefix(f"{ours.slug}/")
    absent = random_id(path)
    project = f"/api/v1/projects/{ours.project}/repositories"
    listed = f"/api/v1/organisations/{ours.slug}/repositories"

    catalog = world.http.get("/v2/_catalog", headers={**headers, "host": _host(world)})
    assert path not in catalog.json().get("repositories", [])
    for target in (listed, project):
        for query in ({}, {"limit": 1}):
            text = world.http.get(target, params=query, headers=headers).text
            assert ours.repositories[place] not in text
            assert f'"{path}"' not in text
    audit = f"/api/v1/organisations/{ours.slug}/audit"
    for target, field in ((listed, "path"), (listed, "query"), (audit, "object")):
        answers = [
            without(world.http.get(target, params={field: value}, headers=headers), value)
            for value in (path, absent)
        ]
        assert answers[0] == answers[1]


def _host(world):
    """The organisation's sub-domain: its catalog."""
    return f"{world.ours.slug}.registry.localhost:{world.registry.server.port}"


@pytest.mark.parametrize("place", ["other", "builds"])
@pytest.mark.parametrize("principal", ["stranger", "foreign"])
def test_a_private_repository_is_no_source_of_a_mount(world, principal, place):
    theirs, headers = world.theirs, basic(world.principals[principal])
    path = f"/v2/{theirs.names['other']}/blobs/uploads/"
    name = world.ours.names[place]

    answers = [
        without(
            world.http.post(path, params={"mount": digest, "from": source}, headers=headers),
            digest,
        )
        for digest in (world.ours.blob, digest_of(b"nobody has this"))
        for source in (name, random_id(name))
    ]

    assert answers == [answers[0]] * 4
    assert answers[0][0] == 202


@pytest.mark.soak
@pytest.mark.parametrize("principal", ["stranger", "other project"])
def test_time_does_not_tell_a_private_repository_from_none(world, principal):
    """Medians of interleaved samples, within a fifth or a third of a millisecond."""
    name, headers = world.ours.names["other"], basic(world.principals[principal])
    names = (name, random_id(name))
    for path in ("manifests/v1", f"blobs/{world.ours.blob}", "tags/list"):
        samples: tuple[list[float], list[float]] = ([], [])

        for _ in range(2_000):
            for value, found in zip(names, samples, strict=True):
                begun = time.perf_counter()
                assert world.http.get(f"/v2/{value}/{path}", headers=headers).status_code == 404
                found.append(time.perf_counter() - begun)

        there, absent = map(statistics.median, samples)
        assert abs(there - absent) < max(absent / 5, 0.000_33), path
