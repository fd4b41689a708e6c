"""`entrepot repository sync` and `status`."""

import json

import pytest

from tests.cli.person import Person
from tests.mirror.syncing import mirror_of
from tests.support.upstreams import faults

PATH = "library/app"


@pytest.fixture
def person(stand, tmp_path):
    (tmp_path / "home").mkdir()
    server = stand.registry.server
    variables = {"ENTREPOT_SERVER": server.url, "ENTREPOT_TOKEN": server.token}
    return Person(tmp_path / "home", variables)


@pytest.fixture
def mirror(stand, upstream):
    for tag in ("v1", "v2", "v3"):
        upstream.put_image(PATH, tag)
    return mirror_of(stand, upstream)


def test_a_sync_is_waited_for_and_says_what_it_did(person, mirror):
    said = person.run("repository", "sync", mirror.cache.name, "--wait")

    assert said.err.startswith(f"synced {mirror.cache.name}: 3 tags, 3 of them new or moved")
    assert said.out == ""
    assert len(mirror.tags()) == 3


def test_a_sync_that_nobody_waits_for_says_where_to_look(person, mirror):
    said = person.run("repository", "sync", mirror.cache.name)

    assert f"repository status {mirror.cache.name}" in said.next[0]
    assert mirror.end_of(mirror.runs()[0])["done"] == 3


def test_a_sync_that_fails_says_why_and_fails(person, upstream, mirror):
    upstream.script(faults.status(404), kind="manifest", reference="v2")

    said = person.run("repository", "sync", mirror.cache.name, "--wait", code=1)

    assert "1 of 3 tags failed: v2 (404)" in said.err


def test_a_terminal_shows_how_far_a_sync_came(person, mirror):
    shown = person.talk("repository", "sync", mirror.cache.name, "--wait")

    assert "tags" in shown.partition("synced")[0]
    assert "synced" in shown


def test_a_run_is_printed_for_programs(person, mirror):
    run = json.loads(person.run("repository", "sync", mirror.cache.name, "--wait", "--json").out)

    assert (run["done"], run["error"]) == (3, None)


def test_status_shows_the_upstream_and_the_runs(person, mirror):
    mirror.sync()

    said = person.run("repository", "status", mirror.cache.name)
    found = json.loads(person.run("repository", "status", mirror.cache.name, "--json").out)

    lines = dict(line.split("\t", 1) for line in said.out.splitlines()[:7])
    assert lines["upstream"] == f"{mirror.cache.upstream['name']}/{PATH}"
    assert lines["last synced"].startswith("20")
    assert "3/3" in said.out
    assert found["repository"]["id"] == mirror.id
    assert [run["done"] for run in found["runs"]] == [3]


def test_what_was_never_synced_says_so(person, mirror):
    said = person.run("repository", "status", mirror.cache.name)

    assert f"repository sync {mirror.cache.name}" in said.next[0]


def test_what_comes_from_no_upstream_has_no_status(stand, person):
    stand.admin.made("/organisations/main/repositories", {"path": "hosted/status"})

    for command in ("status", "sync"):
        said = person.run("repository", command, "hosted/status", code=1)
        assert "no upstream" in said.err
