"""Upstreams of repositories and of namespaces, as they are typed."""

import pytest

from tests.support.upstreams.fixtures import upstream

__all__ = ["upstream"]


@pytest.fixture
def hub(admin, acme, upstream):
    """An upstream called hub, with the image library/redis:7."""
    del acme
    upstream.put_image("library/redis", "7")
    admin.run("upstream", "add", "hub", "--url", upstream.origin)
    return upstream


def test_a_repository_is_made_of_an_upstream_and_set(admin, acme, hub, data):
    path = f"{acme}/cache/redis"
    of_hub = ("--upstream", "hub", "--upstream-repository", "library/redis")

    made = admin.run("repository", "create", path, *of_hub, "--sync", "7*", "--keep-deleted")
    admin.run("repository", "set", path, "--freshness", "5", "--accept-push", "--warm", "7")
    shown = data(admin.run("repository", "show", path, "--json"))["upstream"]
    listed = admin.run("repository", "list").out

    assert made.out == f"{path}\n"
    assert "filled from hub/library/redis" in made.err
    assert made.next[0].startswith("docker pull ")
    assert (shown["name"], shown["path"]) == ("hub", "library/redis")
    assert (shown["freshness"], shown["sync"], shown["keeps_deleted"]) == (5, "7*", True)
    assert (shown["accepts_push"], shown["warm_tags"]) == (True, ["7"])
    assert "hub/library/redis" in listed
    assert hub.log.count(kind="tags", name="library/redis") >= 1


def test_what_was_set_is_undone(admin, acme, hub, data):
    del hub
    path = f"{acme}/cache/redis"
    of_hub = ("--upstream", "hub", "--upstream-repository", "library/redis")
    admin.run("repository", "create", path, *of_hub, "--sync", "7*", "--warm", "7")

    synced = admin.run("repository", "show", path).out
    undo = ("--no-sync", "--no-warm", "--freshness", "usual", "--json")
    shown = data(admin.run("repository", "set", path, *undo))["upstream"]

    assert "freshness\tsync" in synced
    assert (shown["freshness"], shown["sync"], shown["warm_tags"]) == (60, None, [])


def test_one_step_from_a_full_reference(admin, acme, upstream):
    upstream.put_image("team/app", "1")

    made = admin.run(
        "repository", "create", f"{acme}/app", "--upstream-url", f"{upstream.origin}/team/app"
    )
    bare = admin.run("repository", "create", f"{acme}/all", "--upstream-url", "ghcr.io", code=1)
    limited = ("--upstream-url", "docker.io/library/redis")
    refused = admin.run("repository", "create", f"{acme}/redis", *limited, code=1)

    assert "/team/app" in made.err
    assert "entrepot mirror add" in bare.err
    assert "--anonymous" in refused.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--upstream", "hub"), "go together"),
        (("--upstream-repository", "library/redis"), "go together"),
        (("--upstream-url", "ghcr.io/a/b", "--upstream", "hub"), "leave out"),
        (("--freshness", "60"), "say which with --upstream"),
        (("--upstream", "hub", "--upstream-repository", "x", "--freshness", "soon"), "seconds"),
    ],
)
def test_options_that_do_not_go_together_are_refused(admin, acme, words, said):
    refused = admin.run("repository", "create", f"{acme}/cache", *words, code=2)

    assert said in " ".join(refused.err.split())


def test_an_upstream_is_not_set_later(admin, acme, data):
    path = f"{acme}/team/app"
    admin.run("repository", "create", path)

    typed = admin.run("repository", "set", path, "--upstream", "hub", code=2)
    set_too = admin.run("repository", "set", path, "--freshness", "60", code=1)

    assert "make a new one" in typed.err
    assert "repository create" in typed.next[0]
    assert "make a new repository" in set_too.err
    assert data(admin.run("repository", "show", path, "--json"))["upstream"] is None


def test_a_namespace_is_mirrored_changed_and_left(admin, acme, hub, data):
    del hub

    added = admin.run("mirror", "add", "/hub/", "--upstream", "hub", "--allow", "library/**")
    admin.run("mirror", "set", "hub", "--deny", "library/secret", "--allow-all")
    (listed,) = data(admin.run("mirror", "list", "--json"))
    again = admin.run("mirror", "add", "hub", "--upstream", "hub", code=1)
    asked = admin.run("mirror", "rm", "hub", code=2)
    removed = admin.type(asked.next[0])
    empty = admin.run("mirror", "list")
    gone = admin.run("mirror", "set", "hub", "--no-deny", code=1)

    assert added.out == "hub\n"
    assert added.next[0].endswith(f"/{acme}/hub/NAME:TAG")
    assert (listed["prefix"], listed["allow"], listed["deny"]) == ("hub", [], ["library/secret"])
    assert "mirrors hub already" in again.err
    assert "stays" in removed.err
    assert f"{acme} has no namespace mirrors" in empty.err
    assert f"{acme} has no mirror at hub" in gone.err


def test_a_mirror_of_all_names_is_a_slash(admin, acme, hub):
    del hub

    added = admin.run("mirror", "add", "/", "--upstream", "hub")
    removed = admin.run("mirror", "rm", "/", "--yes")

    assert added.out == "/\n"
    assert added.next[0].endswith(f"/{acme}/NAME:TAG")
    assert f"ended the mirror at / of {acme}" in removed.err
