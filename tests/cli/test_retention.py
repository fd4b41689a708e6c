"""`entrepot retention` as a person types it."""

import json

import pytest

from tests.support.server import OCI_INDEX, Client

pytestmark = pytest.mark.slow  # a process for every command

BUILDS = [f"build-{number}" for number in range(1, 6)]


@pytest.fixture
def app(client_server, acme):
    """A repository with five builds and a release."""
    client = Client(client_server, token=client_server.token)
    for tag in ["v1.0", *BUILDS]:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        answer = client.request(
            "PUT",
            f"/v2/{acme}/app/manifests/{tag}",
            content=json.dumps(index | {"annotations": {"word": tag}}),
            headers={"content-type": OCI_INDEX},
        )
        assert answer.status_code == 201, answer.text
    client.close()
    return f"{acme}/app"


def tags_of(admin, app):
    return {line.split("\t")[0] for line in admin.run("tag", "list", app).out.splitlines()}


def test_what_holds_and_who_says_so(admin, acme, app):
    at_first = admin.run("retention", "show", app).out
    admin.run("retention", "set", "--org", acme, "--days", "30")
    of_organisation = admin.run("retention", "show").out  # the one in ENTREPOT_ORG
    admin.run("retention", "set", app, "--never")
    own = admin.run("retention", "show", app).out

    assert "7 days since the last push\n" in at_first
    assert "said by\tserver" in at_first
    assert "30 days since the last push\nsaid by\torganisation" in of_organisation
    assert "never deleted\nsaid by\trepository" in own
    assert "without its own policy\t30 days since the last push" in own


def test_a_policy_by_which_more_goes_wants_yes_where_nobody_is_asked(admin, app):
    refused = admin.run("retention", "set", app, "--tags", "2", "--keep", "v*", code=2)
    tags = tags_of(admin, app)
    admin.type(refused.next[0])
    shown = admin.run("retention", "show", app).out

    assert refused.out.count("\tnew\tbeyond the newest 2") == 3
    assert "3 tags would go" in refused.err
    assert refused.next == [f"entrepot retention set {app} --tags 2 --keep 'v*' --yes"]
    assert tags == {"v1.0", *BUILDS}
    assert "the newest 2 tags; tags that fit v* stay" in shown


def test_on_a_terminal_the_preview_is_shown_and_asked(admin, app):
    words = ("retention", "set", app, "--tags", "2")
    no = admin.talk(*words, answers={"[y/N]": "n"}, code=1, columns=80)
    kept = admin.run("retention", "show", app).out
    yes = admin.talk(*words, answers={"[y/N]": "y"}, columns=80)

    assert "goes, new" in no
    assert "beyond the newest 2" in no
    assert "4 tags would go" in no
    assert "4 more than by the policy that holds" in no
    assert max(map(len, no.partition("would go")[0].splitlines())) <= 80
    assert "said by\tserver" in kept
    assert f"{app} keeps: the newest 2 tags" in yes


def test_a_policy_by_which_nothing_more_goes_is_not_asked(admin, app):
    said = admin.run("retention", "set", app, "--tags", "100").err

    assert f"{app} keeps: the newest 100 tags" in said


def test_an_organisations_policy_is_tried_on_its_repositories_first(admin, acme, app):
    refused = admin.run("retention", "set", "--org", acme, "--tags", "1", code=2)
    changed = admin.type(refused.next[0])
    back = admin.run("retention", "set", "--org", acme, "--inherit").err

    assert f"{app}\t5\t0\t5\t" in refused.out
    assert f"By this policy 5 more go from {acme}" in refused.err
    assert "keep: the newest tag" in changed.err
    assert "keep: 7 days since the last push" in back


def test_a_run_removes_it_and_says_how_to_undo_it(admin, app):
    admin.run("retention", "set", app, "--tags", "2", "--keep", "v*", "--yes")

    ran = admin.run("retention", "run", app)
    again = admin.run("retention", "run", app)

    assert f"3 tags went from {app}" in ran.err
    assert ran.next == [f"entrepot tag history {app}:TAG"]
    assert tags_of(admin, app) == {"v1.0", "build-4", "build-5"}
    assert f"nothing went from {app}" in again.err


def test_programs_get_json(admin, app, data):
    tried = data(admin.run("retention", "preview", app, "--tags", "2", "--json"))
    everything = data(admin.run("retention", "preview", app, "--all", "--json"))
    changed = data(admin.run("retention", "set", app, "--tags", "2", "--yes", "--json"))
    ran = data(admin.run("retention", "run", app, "--json"))

    assert [line["tag"] for line in tried["items"]] == ["v1.0", "build-1", "build-2", "build-3"]
    assert tried["policy"]["tags"] == 2
    assert len(everything["items"]) == 6
    assert changed["own"]["tags"] == 2
    assert ran == {"tags": 4, "untagged": 0, "is_done": True}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say one of --days N, --tags N, --never and --inherit"),
        (["--days", "3", "--tags", "5"], "say one of --days N, --tags N, --never and --inherit"),
        (["--keep", "v*"], "say one of --days N, --tags N, --never and --inherit"),
        (["--inherit", "--keep", "v*"], "so --keep cannot be with it"),
        (["--days", "0"], "0 is not in the range"),
        (["--days", "3", "--keep", "a b"], "keep is at most 64 patterns"),
        (["--days", "3", "--org", "acme"], "say one of them"),
    ],
)
def test_a_policy_that_is_not_clear_is_refused(admin, app, words, said):
    refused = admin.run("retention", "set", app, *words, code=2)

    assert said in refused.err


def test_an_organisation_is_named_to_change_its_policy(admin, acme):
    refused = admin.run("retention", "set", "--days", "3", code=2)  # ENTREPOT_ORG is not enough

    assert "whose policy? say PATH, or --org" in refused.err
