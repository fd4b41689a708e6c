import json

import pytest

from tests.support.programs import Program, need


@pytest.fixture
def umoci():
    return Program((str(need("umoci")),))


def test_a_layout_made_and_changed_by_umoci_comes_back(umoci, skopeo, registry, name, tmp_path):
    layout = f"{tmp_path}/layout"
    (tmp_path / "file").write_text("first\n")
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:v1")
    umoci("insert", "--image", f"{layout}:v1", tmp_path / "file", "/file")
    umoci("config", "--image", f"{layout}:v1", "--config.label", "made=here")
    credentials = ("--dest-tls-verify=false", "--dest-creds", registry.credentials)

    skopeo(
        "copy", "--preserve-digests", *credentials, f"oci:{layout}:v1",
        f"docker://{registry.host}/{name}:v1",
    )  # fmt: skip
    skopeo(
        "copy", "--preserve-digests", "--src-tls-verify=false", "--src-creds",
        registry.credentials, f"docker://{registry.host}/{name}:v1", f"oci:{tmp_path}/back:v1",
    )  # fmt: skip
    umoci("raw", "unpack", "--image", f"{tmp_path}/back:v1", f"{tmp_path}/files")

    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert registry.check(name, "v1") == index["manifests"][0]["digest"]
    assert (tmp_path / "files/file").read_text() == "first\n"
