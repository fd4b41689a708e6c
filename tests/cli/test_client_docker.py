import base64
import json
import stat
from types import SimpleNamespace
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # schemathesis brings it

from tests.support.server import Client

pytestmark = pytest.mark.slow  # a process for every command


@pytest.fixture
def host(address):
    return address.removeprefix("http://")


def auth(token):
    return {"auth": base64.b64encode(f"x-token:{token}".encode()).decode()}


def test_docker_login_writes_docker_s_file_and_leaves_the_rest_as_it_is(client_server, host, admin):
    folder = admin.home / "docker"
    folder.mkdir()
    before: dict[str, Any] = {
        "auths": {"other.example.com": {"auth": "b2s="}},
        "psFormat": "table ñ",
    }
    (folder / "config.json").write_text(json.dumps(before))
    admin.variables["DOCKER_CONFIG"] = str(folder)

    said = admin.run("docker-login")

    after = json.loads((folder / "config.json").read_text())
    assert after["auths"] == before["auths"] | {host: auth(client_server.token)}
    assert after["psFormat"] == "table ñ"
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
    assert said.out == ""
    assert f"docker push {host}/alpine:v1" in said.next[0]


def test_docker_login_makes_the_file_where_docker_looks_without_more(client_server, admin):
    admin.run("docker-login", "registry.example.com")

    kept = json.loads((admin.home / ".docker" / "config.json").read_text())
    assert kept == {"auths": {"registry.example.com": auth(client_server.token)}}


def test_a_symbolic_link_to_the_file_stays_one(admin):
    elsewhere = admin.home / "dotfiles.json"
    elsewhere.write_text("{}")
    (admin.home / ".docker").mkdir()
    (admin.home / ".docker" / "config.json").symlink_to(elsewhere)

    admin.run("docker-login")

    assert (admin.home / ".docker" / "config.json").is_symlink()
    assert "auths" in json.loads(elsewhere.read_text())


@pytest.fixture
def helper(admin):
    """A credential helper that keeps what it was given, or refuses where `refuse` exists."""
    folder = admin.home / "bin"
    folder.mkdir()
    program = folder / "docker-credential-box"
    program.write_text(
        f"#!/bin/sh\n[ -e {folder}/refuse ] && echo it is locked && exit 1\n"
        f'[ "$1" = store ] && cat > {folder}/kept\n'
    )
    program.chmod(0o755)
    admin.variables["PATH"] = f"{folder}:{admin.environment['PATH']}"
    (admin.home / ".docker").mkdir()
    return SimpleNamespace(
        kept=folder / "kept",
        refuse=folder / "refuse",
        config=admin.home / ".docker" / "config.json",
    )


@pytest.mark.parametrize("of_host", [True, False])
def test_docker_login_hands_the_credential_to_the_helper_that_is_configured(
    client_server, host, admin, helper, of_host
):
    named = {"credHelpers": {host: "box"}} if of_host else {"credsStore": "box"}
    helper.config.write_text(json.dumps(named))

    said = admin.run("docker-login")

    assert json.loads(helper.kept.read_text()) == {
        "ServerURL": host,
        "Username": "x-token",
        "Secret": client_server.token,
    }
    assert client_server.token not in helper.config.read_text()
    assert "docker-credential-box" in said.err


def test_what_a_helper_refuses_is_told(admin, helper):
    helper.config.write_text('{"credsStore": "box"}')
    helper.refuse.touch()

    said = admin.run("docker-login", code=1)

    assert "it is locked" in said.err
    assert json.loads(helper.config.read_text()) == {"credsStore": "box"}


def test_a_helper_that_is_not_there_is_named(admin, helper):
    helper.config.write_text('{"credsStore": "nowhere"}')

    assert "docker-credential-nowhere" in admin.run("docker-login", code=1).err


@pytest.mark.parametrize("named", [True, False])
def test_docker_login_writes_podman_s_file(client_server, host, admin, named):
    if named:
        path = admin.home / "auth.json"
        admin.variables["REGISTRY_AUTH_FILE"] = str(path)
    else:
        path = admin.home / "run" / "containers" / "auth.json"
        admin.variables["XDG_RUNTIME_DIR"] = str(admin.home / "run")

    said = admin.run("docker-login", "--podman")

    assert json.loads(path.read_text())["auths"] == {host: auth(client_server.token)}
    assert "--tls-verify=false" in said.next[0]


@pytest.mark.parametrize("words", [[], ["--podman"]])
def test_who_is_only_in_another_organisation_is_told_to_push_there(address, acme, member, words):
    said = member.person.run("docker-login", *words)

    assert f" {address.removeprefix('http://')}/{acme}/alpine:v1" in said.next[0]


def test_a_credential_that_does_not_work_is_not_passed_on(admin):
    admin.variables["ENTREPOT_TOKEN"] = "entrepot_user_nonsense"

    admin.run("docker-login", code=1)

    assert not (admin.home / ".docker").exists()


def test_a_kubernetes_secret_pulls_what_it_says(client_server, admin, acme):
    registry = Client(client_server, token=client_server.token)
    registry.push_image(f"{acme}/team/app", "v1")
    registry.push_image(f"{acme}/other", "v1")

    said = admin.run(
        *("kubernetes-secret", "pull", "--namespace", "on", "--host", "r.example.com"),
        *("--repository", "team/*", "--expires", "30d"),
    )

    secret = yaml.safe_load(said.out)
    document = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    pulling = Client(client_server, token=document["auths"]["r.example.com"]["password"])
    answers = [
        pulling.request("GET", f"/v2/{acme}/{path}/manifests/v1").status_code
        for path in ("team/app", "other")
    ]
    registry.close()
    pulling.close()
    assert (secret["apiVersion"], secret["kind"]) == ("v1", "Secret")
    assert secret["metadata"]["namespace"] == "on"  # a string, though YAML 1.1 has a truth of it
    assert answers[0] == 200
    assert answers[1] in {403, 404}
    assert "ends in 30 d" in said.err
    assert any(line.startswith("kubectl patch serviceaccount default -n on") for line in said.next)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("pull", "--expires", "never"), "it has to end"),
        (("Pull",), "no name that Kubernetes takes"),
        (("pull\nkind: Role",), "no name that Kubernetes takes"),
        (("pull", "--namespace", "a b"), "no namespace"),
        (("pull",), "--host"),
    ],
)
def test_what_cannot_be_a_kubernetes_secret_makes_no_token(admin, acme, data, words, reason):
    said = admin.run("kubernetes-secret", *words, code=2)

    assert reason in said.err
    assert data(admin.run("token", "list", "--org", acme, "--json")) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(stranger, shell):
    said = stranger.run("completion", shell)

    assert "_ENTREPOT_COMPLETE" in said.out
    assert said.next[0].startswith(f"entrepot completion {shell} > ")


def test_completion_knows_the_commands(stranger):
    stranger.variables = {
        "_ENTREPOT_COMPLETE": "bash_complete",
        "COMP_WORDS": "entrepot repository s",
        "COMP_CWORD": "2",
    }

    expected = ["plain,set", "plain,show", "plain,status", "plain,sync"]
    assert stranger.run().out.split() == expected
