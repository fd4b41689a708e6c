"""`entrepot upstream`, as somebody types it who has a registry to pull through."""

import json

import httpx
import pytest

from tests.support.server import basic
from tests.support.upstreams import (
    BasicLogin,
    Realm,
    ScriptedUpstream,
    bearer_upstream,
    faults,
)

pytestmark = pytest.mark.slow  # a process for every command

TOKEN = "dckr_pat_S3cr3t"


@pytest.fixture
def upstream():
    server = ScriptedUpstream()
    with server.running():
        yield server


@pytest.fixture
def hub(admin, acme, upstream):
    """Docker Hub, played."""
    upstream.login = BasicLogin({"ada": TOKEN})
    said = admin.run(
        *("upstream", "add", "docker-hub", "--url", upstream.origin),
        *("--username", "ada", "--password-stdin"),
        stdin=TOKEN,
    )
    assert said.out == "docker-hub\n"
    return said


def test_a_preset_is_added_and_what_comes_next_is_said(admin, acme, upstream):
    said = admin.run("upstream", "add", "docker-hub", "--anonymous", "--url", upstream.origin)
    listed = admin.run("upstream", "list")

    assert said.out == "docker-hub\n"
    assert "without a credential" in said.err
    assert said.next_with("repository create") == (
        f"entrepot repository create {acme}/redis --upstream docker-hub"
        " --upstream-repository library/redis"
    )
    assert said.next_with("mirror add")
    assert "docker-hub" in listed.out
    assert "works" in listed.out


def test_docker_hub_without_a_credential_says_what_that_means(admin, acme):
    refused = admin.run("upstream", "add", "docker-hub", code=1)

    assert "100 pulls in 6 hours" in refused.err
    assert "--username NAME --password-stdin" in refused.err
    assert "--anonymous" in refused.err


def test_the_first_list_says_how_to_begin(admin, acme):
    said = admin.run("upstream", "list")

    assert said.out == ""
    assert said.next == [f"entrepot upstream add docker-hub --anonymous --org {acme}"]


def test_a_credential_is_shown_by_its_name_alone(admin, hub, data):
    shown = admin.run("upstream", "show", "docker-hub")
    everything = admin.run("upstream", "show", "docker-hub", "--json")

    assert "basic:ada" in shown.out
    assert data(everything)["credential_name"] == "ada"
    assert "no TLS" in hub.err
    for said in (hub, shown, everything):
        assert TOKEN not in said.out + said.err


def test_check_and_rotate(admin, acme, hub, upstream):
    upstream.login.people["ada"] = "another"
    failed = admin.run("upstream", "check", "docker-hub", code=1)
    wrong = admin.run(
        *("upstream", "rotate", "docker-hub", "--username", "ada", "--password-stdin"),
        stdin="no better",
        code=1,
    )
    nothing = admin.run("upstream", "rotate", "docker-hub", code=2)
    admin.run(
        *("upstream", "rotate", "docker-hub", "--username", "ada", "--password-stdin"),
        stdin="another",
    )

    assert "docker-hub does not work" in failed.err
    assert failed.next_with("rotate") == f"entrepot upstream rotate docker-hub --org {acme}"
    assert "refuses the credential" in wrong.err
    assert nothing.next_with("--password-stdin")
    assert "works" in admin.run("upstream", "check", "docker-hub").err


def test_a_credential_that_is_refused_says_that_nothing_was_made_and_what_to_type(
    admin, acme, upstream
):
    upstream.login = BasicLogin({"ada": TOKEN})
    add = ("upstream", "add", "hub", "--url", upstream.origin)

    none = admin.run(*add, code=1)
    wrong = admin.run(*add, "--username", "ada", "--password-stdin", stdin="wrong", code=1)

    for said in (none, wrong):
        assert "nothing was saved" in said.err
        assert "rotate" not in said.err
        name = "NAME" if said is none else "ada"
        with_name = f"--username {name} --password-stdin < FILE"
        assert said.next == [f"entrepot upstream add hub --url {upstream.origin} {with_name}"]
    assert "has no upstreams" in admin.run("upstream", "list").err


def test_a_token_service_that_refuses_a_new_credential_names_no_upstream_to_rotate(admin, acme):
    server = bearer_upstream(Realm(people={"ada": TOKEN}, anonymous=False))
    with server.running():
        said = admin.run(
            *("upstream", "add", "hub", "--url", server.origin),
            *("--username", "ada", "--password-stdin"),
            stdin="wrong",
            code=1,
        )

    assert "refuses the credential (401)" in said.err
    assert "rotate" not in said.err
    assert said.next_with("upstream add")


def test_an_upstream_that_is_down_is_shown_with_the_reason_and_the_way_on(
    admin, acme, upstream, client_server
):
    upstream.put_image("team/app", "v1")
    admin.run("upstream", "add", "hub", "--url", upstream.origin)
    admin.run(
        *("repository", "create", f"{acme}/app", "--upstream", "hub"),
        *("--upstream-repository", "team/app"),
    )
    upstream.script(faults.status(503), kind="manifest")
    for _ in range(3):
        answer = httpx.get(
            f"{client_server.url}/v2/{acme}/app/manifests/v1", headers=basic(client_server.token)
        )
        assert answer.status_code == 502

    said = admin.run("upstream", "show", "hub")
    listed = admin.run("upstream", "list")
    shown = dict(line.split("\t") for line in said.out.splitlines())

    assert shown["state"] == "down"
    assert "the upstream hub fails (503)" in shown["wrong"]
    assert said.next == [
        f"entrepot upstream check hub --org {acme}",
        f"entrepot upstream rotate hub --org {acme}",
    ]
    assert listed.out.split("\t")[3] == "down"


def test_what_does_not_answer_is_saved_unchecked_when_asked(admin, acme, upstream, data):
    upstream.script(faults.status(503), kind="ping")
    add = ("upstream", "add", "partner", "--url", upstream.origin)

    refused = admin.run(*add, code=1)
    said = admin.run(*add, "--save-unchecked", "--json")

    assert "--save-unchecked" in refused.err
    assert data(said)["is_checked"] is False
    assert said.next_with("upstream check")
    assert "unchecked" in admin.run("upstream", "list").out


def test_aws_is_told_what_to_allow_before_it_refuses(admin, acme, data):
    where = ("--account", "123456789012", "--region", "eu-central-1")
    role = ("--role-arn", "arn:aws:iam::123456789012:role/pull")

    refused = admin.run("upstream", "add", "ecr", *where, *role, code=1)

    organisation = data(admin.run("org", "show", acme, "--json"))["id"]
    trust, rights = _documents(refused.err)
    assert trust["Statement"][0]["Condition"] == {
        "StringEquals": {"sts:ExternalId": f"entrepot-{organisation}"}
    }
    assert rights["Statement"][0]["Action"] == "ecr:GetAuthorizationToken"
    assert rights["Statement"][1]["Resource"] == (
        "arn:aws:ecr:eu-central-1:123456789012:repository/*"
    )
    assert f"ENTREPOT_OUTBOUND__AMBIENT={acme}" in refused.err


def test_a_name_and_patterns_are_changed(admin, hub, member):
    assert "none for you" in member.person.run("upstream", "list").err

    admin.run("upstream", "set", "docker-hub", "--name", "hub", "--members", "library/*")

    assert member.person.run("upstream", "list").out.startswith("hub\t")
    admin.run("upstream", "set", "hub", "--no-members")
    assert "none for you" in member.person.run("upstream", "list").err


def test_two_credentials_or_half_of_one_are_refused_before_anything_is_asked(admin, acme):
    for words in (
        ("--username", "ada", "--token-stdin"),
        ("--password-stdin",),
        ("--tenant", "contoso"),
        ("--secret-stdin",),
        ("--anonymous", "--username", "ada"),
    ):
        assert admin.run("upstream", "add", "ghcr", *words, code=2).err


def test_an_upstream_is_removed(admin, acme, hub):
    refused = admin.run("upstream", "rm", "docker-hub", code=2)
    admin.type(refused.next[0])

    assert "has no upstreams" in admin.run("upstream", "list").err
    missing = admin.run("upstream", "show", "docker-hub", code=1)
    assert missing.next_with("upstream list")


def _documents(text):
    """The JSON documents in a text."""
    found, decoder, at = [], json.JSONDecoder(), text.find("{")
    while at >= 0:
        document, end = decoder.raw_decode(text, at)
        found.append(document)
        at = text.find("{", end)
    return found
