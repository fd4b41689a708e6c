import csv
import io
import json
import socket
from contextlib import closing

import httpx
import pytest

from tests.support.server import Client, basic

pytestmark = pytest.mark.slow  # a process for every command


def test_organisations(admin, acme, data):
    listed = data(admin.run("org", "list", "--json"))
    changed = admin.run("org", "set", acme, "--name", "Acme", "--no-public", "--json")
    shown = data(admin.run("org", "show", "--json"))  # the one in ENTREPOT_ORG

    assert acme in {organisation["slug"] for organisation in listed}
    assert data(changed)["allows_public"] is False
    assert (shown["slug"], shown["name"]) == (acme, "Acme")


def test_what_would_destroy_wants_yes_where_nobody_is_asked(admin, acme):
    refused = admin.run("org", "delete", acme, code=2)

    assert refused.next == [f"entrepot org delete {acme} --yes"]
    assert admin.type(refused.next[0]).out == ""
    assert "no such organisation" in admin.run("org", "show", acme, code=1).err


def test_on_a_terminal_what_would_destroy_is_asked(admin, acme):
    no = admin.talk("org", "delete", acme, answers={"[y/N]": "n"}, code=1)
    yes = admin.talk("org", "delete", acme, answers={"[y/N]": "y"})

    assert "Aborted" in no
    assert f"deleted organisation {acme}" in yes


def test_the_organisation_that_is_meant(admin, acme, member, stranger):
    del admin.variables["ENTREPOT_ORG"]

    only = member.person.run("project", "list")
    several = admin.run("project", "list", code=2)
    used = admin.run("org", "use", acme)
    chosen = admin.run("project", "list")

    assert f"{acme} has no projects" in only.err
    assert acme in several.err
    assert "main" in several.err
    assert f"{acme} has no projects" in chosen.err
    assert f"without --org, commands now mean {acme}" in used.err
    assert f"{acme}/REPO" in used.err


def test_members_and_invitations(admin, acme, member, data):
    admin.run("member", "set", member.name, "--role", "reader")
    members = data(admin.run("member", "list", "--json"))
    admin.run("member", "invite", "--role", "admin", "--note", "for ann", "--expires", "1d")
    (open_one,) = data(admin.run("invitation", "list", "--json"))
    admin.run("invitation", "revoke", open_one["id"])
    admin.run("member", "remove", member.name, "--yes")

    assert {found["user"]["name"]: found["role"] for found in members} == {
        "admin": "owner",
        member.name: "reader",
    }
    assert (open_one["role"], open_one["note"]) == ("admin", "for ann")
    assert data(admin.run("invitation", "list", "--json")) == []
    assert member.name not in admin.run("member", "list").out


@pytest.mark.parametrize("words", [["remove"], ["remove", "--yes"], ["set", "--role", "reader"]])
def test_who_is_no_member_is_told_before_anything_is_asked(admin, acme, words):
    said = admin.run("member", words[0], "nobody", *words[1:], "--org", acme, code=1)

    assert f"{acme} has no member nobody" in said.err
    assert said.next == [f"entrepot member list --org {acme}"]


def test_an_organisation_that_is_not_there_is_what_member_remove_tells(admin):
    assert admin.run("member", "remove", "nobody", "--org", "nosuch", code=1).next == [
        "entrepot org list"
    ]


def test_who_joins_as_a_new_user_gets_one_list_of_what_comes_next(admin, acme, stranger):
    link = admin.run("member", "invite").out.strip()
    words = ["--user", f"eve-{acme}", "--password-stdin"]

    said = stranger.run("join", link, *words, stdin="correct horse battery\n")

    assert f"you are member of {acme} now" in said.err
    assert said.err.count("next: ") == 1
    assert len(said.next) == len(set(said.next))


def test_who_is_logged_in_joins_as_who_they_are(admin, acme, member, data):
    admin.run("org", "create", f"{acme}-2")
    link = admin.run("member", "invite", "--org", f"{acme}-2", "--role", "reader").out.strip()

    joined = data(member.person.run("join", link, "--json"))

    assert (joined["user"]["name"], joined["role"]) == (member.name, "reader")
    assert member.person.run("join", link, code=1).out == ""


def test_a_link_to_another_server_does_not_get_the_token_of_this_one(admin, stranger):
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        admin.variables["ENTREPOT_TOKEN"] = "entrepot_user_secret"

        said = admin.run("join", f"{address}/join#entrepot_invite_x", code=2)

    assert "new user of" in said.err  # it would have to ask, and has sent nothing


def test_projects_and_their_links(admin, acme, data):
    project = admin.run("project", "create", "app").out.strip()
    admin.run("repository", "create", f"{acme}/team/app")
    admin.run("project", "link", "app", f"{acme}/team/app")
    links = data(admin.run("project", "links", project, "--json"))
    admin.run("project", "unlink", project, f"{acme}/team/app")
    admin.run("project", "rename", "app", "application")
    admin.run("org", "create", f"{acme}-2")
    admin.run("project", "transfer", "application", f"{acme}-2", "--yes")
    shown = data(admin.run("project", "show", project, "--json"))
    admin.run("project", "delete", project, "--yes")

    assert [link["path"] for link in links] == ["team/app"]
    assert (shown["name"], shown["organisation"]["slug"]) == ("application", f"{acme}-2")
    assert admin.run("project", "show", project, code=1).out == ""


def test_a_project_keeps_an_id_that_was_given(admin, acme):
    taken = "zz" + acme[-8:].translate(str.maketrans("aeiouy", "bcdfgh"))

    said = admin.run("project", "create", "moved", "--id", taken)

    assert said.out == f"{taken}\n"


def test_repositories_and_their_policies(admin, acme, data):
    path = f"{acme}/team/app"
    made = admin.run("repository", "create", path, "--immutable", "v*", "--protect", "latest")
    first = data(admin.run("repository", "show", path, "--json"))
    admin.run("repository", "set", path, "--public", "--read-only", "--no-immutable")
    second = data(admin.run("repository", "show", path, "--json"))
    admin.run("repository", "set", path, "--writable", "--no-protect")
    listed = admin.run("repository", "list", "--query", "am/ap").out
    admin.run("repository", "rm", path, "--yes")

    assert made.out == f"{path}\n"
    assert (first["immutable_tags"], first["protected_tags"]) == (["v*"], ["latest"])
    assert (second["is_public"], second["is_read_only"]) == (True, True)
    assert (second["immutable_tags"], second["protected_tags"]) == ([], ["latest"])
    assert listed.startswith(f"{path}\ttrue\tfalse\t")
    assert admin.run("repository", "show", path, code=1).next


def test_a_path_without_an_organisation_is_of_the_default_one(admin, address, acme, data):
    path = f"{acme}-not/an-organisation"
    host = address.removeprefix("http://")

    made = admin.run("repository", "create", path)

    assert made.out == f"main/{path}\n"
    shown = data(admin.run("repository", "show", f"{host}/{path}:v1", "--json"))
    assert (shown["organisation"]["slug"], shown["path"]) == ("main", path)


def test_tags(client_server, admin, acme, data):
    registry = Client(client_server, token=client_server.token)
    digest = registry.push_image(f"{acme}/app", "v1")
    registry.push_image(f"{acme}/app", "nightly")
    registry.close()

    listed = data(admin.run("tag", "list", f"{acme}/app", "--prefix", "v", "--json"))
    shown = data(admin.run("tag", "show", f"{acme}/app:v1", "--json"))
    forgotten = admin.run("tag", "show", f"{acme}/app", code=2)
    admin.run("tag", "rm", f"{acme}/app:v1", "--yes")

    assert [(tag["name"], tag["digest"]) for tag in listed] == [("v1", digest)]
    assert shown["manifest"]["tags"] == ["v1"]
    assert f"entrepot tag list {acme}/app" in forgotten.next
    assert [
        line.split("\t")[0] for line in admin.run("tag", "list", f"{acme}/app").out.splitlines()
    ] == ["nightly"]


def test_a_token_is_printed_alone_and_reaches_no_further_than_it_says(
    client_server, admin, acme, data
):
    said = admin.run(
        *("token", "create", "--kind", "org", "--name", "ci", "--expires", "30d"),
        *("--scope", "team/*:pull,push", "--scope", "docs:pull,push"),
    )
    (listed,) = data(admin.run("token", "list", "--org", acme, "--json"))

    registry = Client(client_server, token=said.out.strip())
    registry.push_image(f"{acme}/team/app")
    refused = registry.request("POST", f"/v2/{acme}/other/blobs/uploads/")
    registry.close()

    assert said.out.startswith("entrepot_org_")
    assert said.out.count("\n") == 1
    assert said.out.strip() not in said.err
    assert "ends in 30 d" in said.err
    assert listed["patterns"] == ["team/*", "docs"]
    assert listed["actions"] == ["pull", "push"]
    assert refused.status_code in {403, 404}


def test_a_token_that_only_moves_images_is_told_so(admin, acme):
    pull = admin.run("pull-token").out.strip()
    del admin.variables["ENTREPOT_ORG"]
    admin.variables["ENTREPOT_TOKEN"] = pull

    listed = admin.run("project", "list", code=1)
    tags = admin.run("tag", "list", f"{acme}/app", code=1)

    assert "this is a pull token" in listed.err
    assert "this is a pull token" in tags.err


def test_a_revoked_token_is_listed_no_more(admin, acme, data):
    made = data(admin.run("token", "create", "--kind", "org", "--json"))

    admin.run("token", "revoke", made["id"], "--yes")

    assert data(admin.run("token", "list", "--org", acme, "--json")) == []
    assert data(admin.run("token", "show", made["id"], "--json"))["revoked_at"] is not None


@pytest.mark.parametrize(
    "words",
    [
        ("--kind", "user", "--project", "x"),
        ("--kind", "project"),
        ("--kind", "pull", "--manage"),
        ("--kind", "org", "--scope", "team:fly"),
        ("--kind", "org", "--scope", "a:pull", "--scope", "b:push"),
        ("--kind", "org", "--expires", "soon"),
        ("--kind", "org", "--expires", "0d"),
    ],
)
def test_what_cannot_be_a_token_is_a_wrong_command_line(stranger, words):
    assert stranger.run("token", "create", *words, code=2).out == ""


@pytest.mark.parametrize(
    ("words", "least", "most"),
    [
        (("token", "create", "--kind", "user"), "1m", "3660d"),
        (("pull-token",), "1m", "3660d"),
        (("kubernetes-secret", "pull"), "1m", "3660d"),
        (("member", "invite"), "1h", "30d"),
        (("login", "--user", "ann"), "1m", "366d"),
    ],
)
@pytest.mark.parametrize("length", ["2s", "9999d"])
def test_a_life_too_short_or_too_long_is_told_in_our_words(stranger, words, least, most, length):
    said = stranger.run(*words, "--expires", length, code=2)

    assert f"from {least} to {most}" in " ".join(said.err.split())
    assert "expires_in" not in said.err


def test_a_pull_token_lives_an_hour_and_does_not_push(client_server, admin, acme):
    said = admin.run("pull-token", "--repository", "team/*")

    registry = Client(client_server, token=said.out.strip())
    refused = registry.request("POST", f"/v2/{acme}/team/app/blobs/uploads/")
    registry.close()
    assert "ends in 1 h" in said.err
    assert refused.status_code in {403, 404}


def test_the_audit_log(admin, acme, data):
    admin.run("project", "create", "app")

    (event,) = data(admin.run("audit", "--action", "project.created", "--since", "1h", "--json"))
    table = list(csv.reader(io.StringIO(admin.run("audit", "--csv").out)))
    cut = admin.run("audit", "--limit", "1")
    of_server = data(admin.run("audit", "--server", "--limit", "3", "--json"))

    assert (event["actor"]["name"], event["object"]["name"]) == ("admin", "app")
    assert table[0][:2] == ["at", "action"]
    assert {row[1] for row in table[1:]} == {"organisation.created", "project.created"}
    assert cut.out.count("\n") == 1
    assert "there are more" in cut.err
    assert len(of_server) <= 3
    assert admin.run("audit", "--csv", "--json", code=2).out == ""


def test_the_audit_log_says_what_is_not_a_user(client_server, admin, acme):
    token = admin.run("token", "create", "--kind", "org", "--name", "ci", "--manage").out.strip()
    path = f"/api/v1/organisations/{acme}/projects"
    made = httpx.post(f"{client_server.url}{path}", json={"name": "app"}, headers=basic(token))
    assert made.status_code == 201, made.text

    shown = admin.talk("audit", "--action", "project.created")

    assert "ci (org token)" in shown


def test_a_narrow_terminal_shows_ids_whole(admin, acme):
    name = "the bot that deploys what the payments team builds"
    words = ["--name", name, "--scope", "platform/services/**:pull,push", "--expires", "90d"]
    admin.run("token", "create", "--kind", "org", *words)
    token = json.loads(admin.run("token", "list", "--org", acme, "--json").out)[0]["id"]

    assert token in admin.talk("token", "list", "--org", acme, columns=64)


def test_a_narrow_terminal_gets_the_columns_of_the_audit_log_that_fit(admin, acme):
    admin.run("repository", "create", f"{acme}/a-long-name-of-an-app")

    narrow = admin.talk("audit", "--action", "repository.created", columns=80)
    wide = admin.talk("audit", "--action", "repository.created", columns=120)

    heading, _, event, *_ = narrow.splitlines()
    assert heading.split() == ["WHEN", "WHO", "DID", "TO", "FROM"]
    assert "repository.created" in event
    assert "a-long-name-of-an-app" in event
    assert "too narrow for TOKEN" in narrow
    assert wide.splitlines()[0].split() == ["WHEN", "WHO", "DID", "TO", "FROM", "TOKEN"]
    assert "too narrow" not in wide


def test_users_and_the_switches_of_the_server(admin, address, stranger, data):
    admin.run("user", "create", "carol", "--password-stdin", stdin="correct horse battery\n")
    stranger.run(
        "login", address, "--user", "carol", "--password-stdin", stdin="correct horse battery"
    )
    admin.run("user", "set", "carol", "--disable")
    shown = data(admin.run("user", "show", "carol", "--json"))
    refused = stranger.run("whoami", code=1)
    admin.run("settings", "set", "--read-only")
    switched = data(admin.run("settings", "show", "--json"))
    admin.run("settings", "set", "--writable")

    assert "carol" in admin.run("user", "list").out
    assert shown["is_disabled"] is True
    assert refused.next == [f"entrepot login {address}"]
    assert switched == {"is_read_only": True}
