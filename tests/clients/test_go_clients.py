"""Clients that not every Debian has; each skips by itself, saying how to get it."""

import json
import tarfile

import pytest

from tests.support.images import blobs_of


@pytest.fixture
def image(skopeo, registry, multi, name):
    """An index in the registry."""
    skopeo(
        "copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds",
        registry.credentials, multi.reference, f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip
    return f"{registry.host}/{name}"


def test_crane_copies_lists_tags_and_deletes(tool, registry, image, multi, name, tmp_path):
    crane = tool("crane")
    crane("auth", "login", registry.host, "-u", "x-token", "-p", registry.token)

    crane("copy", f"{image}:v1", f"{image}/copy:v1")
    crane("tag", f"{image}:v1", "v2")
    listed = crane.output("ls", image).split()
    digest = crane.output("digest", f"{image}:v2").strip()
    crane("pull", "--format", "oci", f"{image}:v1", tmp_path / "layout")
    crane("push", tmp_path / "layout", f"{image}/back:v1")
    crane("validate", "--remote", f"{image}/back:v1")
    crane("delete", f"{image}/copy:v1")

    assert listed == ["v1", "v2"]
    assert digest == multi.digest
    assert multi.digest in blobs_of(tmp_path / "layout")
    registry.check(f"{name}/back", "v1")
    gone = registry.http.request("GET", f"/v2/{name}/copy/manifests/v1")
    assert gone.status_code == 404


def test_notation_signs_and_lists(tool, registry, image, multi, name):
    notation = tool("notation")
    user = ("--insecure-registry", "-u", "x-token", "-p", registry.token)
    notation("cert", "generate-test", "--default", name.replace("/", "."))

    notation("sign", *user, f"{image}@{multi.digest}")
    listed = notation.output("ls", *user, f"{image}@{multi.digest}")

    referrers = registry.http.request("GET", f"/v2/{name}/referrers/{multi.digest}").json()
    assert len(referrers["manifests"]) == 1
    assert referrers["manifests"][0]["digest"] in listed


def test_regctl_copies_in_small_chunks_and_deletes_a_tag(go_tool, registry, image, multi, name):
    regctl = go_tool("regctl", "github.com/regclient/regclient/cmd/regctl")
    regctl(
        "registry", "set", registry.host, "--tls", "disabled", "--blob-chunk", "100000",
        "--blob-max", "200000",
    )  # fmt: skip
    regctl("registry", "login", registry.host, "-u", "x-token", "-p", registry.token)

    regctl("image", "copy", "--referrers", f"{image}:v1", f"{image}/copy:v1")
    listed = regctl.output("tag", "ls", f"{image}/copy").split()
    regctl("tag", "delete", f"{image}/copy:v1")

    assert listed == ["v1"]
    assert registry.check(f"{name}/copy", multi.digest) == multi.digest
    gone = registry.http.request("GET", f"/v2/{name}/copy/manifests/v1")
    assert gone.status_code == 404


def test_regctl_sends_a_layout_in_chunks(go_tool, registry, small, name):
    regctl = go_tool("regctl", "github.com/regclient/regclient/cmd/regctl")
    regctl(
        "registry", "set", registry.host, "--tls", "disabled", "--blob-chunk", "100000",
        "--blob-max", "200000",
    )  # fmt: skip
    regctl("registry", "login", registry.host, "-u", "x-token", "-p", registry.token)

    regctl("image", "copy", f"ocidir://{small.layout}:{small.tag}", f"{registry.host}/{name}:v1")

    assert registry.check(name, "v1") == small.digest


def test_helm_pushes_and_pulls_a_chart(go_tool, registry, name, tmp_path):
    helm = go_tool("helm", "helm.sh/helm/v3/cmd/helm")
    helm("create", tmp_path / "chart")
    helm("package", tmp_path / "chart", "--version", "1.2.3+build.4", "-d", tmp_path)
    helm(
        "registry", "login", "--plain-http", registry.host, "-u", "x-token", "--password-stdin",
        text=registry.token,
    )  # fmt: skip

    helm(
        "push",
        "--plain-http",
        tmp_path / "chart-1.2.3+build.4.tgz",
        f"oci://{registry.host}/{name}",
    )
    (tmp_path / "back").mkdir()
    helm(
        "pull", "--plain-http", f"oci://{registry.host}/{name}/chart", "--version", ">=1.0.0",
        "-d", tmp_path / "back",
    )  # fmt: skip

    registry.check(f"{name}/chart", "1.2.3_build.4")
    pulled = next((tmp_path / "back").iterdir())
    assert pulled.read_bytes() == (tmp_path / "chart-1.2.3+build.4.tgz").read_bytes()
    with tarfile.open(pulled) as chart:
        assert "chart/Chart.yaml" in chart.getnames()


def test_nerdctl_pushes_and_pulls(go_tool, containerd, registry, image, name):
    nerdctl = go_tool("nerdctl", "github.com/containerd/nerdctl/v2/cmd/nerdctl").with_words(
        "--address", containerd.words[-1], "--insecure-registry"
    )
    nerdctl("login", registry.host, "-u", "x-token", "--password-stdin", text=registry.token)

    nerdctl("pull", f"{image}:v1")
    nerdctl("tag", f"{image}:v1", f"{image}/copy:v1")
    nerdctl("push", f"{image}/copy:v1")

    registry.check(f"{name}/copy", "v1")
    assert json.loads(nerdctl.output("image", "inspect", f"{image}:v1"))
