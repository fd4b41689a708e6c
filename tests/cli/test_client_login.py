import json
import stat

import httpx
import pytest

from tests.support.server import basic

pytestmark = pytest.mark.slow  # a process for every command

PASSWORD = "correct horse battery"


def knows(server, token):
    return httpx.get(f"{server.url}/api/v1/whoami", headers=basic(token)).status_code == 200


def test_login_stores_a_token_that_works_for_its_owner_alone(
    client_server, address, stranger, data
):
    said = stranger.run("login", address, "--token-stdin", stdin=client_server.token + "\n")

    kept = json.loads(stranger.stored.read_text())
    assert said.out == ""
    assert f"logged in to {address} as admin" in said.err
    assert (kept["current"], kept["servers"][address]["token"]) == (address, client_server.token)
    assert stat.S_IMODE(stranger.stored.stat().st_mode) == 0o600
    assert stat.S_IMODE(stranger.stored.parent.stat().st_mode) == 0o700
    assert data(stranger.run("whoami", "--json"))["user"]["name"] == "admin"


def test_a_token_that_the_server_does_not_know_is_not_stored(address, stranger):
    said = stranger.run("login", address, "--token", "entrepot_user_nonsense", code=1)

    assert "does not know this token" in said.err
    assert not stranger.stored.exists()


def test_a_password_becomes_a_token_that_logout_revokes(client_server, address, member, stranger):
    stranger.run("login", address, "--user", member.name, "--password-stdin", stdin=PASSWORD)
    token = json.loads(stranger.stored.read_text())["servers"][address]["token"]
    worked = knows(client_server, token)

    said = stranger.run("logout")

    assert worked
    assert "revoked the token" in said.err
    assert not knows(client_server, token)
    assert json.loads(stranger.stored.read_text()) == {"current": None, "servers": {}}


def test_logging_in_again_ends_the_token_that_logging_in_made(client_server, address, member, data):
    before = json.loads(member.person.stored.read_text())["servers"][address]["token"]

    member.person.run("login", address, "--user", member.name, "--password-stdin", stdin=PASSWORD)

    assert not knows(client_server, before)
    assert data(member.person.run("whoami", "--json"))["user"]["name"] == member.name


def test_logout_leaves_a_token_alone_that_login_did_not_make(client_server, admin):
    admin.run("logout")

    assert knows(client_server, client_server.token)


def test_on_a_terminal_login_asks_for_name_and_password(address, member, stranger):
    shown = stranger.talk(
        "login",
        address,
        answers={"Token": "", "Name": member.name, "Password": PASSWORD},
    )

    assert f"logged in to {address} as {member.name}" in shown
    assert PASSWORD not in shown


def test_without_a_terminal_login_says_what_to_type(address, stranger):
    said = stranger.run("login", address, code=2)

    assert said.next == [
        f"entrepot login {address} --token-stdin < FILE",
        f"entrepot login {address} --user NAME --password-stdin < FILE",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("--token", "x", "--user", "y"),
        ("--token-stdin", "--token", "x"),
        ("--password-stdin",),
        ("--token-stdin",),  # nothing is there
    ],
)
def test_ways_that_exclude_each_other_are_a_wrong_command_line(address, stranger, words):
    assert stranger.run("login", address, *words, code=2).out == ""


def test_a_credential_does_not_go_over_plain_http_to_another_machine(stranger):
    said = stranger.run("login", "http://192.0.2.1:5000", "--token", "x", code=1)

    assert "no TLS" in said.err
    assert said.next == ["entrepot login http://192.0.2.1:5000 --insecure"]


def test_the_environment_goes_before_what_is_stored(client_server, address, member, stranger, data):
    stranger.variables = {"ENTREPOT_SERVER": address, "ENTREPOT_TOKEN": client_server.token}

    first = data(stranger.run("whoami", "--json"))
    member.person.variables = {"ENTREPOT_TOKEN": client_server.token}
    second = data(member.person.run("whoami", "--json"))

    assert (first["user"]["name"], second["user"]["name"]) == ("admin", "admin")


def test_a_token_in_the_environment_that_does_not_work_is_named(address, admin):
    admin.variables = {"ENTREPOT_TOKEN": "entrepot_user_nonsense"}

    said = admin.run("org", "list", code=1)

    assert said.next == ["unset ENTREPOT_TOKEN", f"entrepot login {address}"]


def test_a_password_can_be_changed_by_whoever_knows_it(address, member, stranger):
    member.person.run("password", "--stdin", stdin=f"{PASSWORD}\nanother long enough\n")

    stranger.run(
        "login", address, "--user", member.name, "--password-stdin", stdin="another long enough"
    )
    said = stranger.run(
        "login", address, "--user", member.name, "--password-stdin", stdin=PASSWORD, code=1
    )
    assert "name or the password is not right" in said.err
    assert said.next == [f"entrepot login {address} --user {member.name}"]


def test_a_broken_file_is_named(stranger):
    stranger.stored.parent.mkdir(parents=True)
    stranger.stored.write_text("{")

    said = stranger.run("whoami", code=1)

    assert str(stranger.stored) in said.err
