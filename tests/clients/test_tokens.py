"""What clients do, and are told, with a token that may do less than the administrator's."""

import pytest

from tests.protocol.registry import Registry as InsideRegistry
from tests.support.programs import Program
from tests.support.server import ENTREPOT

INSECURE = "--tls-verify=false"


@pytest.fixture
def pull_token(registry):
    return registry.server.make_token("--kind", "pull")


@pytest.fixture
def copy_with(skopeo, registry):
    """skopeo copy into the registry with a token of one's own; how it ended."""

    def run(token: str, image, name: str):
        return skopeo.try_run(
            "copy", "--preserve-digests", "--dest-tls-verify=false",
            "--dest-creds", f"x-token:{token}", image.reference,
            f"docker://{registry.host}/{name}:v1",
        )  # fmt: skip

    return run


@pytest.fixture
def inspect_with(skopeo, registry):
    def run(token: str, name: str):
        return skopeo.try_run(
            "inspect",
            INSECURE,
            "--creds",
            f"x-token:{token}",
            f"docker://{registry.host}/{name}:v1",
        )

    return run


def test_a_pull_token_pulls_and_may_not_push(
    copy_with, inspect_with, registry, pull_token, small, name
):
    copy_with(registry.token, small, name)

    assert inspect_with(pull_token, name).returncode == 0
    refused = copy_with(pull_token, small, f"{name}/other")
    assert refused.returncode != 0
    assert "denied" in refused.stdout


def test_an_organisation_token_pushes_and_pulls(copy_with, inspect_with, registry, small, name):
    token = registry.server.make_token("--kind", "org")

    assert copy_with(token, small, name).returncode == 0
    assert inspect_with(token, name).returncode == 0
    assert registry.check(name, "v1") == small.digest


def test_a_narrow_token_ends_at_its_path(copy_with, inspect_with, registry, small, name):
    token = registry.server.make_token("--kind", "org", "--scope", f"{name}/*:pull,push")
    copy_with(registry.token, small, f"{name}-other")

    assert copy_with(token, small, f"{name}/app").returncode == 0
    assert inspect_with(token, f"{name}/app").returncode == 0
    assert copy_with(token, small, f"{name}-more").returncode != 0
    assert inspect_with(token, f"{name}-other").returncode != 0


def test_a_project_token_pushes_to_its_project_alone(
    copy_with, inspect_with, registry, small, name
):
    admin = Program((str(ENTREPOT), "admin"), registry.server.environment)
    project = admin.output("project", "create", name.replace("/", "-")).strip()
    token = registry.server.make_token("--kind", "project", "--project", project)

    assert copy_with(token, small, project).returncode == 0
    assert inspect_with(token, project).returncode == 0
    assert registry.check(project, "v1") == small.digest
    assert "denied" in copy_with(token, small, name).stdout


def test_a_token_of_another_organisation_ends_at_it(copy_with, inspect_with, registry, small, name):
    admin = Program((str(ENTREPOT), "admin"), registry.server.environment)
    organisation = name.replace("/", "-")
    admin("org", "create", organisation)
    token = registry.server.make_token("--kind", "org", "--org", organisation)
    copy_with(registry.token, small, name)

    assert copy_with(token, small, f"{organisation}/app").returncode == 0
    assert inspect_with(token, f"{organisation}/app").returncode == 0
    assert copy_with(token, small, f"{name}/more").returncode != 0
    assert inspect_with(token, name).returncode != 0


def test_a_mount_from_where_a_token_may_not_read_becomes_an_upload(
    copy_with, registry, small, name
):
    """skopeo asks for the mount because it saw the layers there with another token."""
    token = registry.server.make_token("--kind", "org", "--scope", f"{name}/*:pull,push")
    assert copy_with(registry.token, small, f"{name}-other").returncode == 0

    assert copy_with(token, small, f"{name}/app").returncode == 0
    assert registry.check(f"{name}/app", "v1") == small.digest


def test_a_token_that_has_ended_is_not_taken(copy_with, inspect_with, registry, small, name):
    token = InsideRegistry(registry.server, registry.host).new_token("org", is_expired=True)
    copy_with(registry.token, small, name)

    done = inspect_with(token, name)

    assert done.returncode != 0
    assert "unauthorized" in done.stdout


def test_docker_with_a_pull_token_signs_in_pulls_and_may_not_push(
    docker20, registry, pull_token, copy_with, small, name
):
    copy_with(registry.token, small, name)
    docker = docker20
    docker("login", registry.host, "-u", "x-token", "--password-stdin", text=pull_token)

    docker("pull", f"{registry.host}/{name}:v1")
    docker("tag", f"{registry.host}/{name}:v1", f"{registry.host}/{name}:v2")
    said = docker.refused("push", f"{registry.host}/{name}:v2")

    assert "denied" in said
    docker("rmi", "--force", f"{registry.host}/{name}:v1", f"{registry.host}/{name}:v2")


@pytest.mark.parametrize("engine", ["docker20", "docker26"])
def test_docker_without_a_login_is_told_so(request, registry, copy_with, small, name, engine):
    copy_with(registry.token, small, name)
    docker = request.getfixturevalue(engine)
    docker("logout", registry.host)

    said = docker.refused("pull", f"{registry.host}/{name}:v1")

    assert "may require 'docker login'" in said


def test_skopeo_without_a_login_is_told_so(registry, copy_with, skopeo, small, name):
    copy_with(registry.token, small, name)

    said = skopeo.refused("inspect", INSECURE, "--no-creds", f"docker://{registry.host}/{name}:v1")

    assert "unauthorized: log in first" in said


def test_podman_with_a_pull_token_pulls_and_may_not_push(
    podman, registry, pull_token, copy_with, small, name
):
    copy_with(registry.token, small, name)
    user = (INSECURE, "--creds", f"x-token:{pull_token}")

    podman("pull", *user, f"{registry.host}/{name}:v1")
    said = podman.refused("push", *user, f"{registry.host}/{name}:v1", f"{registry.host}/{name}:v2")

    assert "denied" in said
    podman("rmi", "--force", f"{registry.host}/{name}:v1")
