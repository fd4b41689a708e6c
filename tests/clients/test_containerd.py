import pytest


@pytest.fixture
def archive(skopeo, tmp_path):
    def make(image, *words: str) -> str:
        path = tmp_path / f"{image.tag}.tar"
        skopeo("copy", *words, image.reference, f"oci-archive:{path}:{image.tag}")
        return str(path)

    return make


def test_a_large_image_comes_back_as_it_was(containerd, registry, archive, big, name):
    ours = f"{registry.host}/{name}:v1"
    user = ("--plain-http", "--user", registry.credentials)
    containerd(
        "images", "import", "--no-unpack", "--base-name", f"{registry.host}/{name}", "--digests",
        archive(big),
    )  # fmt: skip

    containerd("images", "push", *user, ours, f"{registry.host}/{name}@{big.digest}")
    containerd("images", "rm", "--sync", *containerd.output("images", "ls", "-q").split())
    containerd("images", "pull", *user, ours)

    assert registry.check(name, "v1") == big.digest
    listed = containerd.output("images", "ls", f"name=={ours}")
    assert big.digest in listed
    containerd("images", "rm", "--sync", ours)


def test_an_index_is_pushed_and_pulled_with_all_platforms(
    containerd, registry, archive, multi, skopeo, name
):
    skopeo(
        "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, multi.reference, f"docker://{registry.host}/{name}/from:v1",
    )  # fmt: skip
    user = ("--plain-http", "--user", registry.credentials)

    containerd("content", "fetch", "--all-platforms", *user, f"{registry.host}/{name}/from:v1")
    containerd(
        "images", "push", *user, f"{registry.host}/{name}:v1", f"{registry.host}/{name}/from:v1"
    )

    assert registry.check(name, "v1") == multi.digest
    containerd("images", "rm", "--sync", f"{registry.host}/{name}/from:v1")


def test_a_mirror_is_asked_with_the_name_of_its_upstream(
    containerd, registry, skopeo, small, name, tmp_path
):
    """The resolver adds ?ns=UPSTREAM to each request to a mirror."""
    skopeo(
        "copy", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, small.reference, f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip
    hosts = tmp_path / "hosts/registry.example.com"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(
        f'server = "https://registry.example.com"\n'
        f'[host."http://{registry.host}"]\ncapabilities = ["pull", "resolve"]\n'
    )

    containerd(
        "images", "pull", "--hosts-dir", tmp_path / "hosts", "--user", registry.credentials,
        f"registry.example.com/{name}:v1",
    )  # fmt: skip

    listed = containerd.output("images", "ls", f"name==registry.example.com/{name}:v1")
    assert small.digest in listed
    containerd("images", "rm", "--sync", f"registry.example.com/{name}:v1")


def test_a_push_without_a_user_is_refused(containerd, registry, skopeo, small, name):
    skopeo(
        "copy", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, small.reference, f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip
    ours = f"{registry.host}/{name}:v1"
    containerd("images", "pull", "--plain-http", "--user", registry.credentials, ours)

    said = containerd.refused("images", "push", "--plain-http", f"{ours}-2", ours)

    assert "authorization failed" in said or "401" in said
    containerd("images", "rm", "--sync", ours)
