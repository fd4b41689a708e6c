"""Undoing as a person types it: by what the deleting command said, in a shell and on a terminal."""

import pytest

from tests.support.server import Client

pytestmark = pytest.mark.slow  # a process for every command


@pytest.fixture
def pusher(client_server):
    client = Client(client_server, token=client_server.token)
    yield client
    client.close()


def undo_of(said):
    """The command that a deletion says undoes it."""
    (line,) = [line for line in said.err.splitlines() if "; undo until 20" in line]
    return line.split(": ")[-1]


def test_a_deleted_tag_comes_back_by_the_command_that_the_deletion_said(admin, acme, pusher, data):
    path = f"{acme}/team/app:v1"
    digest = pusher.push_image(f"{acme}/team/app", "v1")
    deleted = admin.run("tag", "rm", path, "--yes")
    assert undo_of(deleted) == f"entrepot tag restore {path}"

    said = admin.type(undo_of(deleted))

    assert f"restored {path}: it is {digest}" in said.err
    assert data(admin.run("tag", "show", path, "--json"))["digest"] == digest
    versions = data(admin.type(said.next_with("tag history") + " --json"))
    assert [version["ended_by"] for version in versions] == [None, "delete"]
    assert [version["ended_who"] for version in versions] == [None, "admin"]
    lines = admin.run("tag", "history", path).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["2", "1"]
    assert "deleted by admin" in admin.talk("tag", "history", path)


def test_a_tag_is_set_back_to_a_version_and_a_date(admin, acme, pusher, data):
    path = f"{acme}/app:v1"
    first = pusher.push_image(f"{acme}/app", "v1")
    second = pusher.push_image(f"{acme}/app", "v1")
    there = admin.run("tag", "restore", path, code=1)
    assert "say which version" in there.err

    by_version = data(admin.run("tag", "restore", path, "--version", "1", "--json"))
    moment = data(admin.run("tag", "history", path, "--json"))[1]["from"]
    by_date = data(admin.run("tag", "restore", path, "--to", moment, "--json"))
    again = admin.run("tag", "restore", path, "--to", moment)
    before = admin.run("tag", "restore", path, "--to", "2h", code=1)

    assert (by_version["digest"], by_version["before"]) == (first, second)
    assert by_date["digest"] == second
    assert f"{path} is {second} already" in again.err
    assert "was not there at" in before.err
    assert (
        "a moment is written like" in admin.run("tag", "restore", path, "--to", "soon", code=2).err
    )
    assert admin.run("tag", "restore", path, "--to", "2h", "--version", "1", code=2).err
    assert admin.run("tag", "restore", f"{acme}/app", code=2).next[0].endswith("app:TAG")
    never = admin.run("tag", "restore", f"{acme}/app:never", code=1)
    assert never.next[0] == f"entrepot tag list {acme}/app"


def test_a_manifest_comes_back_with_its_tags_and_says_which_it_left(admin, acme, pusher):
    name = f"{acme}/app"
    digest = pusher.push_image(name, "v1")
    pusher.request("DELETE", f"/v2/{name}/manifests/{digest}")
    pusher.push_image(name, "v2")

    said = admin.run("tag", "restore", f"{name}@{digest}")

    assert f"restored {name}@{digest} with v1" in said.err


def test_all_that_retention_removed_comes_back_with_one_command(admin, acme, pusher, data):
    pusher.push_image(f"{acme}/app", "v1")

    said = admin.run("tag", "restore", f"{acme}/app", "--all-since", "2h", "--json")

    assert data(said) == {"restored": [], "left": []}
    assert "restored 0 tags" in said.err
    assert admin.run("tag", "restore", f"{acme}/app:v1", "--all-since", "2h", code=2).next


def test_a_repository_is_listed_and_comes_back(admin, acme, pusher, data):
    path = f"{acme}/team/app"
    pusher.push_image(path, "v1")
    deleted = admin.run("repository", "rm", path, "--yes")
    listed = data(admin.run("repository", "list", "--deleted", "--json"))

    said = admin.type(undo_of(deleted))

    assert undo_of(deleted) == f"entrepot repository restore {path}"
    assert [(item["kind"], item["name"]) for item in listed] == [("repository", "team/app")]
    assert admin.type(said.next_with("tag list")).out.startswith("v1\t")
    again = admin.run("repository", "restore", path, code=1)
    assert "no repository team/app was deleted" in again.err
    assert "nothing was deleted" in admin.type(again.next_with("--deleted")).err


def test_a_project_comes_back_by_its_id_or_name(admin, acme, data):
    project = admin.run("project", "create", "site").out.strip()
    deleted = admin.run("project", "delete", project, "--yes")

    said = admin.type(undo_of(deleted))
    admin.run("project", "delete", "site", "--yes")
    admin.run("project", "restore", "site")

    assert undo_of(deleted) == f"entrepot project restore {project}"
    assert said.next_with("token create")
    assert data(admin.run("project", "show", project, "--json"))["name"] == "site"
