import json

import pytest

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/sh
COPY text /text
RUN ["/bin/sh", "-c", "read line < /text; echo \\"$line\\" > /made"]
CMD ["/bin/sh", "-c", "read line < /made; echo \\"$line\\""]
"""


def _layers(docker, reference: str) -> tuple[str, ...]:
    return tuple(json.loads(docker.output("image", "inspect", reference))[0]["RootFS"]["Layers"])


def _digests(docker, reference: str) -> list[str]:
    return json.loads(docker.output("image", "inspect", reference))[0]["RepoDigests"]


def test_a_large_image_comes_back_as_it_was(docker, registry, big, archives, name):
    ours = f"{registry.host}/{name}:v1"
    docker("load", "-i", archives["big"])
    docker("tag", "big:start", ours)

    docker("push", ours)
    docker("rmi", "--force", "big:start", ours)
    docker("pull", ours)

    digest = registry.check(name, "v1")
    assert _layers(docker, ours) == big.diff_ids
    assert f"{registry.host}/{name}@{digest}" in _digests(docker, ours)
    docker("rmi", "--force", ours)


def test_all_tags_of_a_repository_are_pushed_and_pulled(docker, registry, archives, name):
    ours = f"{registry.host}/{name}"
    docker("load", "-i", archives["small"])
    for tag in ("v1", "v2"):
        docker("tag", "small:start", f"{ours}:{tag}")

    docker("push", "--all-tags", ours)
    docker("rmi", "--force", "small:start", f"{ours}:v1", f"{ours}:v2")
    docker("pull", "--all-tags", ours)

    assert registry.check(name, "v1") == registry.check(name, "v2")
    for tag in ("v1", "v2"):
        assert f"{ours}@{registry.digest(name, tag)}" in _digests(docker, f"{ours}:{tag}")
    docker("rmi", "--force", f"{ours}:v1", f"{ours}:v2")


def test_an_image_is_pulled_by_digest(docker, registry, small, archives, name):
    ours = f"{registry.host}/{name}"
    docker("load", "-i", archives["small"])
    docker("tag", "small:start", f"{ours}:v1")
    docker("push", f"{ours}:v1")
    docker("rmi", "--force", "small:start", f"{ours}:v1")

    by_digest = f"{ours}@{registry.digest(name, 'v1')}"
    docker("pull", by_digest)

    assert _layers(docker, by_digest) == small.diff_ids
    docker("rmi", "--force", by_digest)


def test_an_index_is_pulled_for_this_platform(docker, registry, skopeo, multi, name):
    skopeo(
        "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, multi.reference, f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip
    ours = f"{registry.host}/{name}:v1"

    docker("pull", "--platform", "linux/amd64", ours)

    assert f"{registry.host}/{name}@{multi.digest}" in _digests(docker, ours)
    docker("rmi", "--force", ours)


def test_a_second_repository_gets_its_layers_without_sending_them(
    docker, registry, small, archives, name
):
    docker("load", "-i", archives["small"])
    for path in ("a", "b"):
        docker("tag", "small:start", f"{registry.host}/{name}/{path}:v1")
    docker("push", f"{registry.host}/{name}/a:v1")
    before = registry.received()

    docker("push", f"{registry.host}/{name}/b:v1")

    assert registry.received() - before < 100_000 < small.size
    assert registry.check(f"{name}/b", "v1") == registry.digest(f"{name}/a", "v1")
    docker("rmi", "--force", *(f"{registry.host}/{name}/{path}:v1" for path in ("a", "b")))


@pytest.mark.parametrize("buildkit", ["0", "1"], ids=["classic", "buildkit"])
def test_a_built_image_is_pushed_pulled_and_run(docker, registry, root_files, name, buildkit):
    ours = f"{registry.host}/{name}:v1"
    (root_files / "Dockerfile").write_text(DOCKERFILE)
    build = type(docker)(docker.words, {**docker.environment, "DOCKER_BUILDKIT": buildkit})

    build("build", "--network=host", "-t", ours, root_files)
    docker("push", ours)
    docker("rmi", "--force", ours)

    said = docker("run", "--rm", "--network=host", ours)

    registry.check(name, "v1")
    assert said.endswith("what was built\n")
    docker("rmi", "--force", ours)


def test_docker_manifest_inspect_reads_what_was_pushed(docker, registry, archives, name):
    ours = f"{registry.host}/{name}:v1"
    docker("load", "-i", archives["small"])
    docker("tag", "small:start", ours)
    docker("push", ours)

    seen = json.loads(docker.output("manifest", "inspect", "--insecure", ours))

    assert seen["layers"] == registry.manifest(name, "v1").get("layers", seen["layers"])
    docker("rmi", "--force", ours)


def test_a_wrong_token_is_told_why_at_login(docker, registry):
    said = docker.refused(
        "login", f"127.0.0.1:{registry.server.port}", "-u", "x-token", "--password-stdin",
        text="wrong",
    )  # fmt: skip

    assert "unauthorized: this token is not known here" in said


def test_login_by_address_works_as_by_name(docker, registry):
    said = docker(
        "login", f"127.0.0.1:{registry.server.port}", "-u", "x-token", "--password-stdin",
        text=registry.token,
    )  # fmt: skip

    assert "Login Succeeded" in said
    docker("logout", f"127.0.0.1:{registry.server.port}")
