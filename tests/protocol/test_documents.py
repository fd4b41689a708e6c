"""A manifest can be read in exactly one way, or it is refused (CVE-2021-41190)."""

import json
from typing import Any

import pytest

from tests.protocol.documents import DOCKER_MANIFEST, artifact, child, code_of, index, put
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of

SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+json"


@pytest.fixture
def image(client, name):
    return client.make_image(name)


def refuse(client, name, body, content_type=OCI_MANIFEST):
    answer = put(client, name, "v1", body, content_type)
    assert answer.status_code == 400, answer.text
    assert code_of(answer) == "MANIFEST_INVALID"
    assert client.request("GET", f"/v2/{name}/manifests/v1").status_code == 404


def test_a_document_is_an_image_or_an_index(client, name, image):
    refuse(client, name, image | {"manifests": []})
    refuse(client, name, index([], layers=[]), OCI_INDEX)
    refuse(client, name, index([], config=image["config"]), OCI_INDEX)
    refuse(client, name, {"config": image["config"], "manifests": []}, "application/x+json")


def test_the_two_types_must_agree(client, name, image):
    refuse(client, name, image, OCI_INDEX)
    refuse(client, name, image, DOCKER_MANIFEST)
    refuse(client, name, image, "application/json")
    refuse(client, name, index([]), OCI_MANIFEST)


def test_only_plain_json_is_read(client, name, image):
    body = json.dumps(image).encode()
    first = body[:-1]

    for broken in (
        b"",
        b"[]",
        b'"text"',
        b"null",
        b"\xef\xbb\xbf" + body,
        body.decode().encode("utf-16"),
        body + b"{}",
        body + b"\x00",
        first,
        first + b', "schemaVersion": 2}',
        first + b', "x": NaN}',
        first + b', "x": Infinity}',
        first + b', "x": 1e400}',
        first + b', "x": {"a": 1, "a": 2}}',
        first + b', "x": "\xff"}',
        b"[" * 10_000 + b"]" * 10_000,
        first + b', "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        first + b', "x": ' + b"9" * 10_000 + b"}",
    ):
        refuse(client, name, broken)


def test_parts_that_are_needed_must_be_there(client, name, image):
    for part in ("config", "layers", "schemaVersion"):
        refuse(client, name, {key: value for key, value in image.items() if key != part})
    refuse(client, name, {"schemaVersion": 2, "mediaType": OCI_INDEX}, OCI_INDEX)
    refuse(client, name, image | {"schemaVersion": 1})
    refuse(client, name, image | {"schemaVersion": "2"})


def test_descriptors_must_be_well_formed(client, name, image):
    good = image["config"]

    broken: tuple[Any, ...] = (
        {**good, "size": -1},
        {**good, "size": "7"},
        {**good, "size": 1.5},
        {**good, "digest": "sha256:" + "A" * 64},
        {**good, "digest": "sha256:../../etc/passwd"},
        {**good, "digest": ""},
        {"mediaType": "a/b"},
        [],
        "text",
    )
    for bad in broken:
        refuse(client, name, image | {"config": bad})
        refuse(client, name, image | {"layers": [bad]})
        refuse(client, name, index([bad]), OCI_INDEX)


def test_a_subject_must_be_well_formed(client, name):
    for digest in ("sha256:short", "", "latest"):
        subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}

        refuse(client, name, artifact(client, name, subject=subject))


def test_schema_1_is_refused_by_name_and_by_shape(client, name, image):
    old = {"schemaVersion": 1, "name": name, "tag": "v1", "fsLayers": [], "signatures": []}

    refuse(client, name, old, SCHEMA_1)
    refuse(client, name, old, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    refuse(client, name, old, "application/json")
    refuse(client, name, image | {"signatures": []})


def test_a_digest_has_one_media_type(client, name, image):
    """The same bytes pushed as something else must not change what others read."""
    body = json.dumps({key: value for key, value in image.items() if key != "mediaType"}).encode()
    put(client, name, "v1", body, OCI_MANIFEST)

    answer = put(client, name, "v2", body, "application/vnd.example.image+json")

    assert answer.status_code == 400
    assert code_of(answer) == "MANIFEST_INVALID"
    stored = client.request("HEAD", f"/v2/{name}/manifests/{digest_of(body)}")
    assert stored.headers["content-type"] == OCI_MANIFEST


def test_a_content_type_must_be_one(client, name, image):
    del image["mediaType"]

    for content_type in ("json", "/", "a/b/c", "a /b", "x" * 300 + "/y", "a/" + "b" * 200):
        refuse(client, name, image, content_type)


def test_any_type_of_configuration_and_layer_is_taken(client, name, image):
    for media_type in (
        "application/octet-stream",
        "application/json",
        "text/html",
        "",
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.wasm.config.v0+json",
        "application/vnd.buildkit.cacheconfig.v0",
    ):
        image["config"]["mediaType"] = media_type
        image["layers"][0]["mediaType"] = media_type or "application/x-thing"

        assert put(client, name, "v1", image, OCI_MANIFEST).status_code == 201, media_type


def test_any_artifact_type_is_taken(client, name):
    for artifact_type in ("application/vnd.example+json", "application/x-" + "y" * 100):
        document = artifact(client, name, artifactType=artifact_type)

        assert put(client, name, "v1", document, OCI_MANIFEST).status_code == 201


def test_indexes_may_be_nested(client, name, image):
    digest = client.push_manifest(name, "image", image)
    size = len(json.dumps(image))

    inner = index([child(digest, size)])
    inner_digest = client.push_manifest(name, "inner", inner)
    outer = index([child(inner_digest, len(json.dumps(inner)), OCI_INDEX)])

    assert put(client, name, "outer", outer, OCI_INDEX).status_code == 201


def test_text_that_is_none_is_refused(client, name, image):
    """A lone surrogate or a NUL would break the list of referrers for everybody else."""
    half, nothing = b'"\\ud800"', b'"a\\u0000b"'
    body = json.dumps(image).encode()[:-1]

    for broken in (
        body + b', "annotations": {"a": ' + half + b"}}",
        body + b', "annotations": {' + half + b': "a"}}',
        body + b', "artifactType": ' + half + b"}",
        body + b', "artifactType": ' + nothing + b"}",
        body + b', "x": [' + half.upper().replace(b"U", b"u") + b"]}",
    ):
        refuse(client, name, broken)


def test_annotations_may_hold_any_text(client, name):
    subject = {"mediaType": OCI_MANIFEST, "digest": digest_of(name.encode()), "size": 1}
    annotations = {"a": "\0", "é": "\U0001f4e6", "\u2028": '"\\'}
    document = artifact(client, name, subject=subject, annotations=annotations)

    assert put(client, name, "v1", document, OCI_MANIFEST).status_code == 201

    listed = client.request("GET", f"/v2/{name}/referrers/{subject['digest']}").json()
    assert listed["manifests"][0]["annotations"] == annotations
