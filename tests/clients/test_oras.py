import filecmp
import json
import secrets

import pytest

from tests.support.programs import Program

PLAIN = "--plain-http"


@pytest.fixture(scope="session")
def oras(stable_suite, registry, client_home):
    program = Program((str(stable_suite / "usr/bin/oras"),), client_home)
    program("login", PLAIN, registry.host, "-u", "x-token", "--password-stdin", text=registry.token)
    return program


@pytest.fixture
def artifact(tmp_path):
    """A folder with a file of 4 MB and a small one."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.bin").write_bytes(secrets.token_bytes(4_000_000))
    (folder / "card.md").write_text("# A card\n")
    return folder


@pytest.fixture
def pushed(oras, registry, artifact, name):
    ours = f"{registry.host}/{name}:v1"
    oras(
        "push", PLAIN, "--artifact-type", "application/vnd.test.model", ours,
        "model.bin:application/octet-stream", "card.md:text/markdown", folder=artifact,
    )  # fmt: skip
    return ours


def test_an_artifact_comes_back_as_it_was(oras, registry, artifact, pushed, name, tmp_path):
    oras("pull", PLAIN, "-o", f"{tmp_path}/back", pushed)

    registry.check(name, "v1")
    assert registry.manifest(name, "v1")["artifactType"] == "application/vnd.test.model"
    for file in artifact.iterdir():
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()


def test_a_large_artifact_of_several_files_comes_back(oras, registry, big_files, name, tmp_path):
    ours = f"{registry.host}/{name}:v1"

    oras("push", PLAIN, ours, "a", "b", "c", "text", folder=big_files)
    oras("pull", PLAIN, "-o", tmp_path, ours)

    registry.check(name, "v1")
    for part in ("a", "b", "c", "text"):
        assert filecmp.cmp(tmp_path / part, big_files / part, shallow=False)
        (tmp_path / part).unlink()


def test_what_is_attached_is_discovered(oras, registry, pushed, name, tmp_path):
    (tmp_path / "sbom.json").write_text("{}")

    for kind in ("application/vnd.test.sbom", "application/vnd.test.scan"):
        oras("attach", PLAIN, "--artifact-type", kind, pushed, "sbom.json", folder=tmp_path)

    digest = registry.digest(name, "v1")
    listed = registry.http.request("GET", f"/v2/{name}/referrers/{digest}").json()["manifests"]
    tree = oras.output("discover", PLAIN, "-o", "json", pushed)
    filtered = oras.output(
        "discover", PLAIN, "-o", "json", "--artifact-type", "application/vnd.test.scan", pushed
    )
    assert len(listed) == 2
    assert {m["digest"] for m in json.loads(tree)["manifests"]} == {m["digest"] for m in listed}
    assert [m["artifactType"] for m in json.loads(filtered)["manifests"]] == [
        "application/vnd.test.scan"
    ]
    # Referrers come from the API: nothing had to be kept in a tag.
    tags = registry.http.request("GET", f"/v2/{name}/tags/list").json()["tags"]
    assert tags == ["v1"]


def test_a_copy_takes_what_is_attached_along(oras, registry, pushed, name, tmp_path):
    (tmp_path / "sbom.json").write_text("{}")
    oras("attach", PLAIN, "--artifact-type", "a/b", pushed, "sbom.json", folder=tmp_path)
    before = registry.received()

    oras(
        "cp", "-r", "--from-plain-http", "--to-plain-http", pushed,
        f"{registry.host}/{name}/copy:v1",
    )  # fmt: skip

    digest = registry.check(f"{name}/copy", "v1")
    listed = registry.http.request("GET", f"/v2/{name}/copy/referrers/{digest}").json()
    assert digest == registry.digest(name, "v1")
    assert len(listed["manifests"]) == 1
    assert registry.received() - before < 100_000  # the layers were mounted


def test_a_copy_to_a_layout_and_back_keeps_the_digest(oras, registry, pushed, name, tmp_path):
    oras("cp", "--from-plain-http", "--to-oci-layout", pushed, f"{tmp_path}/layout:v1")

    oras(
        "cp", "--to-plain-http", "--from-oci-layout", f"{tmp_path}/layout:v1",
        f"{registry.host}/{name}/back:v1",
    )  # fmt: skip

    assert registry.check(f"{name}/back", "v1") == registry.digest(name, "v1")


def test_manifests_and_blobs_are_fetched_tagged_and_deleted(oras, registry, pushed, name):
    digest = registry.digest(name, "v1")
    blob = registry.manifest(name, "v1")["layers"][1]["digest"]

    oras("tag", PLAIN, pushed, "v2", "v3")
    tags = oras.output("repo", "tags", PLAIN, f"{registry.host}/{name}").split()
    card = oras.output("blob", "fetch", PLAIN, "--output", "-", f"{registry.host}/{name}@{blob}")
    manifest = oras.output("manifest", "fetch", PLAIN, pushed)
    oras("manifest", "delete", "--force", PLAIN, f"{registry.host}/{name}@{digest}")
    oras("blob", "delete", "--force", PLAIN, f"{registry.host}/{name}@{blob}")

    assert tags == ["v1", "v2", "v3"]
    assert card == "# A card\n"
    assert json.loads(manifest)["layers"][1]["digest"] == blob
    assert registry.http.request("GET", f"/v2/{name}/manifests/v1").status_code == 404
    assert registry.http.request("GET", f"/v2/{name}/blobs/{blob}").status_code == 404
