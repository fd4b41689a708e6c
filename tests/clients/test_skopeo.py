import json

import pytest

from tests.support.images import blobs_of


@pytest.fixture
def copy(skopeo, registry):
    def run(source: str, target: str, *words: str) -> str:
        for side, where in (("src", source), ("dest", target)):
            if where.startswith("docker://"):
                words = (
                    *words,
                    f"--{side}-tls-verify=false",
                    f"--{side}-creds",
                    registry.credentials,
                )
        return skopeo("copy", *words, source, target)

    return run


@pytest.fixture
def at_registry(skopeo, registry):
    def run(*words: str) -> str:
        return skopeo.output(
            *words[:1], "--tls-verify=false", "--creds", registry.credentials, *words[1:]
        )

    return run


def test_a_large_image_comes_back_as_it_was(copy, registry, big, name, tmp_path):
    ours = f"docker://{registry.host}/{name}:v1"

    copy(big.reference, ours, "--preserve-digests")
    copy(ours, f"dir:{tmp_path}/dir")
    copy(ours, f"oci:{tmp_path}/oci:v1")

    assert registry.check(name, "v1") == big.digest
    manifest = registry.manifest(name, "v1")
    assert set(blobs_of(tmp_path / "dir")) == {
        d["digest"] for d in [manifest["config"], *manifest["layers"]]
    }
    assert set(blobs_of(tmp_path / "oci")) == {big.digest, *blobs_of(tmp_path / "dir")}


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_an_archive_comes_back_with_the_same_layers(
    copy, registry, small, name, tmp_path, skopeo, form
):
    copy(small.reference, f"{form}:{tmp_path}/in.tar:image:v1")

    copy(f"{form}:{tmp_path}/in.tar", f"docker://{registry.host}/{name}:v1")
    copy(f"docker://{registry.host}/{name}:v1", f"{form}:{tmp_path}/out.tar:image:v1")

    registry.check(name, "v1")
    config = json.loads(skopeo.output("inspect", "--config", "--raw", f"{form}:{tmp_path}/out.tar"))
    assert tuple(config["rootfs"]["diff_ids"]) == small.diff_ids


def test_an_index_comes_with_all_its_platforms(copy, registry, bigmulti, name, tmp_path):
    ours = f"docker://{registry.host}/{name}:v1"

    copy(bigmulti.reference, ours, "--all", "--preserve-digests")
    copy(ours, f"oci:{tmp_path}/oci:v1", "--all", "--preserve-digests")

    assert registry.check(name, "v1") == bigmulti.digest
    children = [child["digest"] for child in registry.manifest(name, "v1")["manifests"]]
    assert {bigmulti.digest, *children} < set(blobs_of(tmp_path / "oci"))


def test_one_platform_of_an_index_is_copied_alone(copy, registry, multi, name, tmp_path):
    ours = f"docker://{registry.host}/{name}:v1"
    copy(multi.reference, ours, "--all", "--preserve-digests")

    copy(ours, f"dir:{tmp_path}/dir", "--override-arch=arm64")

    config = json.loads((tmp_path / "dir/manifest.json").read_text())["config"]["digest"]
    arm64 = registry.manifest(name, "v1")["manifests"][1]["digest"]
    assert config == registry.manifest(name, arm64)["config"]["digest"]


def test_a_copy_within_the_registry_sends_no_layers(copy, registry, small, name):
    copy(small.reference, f"docker://{registry.host}/{name}/a:v1", "--preserve-digests")
    before = registry.received()

    copy(f"docker://{registry.host}/{name}/a:v1", f"docker://{registry.host}/{name}/b:v1")

    assert registry.received() - before < 100_000 < small.size
    assert registry.check(f"{name}/b", "v1") == small.digest


def test_tags_are_listed(copy, at_registry, registry, small, name):
    for tag in ("v1", "v2", "latest"):
        copy(small.reference, f"docker://{registry.host}/{name}:{tag}", "--preserve-digests")

    listed = json.loads(at_registry("list-tags", f"docker://{registry.host}/{name}"))

    assert listed["Tags"] == ["latest", "v1", "v2"]


def test_inspect_tells_digest_and_layers(copy, at_registry, registry, small, name):
    copy(small.reference, f"docker://{registry.host}/{name}:v1", "--preserve-digests")

    seen = json.loads(at_registry("inspect", f"docker://{registry.host}/{name}:v1"))

    assert seen["Digest"] == small.digest
    assert seen["Layers"] == [d["digest"] for d in registry.manifest(name, "v1")["layers"]]


def test_delete_takes_every_tag_of_the_manifest(copy, at_registry, registry, small, name):
    for tag in ("v1", "v2"):
        copy(small.reference, f"docker://{registry.host}/{name}:{tag}", "--preserve-digests")

    at_registry("delete", f"docker://{registry.host}/{name}:v1")

    for reference in ("v1", "v2", small.digest):
        gone = registry.http.request("GET", f"/v2/{name}/manifests/{reference}")
        assert gone.status_code == 404


def test_sync_brings_a_repository_with_its_tags(
    copy, registry, skopeo, small, multi, name, tmp_path
):
    copy(small.reference, f"docker://{registry.host}/{name}:v1", "--preserve-digests")
    copy(multi.reference, f"docker://{registry.host}/{name}:v2", "--preserve-digests", "--all")

    skopeo(
        "sync", "--all", "--src", "docker", "--dest", "dir", "--src-tls-verify=false",
        "--src-creds", registry.credentials, f"{registry.host}/{name}", tmp_path,
    )  # fmt: skip

    leaf = name.rpartition("/")[2]
    assert (tmp_path / f"{leaf}:v1/manifest.json").exists()
    assert set(blobs_of(tmp_path / f"{leaf}:v1"))
    assert len(list((tmp_path / f"{leaf}:v2").glob("*.manifest.json"))) == 2


def test_login_stays_for_later_commands(registry, skopeo, small, name, tmp_path):
    auth = ("--authfile", f"{tmp_path}/auth.json", "--tls-verify=false")
    skopeo("login", *auth, registry.host, "-u", "x-token", "--password-stdin", text=registry.token)

    skopeo(
        "copy", "--preserve-digests", "--authfile", f"{tmp_path}/auth.json",
        "--dest-tls-verify=false", small.reference, f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip

    assert registry.digest(name, "v1") == small.digest
