"""Deleting tags, manifests (end-9) and blobs (end-10)."""

import json

from tests.protocol.documents import artifact, child, code_of, index
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of


def status(client, method, name, path):
    return client.request(method, f"/v2/{name}/{path}").status_code


def test_a_deleted_tag_is_gone_and_its_manifest_stays(client, name):
    digest = client.push_image(name, "v1")
    client.push_manifest(
        name, "v2", client.request("GET", f"/v2/{name}/manifests/v1").content, OCI_MANIFEST
    )

    answer = client.request("DELETE", f"/v2/{name}/manifests/v1")

    assert answer.status_code == 202
    assert "docker-content-digest" not in answer.headers
    assert status(client, "GET", name, "manifests/v1") == 404
    assert status(client, "HEAD", name, "manifests/v1") == 404
    assert status(client, "GET", name, f"manifests/{digest}") == 200
    assert client.request("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v2"]


def test_a_deleted_manifest_takes_its_tags_along(client, name):
    image = client.make_image(name)
    digest = client.push_manifest(name, "v1", image)
    client.push_manifest(name, "v2", image)
    kept = client.push_image(name, "v3")

    answer = client.request("DELETE", f"/v2/{name}/manifests/{digest}")

    assert answer.status_code == 202
    assert answer.headers.get("docker-content-digest", digest) == digest
    for reference in (digest, "v1", "v2"):
        assert status(client, "GET", name, f"manifests/{reference}") == 404
    assert client.request("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v3"]
    assert status(client, "GET", name, f"manifests/{kept}") == 200


def test_what_is_deleted_can_be_pushed_again(client, name):
    image = client.make_image(name)
    digest = client.push_manifest(name, "v1", image)
    blob = image["layers"][0]["digest"]
    content = client.request("GET", f"/v2/{name}/blobs/{blob}").content
    client.request("DELETE", f"/v2/{name}/manifests/{digest}")
    assert status(client, "DELETE", name, f"blobs/{blob}") == 202

    client.push_blob(name, content)
    client.push_manifest(name, "v1", image)

    assert status(client, "GET", name, "manifests/v1") == 200
    assert status(client, "GET", name, f"blobs/{blob}") == 200


def test_what_is_not_there_cannot_be_deleted(client, name):
    client.push_image(name, "v1")
    absent = digest_of(b"absent")

    for path, code in (
        ("manifests/v2", "MANIFEST_UNKNOWN"),
        (f"manifests/{absent}", "MANIFEST_UNKNOWN"),
        (f"blobs/{absent}", "BLOB_UNKNOWN"),
    ):
        answer = client.request("DELETE", f"/v2/{name}/{path}")

        assert answer.status_code == 404
        assert code_of(answer) == code


def test_nothing_can_be_deleted_of_a_repository_that_is_not_there(client, name):
    for path in ("manifests/v1", f"manifests/{digest_of(b'')}", f"blobs/{digest_of(b'')}"):
        answer = client.request("DELETE", f"/v2/{name}/{path}")

        assert answer.status_code == 404
        assert code_of(answer) == "NAME_UNKNOWN"


def test_a_deletion_happens_once(client, name):
    client.push_image(name, "v1")
    path = f"/v2/{name}/manifests/v1"

    answers = [client.request("DELETE", path).status_code for _ in range(2)]

    assert answers == [202, 404]


def test_a_malformed_reference_is_refused(client, name):
    client.push_image(name, "v1")

    for path in ("manifests/sha256:abc", "manifests/.x", "blobs/sha256:abc", "blobs/latest"):
        answer = client.request("DELETE", f"/v2/{name}/{path}")

        assert answer.status_code == 400
        assert code_of(answer) in {"DIGEST_INVALID", "TAG_INVALID"}


def test_a_deleted_blob_is_gone_at_once_and_only_here(client, name):
    digest = client.push_blob(name, b"content")
    client.push_blob(f"{name}-other", b"content")

    answer = client.request("DELETE", f"/v2/{name}/blobs/{digest}")

    assert answer.status_code == 202
    assert status(client, "HEAD", name, f"blobs/{digest}") == 404
    assert status(client, "GET", name, f"blobs/{digest}") == 404
    assert status(client, "DELETE", name, f"blobs/{digest}") == 404
    assert status(client, "GET", f"{name}-other", f"blobs/{digest}") == 200


def test_a_blob_that_a_manifest_needs_stays(client, name):
    image = client.make_image(name)
    manifest = client.push_manifest(name, "v1", image)
    layer = image["layers"][0]["digest"]

    refused = client.request("DELETE", f"/v2/{name}/blobs/{layer}")

    assert refused.status_code == 405
    assert code_of(refused) == "UNSUPPORTED"
    assert manifest in refused.text
    assert status(client, "GET", name, f"blobs/{layer}") == 200
    client.request("DELETE", f"/v2/{name}/manifests/{manifest}")
    assert status(client, "DELETE", name, f"blobs/{layer}") == 202


def test_a_manifest_that_an_index_lists_stays(client, name):
    image = client.make_image(name)
    digest = client.push_manifest(name, "image", image)
    parent = client.push_manifest(name, "index", index([child(digest, len(json.dumps(image)))]))

    refused = client.request("DELETE", f"/v2/{name}/manifests/{digest}")

    assert refused.status_code == 405
    assert parent in refused.text
    assert status(client, "GET", name, "manifests/image") == 200
    assert status(client, "DELETE", name, f"manifests/{parent}") == 202
    assert status(client, "DELETE", name, f"manifests/{digest}") == 202


def test_the_tag_of_a_listed_manifest_can_be_deleted(client, name):
    image = client.make_image(name)
    digest = client.push_manifest(name, "image", image)
    client.push_manifest(name, "index", index([child(digest, len(json.dumps(image)))]), OCI_INDEX)

    assert status(client, "DELETE", name, "manifests/image") == 202
    assert status(client, "GET", name, f"manifests/{digest}") == 200


def test_a_client_without_tag_deletion_deletes_a_stand_in(client, name):
    """regclient, for registries that refuse to delete a tag: push over it, delete that digest."""
    kept = client.push_image(name, "v1")
    stand_in = client.push_manifest(name, "v1", artifact(client, name, artifactType="a/dummy"))

    assert status(client, "DELETE", name, f"manifests/{stand_in}") == 202
    assert status(client, "GET", name, "manifests/v1") == 404
    assert status(client, "GET", name, f"manifests/{kept}") == 200
