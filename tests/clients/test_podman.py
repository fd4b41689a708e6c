import json
import secrets
import tarfile

import pytest

from tests.support.images import digest_of_file

INSECURE = "--tls-verify=false"


@pytest.fixture
def podman_in(podman, registry):
    podman(
        "login", INSECURE, registry.host, "-u", "x-token", "--password-stdin", text=registry.token
    )
    return podman


def _pull_again(podman, reference: str) -> tuple[str, ...]:
    """Remove what is local, pull, and tell the digests of the unpacked layers."""
    podman("rmi", "--all", "--force")
    podman("pull", INSECURE, reference)
    return tuple(json.loads(podman.output("image", "inspect", reference))[0]["RootFS"]["Layers"])


def test_a_large_image_comes_back_as_it_was(podman_in, registry, big, archives, name):
    ours = f"{registry.host}/{name}:v1"
    podman_in("load", "-i", archives["big"])

    podman_in("push", INSECURE, "docker.io/library/big:start", ours)

    registry.check(name, "v1")
    assert _pull_again(podman_in, ours) == big.diff_ids


@pytest.mark.parametrize(
    ("words", "compression"),
    [
        ((), "gzip"),
        (("--compression-format", "zstd"), "zstd"),
        (("--compression-format", "zstd:chunked"), "zstd"),
        (("--format", "v2s2"), "docker"),
    ],
    ids=["gzip", "zstd", "zstd-chunked", "v2s2"],
)
def test_a_push_in_each_compression_comes_back(
    podman_in, registry, name, tmp_path, words, compression
):
    ours = f"{registry.host}/{name}:v1"
    # Layers of its own: podman sends none again that the registry has, in whatever compression.
    layer = tmp_path / "layer.tar"
    (tmp_path / "content").write_bytes(secrets.token_bytes(500_000) * 2)
    with tarfile.open(layer, "w") as tar:
        tar.add(tmp_path / "content", "content")
    podman_in("import", layer, "imported")

    podman_in("push", INSECURE, *words, "localhost/imported", ours)

    registry.check(name, "v1")
    assert all(compression in d["mediaType"] for d in registry.manifest(name, "v1")["layers"])
    with layer.open("rb") as file:
        assert _pull_again(podman_in, ours) == (digest_of_file(file),)


def test_a_pull_by_digest_brings_what_was_pushed(podman_in, registry, small, archives, name):
    podman_in("load", "-i", archives["small"])
    podman_in("push", INSECURE, "docker.io/library/small:start", f"{registry.host}/{name}:v1")
    ours = f"{registry.host}/{name}@{registry.digest(name, 'v1')}"

    assert _pull_again(podman_in, ours) == small.diff_ids


def test_a_manifest_list_is_pushed_with_its_images(podman_in, registry, multi, skopeo, name):
    skopeo(
        "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, multi.reference, f"docker://{registry.host}/{name}/from:v1",
    )  # fmt: skip
    podman_in("manifest", "create", "list")
    podman_in(
        "manifest", "add", "--all", INSECURE, "list", f"docker://{registry.host}/{name}/from:v1"
    )

    podman_in("manifest", "push", "--all", INSECURE, "list", f"docker://{registry.host}/{name}:v1")

    registry.check(name, "v1")
    platforms = [m["platform"]["architecture"] for m in registry.manifest(name, "v1")["manifests"]]
    assert sorted(platforms) == ["amd64", "arm64"]
    podman_in("manifest", "rm", "list")


def test_a_wrong_token_is_told_so_at_login(podman, registry, tmp_path):
    said = podman.refused(
        "login", INSECURE, "--authfile", f"{tmp_path}/auth.json", registry.host, "-u", "x-token",
        "--password-stdin", text="wrong",
    )  # fmt: skip

    assert "invalid username/password" in said
