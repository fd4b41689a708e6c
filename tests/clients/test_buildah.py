import filecmp
from pathlib import Path

import pytest

DOCKERFILE = """\
FROM scratch
COPY busybox /bin/sh
COPY text /text
RUN /bin/sh -c 'read line < /text; echo "$line" > /made'
"""


@pytest.fixture
def build(buildah, root_files):
    (root_files / "Containerfile").write_text(DOCKERFILE)

    def run(tag: str, *words: str) -> None:
        buildah(
            "bud", "--isolation", "chroot", "--network", "host", *words, "-t", tag,
            "-f", root_files / "Containerfile", root_files,
        )  # fmt: skip

    return run


def _insecure(registry) -> tuple[str, ...]:
    return ("--tls-verify=false", "--creds", registry.credentials)


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("oci", "application/vnd.oci.image.manifest.v1+json"),
        ("v2s2", "application/vnd.docker.distribution.manifest.v2+json"),
    ],
)
def test_a_built_image_is_pushed_in_each_form_and_pulled(
    build, buildah, registry, name, form, media_type
):
    ours = f"docker://{registry.host}/{name}:v1"
    build("built")

    buildah("push", *_insecure(registry), "--format", form, "built", ours)
    buildah("rmi", "--all", "--force")
    buildah("pull", *_insecure(registry), ours)
    container = buildah.output("from", "--pull-never", f"{registry.host}/{name}:v1").strip()
    mounted = buildah.output("mount", container).strip()

    registry.check(name, "v1")
    assert registry.manifest(name, "v1")["mediaType"] == media_type
    assert Path(mounted, "made").read_text() == "what was built\n"
    buildah("rm", "--all")


def test_a_large_build_comes_back_as_it_was(buildah, registry, big_files, name):
    ours = f"docker://{registry.host}/{name}:v1"
    buildah("bud", "--isolation", "chroot", "--layers", "-t", "large", big_files)

    buildah("push", *_insecure(registry), "large", ours)
    buildah("rmi", "--all", "--force")
    buildah("pull", *_insecure(registry), ours)
    container = buildah.output("from", "--pull-never", f"{registry.host}/{name}:v1").strip()
    mounted = buildah.output("mount", container).strip()

    registry.check(name, "v1")
    layers = registry.manifest(name, "v1")["layers"]
    assert len(layers) > 3
    assert sum(d["size"] for d in layers) > 300_000_000
    for part in "abc":
        assert filecmp.cmp(Path(mounted, part), big_files / part, shallow=False)
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


def test_an_index_of_two_builds_is_pushed_with_all_of_them(build, buildah, registry, name):
    buildah("manifest", "create", "both")
    for architecture in ("amd64", "arm64"):
        # One file only: nothing of another architecture can run here.
        container = buildah.output("from", "--arch", architecture, "scratch").strip()
        buildah("config", "--arch", architecture, "--env", f"A={architecture}", container)
        buildah("commit", "--rm", "--manifest", "both", container, f"for-{architecture}")

    buildah(
        "manifest", "push", "--all", *_insecure(registry), "both",
        f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip

    registry.check(name, "v1")
    platforms = [m["platform"]["architecture"] for m in registry.manifest(name, "v1")["manifests"]]
    assert sorted(platforms) == ["amd64", "arm64"]
    buildah("manifest", "rm", "both")
    buildah("rmi", "--all", "--force")
