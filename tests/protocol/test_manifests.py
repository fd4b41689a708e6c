"""Pushing manifests (end-7a, end-7b)."""

import json

import pytest

from tests.protocol.documents import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    Document,
    artifact,
    child,
    code_of,
    descriptor,
    index,
    put,
)
from tests.protocol.registry import credential_of
from tests.protocol.wire import send
from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of


def encoded(document):
    return json.dumps(document).encode()


def test_a_manifest_pushed_by_tag_says_its_digest_and_place(client, name):
    body = encoded(client.make_image(name))

    answer = put(client, name, "v1", body, OCI_MANIFEST)

    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest_of(body)
    assert answer.headers["content-length"] == "0"
    assert "oci-tag" not in answer.headers
    there = client.request("GET", answer.headers["location"])
    assert there.content == body
    assert there.headers["content-type"] == OCI_MANIFEST


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_pushed_by_digest_keeps_the_algorithm(client, name, algorithm):
    body = encoded(client.make_image(name))
    digest = digest_of(body, algorithm)

    answer = put(client, name, digest, body, OCI_MANIFEST)

    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["location"].endswith(digest)
    assert client.request("GET", answer.headers["location"]).content == body


def test_a_manifest_may_come_chunked(registry, client, name):
    body = encoded(client.make_image(name))
    headers = {**credential_of(registry, client, name), "Content-Type": OCI_MANIFEST}

    answer = send(
        registry.server, "PUT", f"/v2/{name}/manifests/v1", headers, chunks=[body[:9], body[9:]]
    )

    assert answer.status == 201
    assert client.request("GET", f"/v2/{name}/manifests/v1").content == body


def test_the_type_has_no_parameters_once_stored(client, name):
    body = encoded(client.make_image(name))

    answer = put(client, name, "v1", body, f"{OCI_MANIFEST}; charset=utf-8")

    assert answer.status_code == 201
    stored = client.request("GET", f"/v2/{name}/manifests/v1").headers["content-type"]
    assert stored == OCI_MANIFEST


def test_without_a_content_type_the_document_says_what_it_is(registry, client, name):
    image = client.make_image(name)
    bare = {key: value for key, value in image.items() if key != "mediaType"}
    credential = credential_of(registry, client, name)

    for tag, document, expected in (
        ("named", {**image, "mediaType": OCI_MANIFEST}, OCI_MANIFEST),
        ("docker", {**image, "mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
        ("image", bare, OCI_MANIFEST),
        ("index", {"schemaVersion": 2, "manifests": []}, OCI_INDEX),
    ):
        path = f"/v2/{name}/manifests/{tag}"
        answer = send(registry.server, "PUT", path, credential, encoded(document))

        assert answer.status == 201, tag
        stored = client.request("HEAD", path).headers["content-type"]
        assert stored == expected


def test_a_document_without_a_media_type_is_what_its_content_type_says(client, name):
    image = client.make_image(name)
    del image["mediaType"]

    assert put(client, name, "v1", image, OCI_MANIFEST).status_code == 201


def test_every_kind_of_manifest_is_taken(client, name):
    image = client.make_image(name)
    digest = client.push_manifest(name, "image", image)
    size = len(encoded(image))
    documents = {
        "docker": (image | {"mediaType": DOCKER_MANIFEST}, DOCKER_MANIFEST),
        "index": (index([child(digest, size)]), OCI_INDEX),
        "list": (index([child(digest, size)]) | {"mediaType": DOCKER_LIST}, DOCKER_LIST),
        "empty index": (index([]), OCI_INDEX),
        "artifact": (artifact(client, name, artifactType="application/x-thing"), OCI_MANIFEST),
        "unknown": ({"anything": [1, 2]}, "application/vnd.example.thing+json"),
    }

    for kind, (document, media_type) in documents.items():
        tag = kind.replace(" ", "-")
        answer = put(client, name, tag, document, media_type)

        assert answer.status_code == 201, (kind, answer.text)
        stored = client.request("GET", f"/v2/{name}/manifests/{tag}")
        assert stored.content == encoded(document)
        assert stored.headers["content-type"] == media_type


def test_fields_that_nobody_knows_are_kept_to_the_byte(client, name):
    image = client.make_image(name) | {"org.example": {"é": [1.50, None, True]}}
    image["config"]["data"] = "e30="
    body = json.dumps(image, ensure_ascii=False, indent=1).encode()

    put(client, name, "v1", body, OCI_MANIFEST)

    assert client.request("GET", f"/v2/{name}/manifests/v1").content == body


def test_a_manifest_needs_what_it_names(client, name):
    image = client.make_image(name)
    missing: Document = {"mediaType": "application/x", "digest": digest_of(b"absent"), "size": 6}

    for document, media_type in (
        (image | {"layers": [*image["layers"], missing]}, OCI_MANIFEST),
        (image | {"config": missing}, OCI_MANIFEST),
        (index([child(missing["digest"], 6)]), OCI_INDEX),
        (index([missing]), OCI_INDEX),
    ):
        answer = put(client, name, "v1", document, media_type)

        assert answer.status_code == 400
        assert code_of(answer) == "MANIFEST_BLOB_UNKNOWN"
        assert missing["digest"] in answer.text
    assert client.request("GET", f"/v2/{name}/manifests/v1").status_code == 404


def test_a_blob_of_another_repository_is_not_enough(client, name):
    image = client.make_image(f"{name}-source")

    answer = put(client, name, "v1", image, OCI_MANIFEST)

    assert answer.status_code == 400
    assert code_of(answer) == "MANIFEST_BLOB_UNKNOWN"


def test_layers_that_live_elsewhere_need_not_be_here(client, name):
    layer = {"digest": digest_of(b"far away"), "size": 8}

    for extra in (
        {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
        {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"},
        {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
        {"mediaType": "application/x-tar", "urls": ["https://example.com/layer"]},
        {"mediaType": "application/x-tar", "urls": ["not a url", "gopher://x"]},
    ):
        image = client.make_image(name) | {"layers": [layer | extra]}

        assert put(client, name, "v1", image, OCI_MANIFEST).status_code == 201, extra


def test_a_subject_need_not_be_here(client, name):
    subject = {"mediaType": OCI_MANIFEST, "digest": digest_of(b"to come"), "size": 7}

    answer = put(client, name, "v1", artifact(client, name, subject=subject), OCI_MANIFEST)

    assert answer.status_code == 201
    assert answer.headers["oci-subject"] == subject["digest"]


def test_without_a_subject_none_is_announced(client, name):
    answer = put(client, name, "v1", client.make_image(name), OCI_MANIFEST)

    assert "oci-subject" not in answer.headers


def test_bytes_under_another_digest_are_refused(client, name):
    image = client.make_image(name)

    for digest in (digest_of(b"other"), digest_of(b"other", "sha512"), "sha256:abc", "md5:abc"):
        answer = put(client, name, digest, image, OCI_MANIFEST)

        assert answer.status_code == 400, digest
        assert code_of(answer) == "DIGEST_INVALID"
    assert (
        digest_of(encoded(image))
        in put(client, name, digest_of(b"other"), image, OCI_MANIFEST).text
    )


def test_a_tag_outside_the_grammar_is_refused(client, name):
    image = client.make_image(name)

    for tag in (".hidden", "-x", "a" * 129, "a+b", "a b", "ä"):
        answer = put(client, name, tag, image, OCI_MANIFEST)

        assert answer.status_code in {400, 404}, tag
        assert code_of(answer) in {"TAG_INVALID", "NAME_UNKNOWN"}


def test_a_digest_may_be_pushed_with_its_tags(client, name):
    body = encoded(client.make_image(name))
    tags = [f"v{number}" for number in range(10)]

    for algorithm in ("sha256", "sha512"):
        digest = digest_of(body, algorithm)
        answer = client.request(
            "PUT",
            f"/v2/{name}/manifests/{digest}",
            params={"tag": tags},
            content=body,
            headers={"content-type": OCI_MANIFEST},
        )

        assert answer.status_code == 201
        assert answer.headers.get_list("oci-tag") == tags
        for tag in tags:
            tagged = client.request("GET", f"/v2/{name}/manifests/{tag}")
            assert tagged.headers["docker-content-digest"] == digest


def test_one_bad_tag_parameter_stores_nothing(client, name):
    body = encoded(client.make_image(name))

    answer = client.request(
        "PUT",
        f"/v2/{name}/manifests/{digest_of(body)}",
        params={"tag": ["good", ".bad"]},
        content=body,
        headers={"content-type": OCI_MANIFEST},
    )

    assert answer.status_code == 400
    assert code_of(answer) == "TAG_INVALID"
    assert client.request("GET", f"/v2/{name}/manifests/good").status_code == 404


def test_a_tag_moves_to_what_was_pushed_last(client, name):
    first = client.push_image(name, "v1")
    second = client.push_image(name, "v1")

    answer = client.request("HEAD", f"/v2/{name}/manifests/v1")

    assert answer.headers["docker-content-digest"] == second
    assert client.request("HEAD", f"/v2/{name}/manifests/{first}").status_code == 200


def test_pushing_the_same_again_succeeds(client, name):
    image = client.make_image(name)

    answers = [put(client, name, "v1", image, OCI_MANIFEST) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201] * 3
    assert client.request("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v1"]


def test_one_manifest_may_be_in_two_repositories(client, name):
    image = client.make_image(name)
    content = {key: value for key, value in image.items() if key != "layers"} | {"layers": []}
    config = descriptor(client, name, b'{"a":1}', "application/vnd.oci.image.config.v1+json")
    descriptor(client, f"{name}-other", b'{"a":1}', "application/json")
    content["config"] = config

    digests = {client.push_manifest(place, "v1", content) for place in (name, f"{name}-other")}

    assert len(digests) == 1
    assert client.request("DELETE", f"/v2/{name}/manifests/{min(digests)}").status_code == 202
    assert client.request("GET", f"/v2/{name}-other/manifests/v1").status_code == 200
