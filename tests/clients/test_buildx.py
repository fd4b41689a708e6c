import re

import pytest

DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/sh
COPY text /text
FROM base
RUN ["/bin/sh", "-c", "read line < /text; echo \\"$line\\" > /made"]
"""
FILES_ONLY = "FROM scratch\nCOPY text /text\n"


@pytest.fixture
def context(root_files, tmp_path):
    """The folder to build, and Dockerfiles of one's own for it."""

    def write(text: str) -> tuple[str, ...]:
        (tmp_path / "Dockerfile").write_text(text)
        return (
            "--progress=plain",
            "--network=host",
            "-f",
            f"{tmp_path}/Dockerfile",
            str(root_files),
        )

    return write


def test_a_build_is_pushed_with_its_full_provenance(buildx, registry, context, name):
    ours = f"{registry.host}/{name}:v1"

    buildx("build", "--push", "--provenance=mode=max", "-t", ours, *context(DOCKERFILE))

    registry.check(name, "v1")
    image, attestation = registry.manifest(name, "v1")["manifests"]
    assert image["platform"]["architecture"] == "amd64"
    assert attestation["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    statement = registry.manifest(name, attestation["digest"])["layers"][0]
    assert statement["mediaType"] == "application/vnd.in-toto+json"


def test_a_large_build_is_pushed_with_its_cache_and_comes_back(
    docker26, buildx26, registry, big_files, name
):
    ours = f"{registry.host}/{name}:v1"
    cache = f"type=registry,ref={registry.host}/{name}:cache,mode=max"

    buildx26("build", "--push", "--provenance=mode=max", "--cache-to", cache, "-t", ours, big_files)
    docker26("pull", ours)

    assert registry.check(name, "v1")
    assert registry.check(name, "cache")
    image = registry.manifest(name, "v1")["manifests"][0]["digest"]
    assert sum(d["size"] for d in registry.manifest(name, image)["layers"]) > 300_000_000
    docker26("rmi", "--force", ours)
    buildx26("prune", "--all", "--force")


def test_several_platforms_are_pushed_as_one_index(buildx, registry, context, name):
    ours = f"{registry.host}/{name}:v1"
    platforms = "linux/amd64,linux/arm64"

    buildx("build", "--push", "--platform", platforms, "-t", ours, *context(FILES_ONLY))

    registry.check(name, "v1")
    found = {m["platform"]["architecture"] for m in registry.manifest(name, "v1")["manifests"]}
    assert found >= {"amd64", "arm64"}


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("image-manifest=true", "application/vnd.oci.image.manifest.v1+json"),
        ("image-manifest=false", "application/vnd.oci.image.index.v1+json"),
        (
            "image-manifest=false,oci-mediatypes=false",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
    ],
    ids=["manifest", "index", "docker-list"],
)
def test_a_build_cache_is_stored_and_used(buildx, registry, context, name, form, media_type):
    """The index form lists layers as if they were manifests; it has to be taken as it comes."""
    cache = f"type=registry,ref={registry.host}/{name}:cache"
    # Nothing else has built these bytes, so that only the registry can have them.
    words = context(DOCKERFILE + f'LABEL name="{name}"\nENV A={name}\n')
    words = ("--build-arg", f"NAME={name}", *words)

    buildx("build", "--push", "-t", f"{registry.host}/{name}:v1",
           "--cache-to", f"{cache},mode=max,{form}", *words)  # fmt: skip
    buildx("prune", "--all", "--force")
    said = buildx("build", "--cache-from", cache, *words)

    assert registry.manifest(name, "cache")["mediaType"] == media_type
    registry.check(name, "cache")
    assert re.search(r"importing cache manifest from \S+", said)
    assert "CACHED" in said


def test_an_inline_cache_is_used(buildx, registry, context, name):
    ours = f"{registry.host}/{name}:v1"
    words = context(DOCKERFILE + f"ENV A={name}\n")
    buildx("build", "--push", "--provenance=false", "--cache-to", "type=inline", "-t", ours, *words)
    buildx("prune", "--all", "--force")

    said = buildx("build", "--cache-from", f"type=registry,ref={ours}", *words)

    assert "CACHED" in said


def test_zstd_layers_are_pushed(buildx, registry, context, name):
    output = f"type=image,name={registry.host}/{name}:v1,push=true,compression=zstd,oci-mediatypes=true,force-compression=true"

    buildx("build", "--provenance=false", "--output", output, *context(DOCKERFILE))

    registry.check(name, "v1")
    layers = registry.manifest(name, "v1")["layers"]
    assert {d["mediaType"] for d in layers} == {"application/vnd.oci.image.layer.v1.tar+zstd"}


def test_imagetools_copies_an_index_to_another_repository(buildx, registry, context, name):
    platforms = "linux/amd64,linux/arm64"
    ours = f"{registry.host}/{name}:v1"
    buildx("build", "--push", "--platform", platforms, "-t", ours, *context(FILES_ONLY))

    buildx("imagetools", "create", "-t", f"{registry.host}/{name}/copy:v1", ours)

    assert registry.check(f"{name}/copy", "v1") == registry.digest(name, "v1")


def test_imagetools_joins_what_is_in_the_registry(buildx, registry, context, name):
    for tag, platform in (("a", "linux/amd64"), ("b", "linux/arm64")):
        buildx(
            "build", "--push", "--provenance=false", "--platform", platform,
            "-t", f"{registry.host}/{name}:{tag}", *context(FILES_ONLY),
        )  # fmt: skip

    buildx(
        "imagetools", "create", "-t", f"{registry.host}/{name}:both",
        f"{registry.host}/{name}:a", f"{registry.host}/{name}:b",
    )  # fmt: skip

    registry.check(name, "both")
    found = [m["platform"]["architecture"] for m in registry.manifest(name, "both")["manifests"]]
    assert sorted(found) == ["amd64", "arm64"]
