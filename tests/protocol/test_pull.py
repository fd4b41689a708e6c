"""Pulling blobs (end-2) and manifests (end-3)."""

import json
import secrets

from tests.protocol.registry import credential_of
from tests.protocol.wire import send
from tests.support.server import OCI_MANIFEST, digest_of

BAD_DIGESTS = (
    "sha256:abc",
    "sha256:" + "A" * 64,
    "sha256:" + "g" * 64,
    "sha512:" + "a" * 64,
    "md5:" + "a" * 32,
    "sha256:",
    ":",
    "latest",
)


def test_a_blob_comes_back_byte_for_byte_with_its_headers(client, name):
    content = secrets.token_bytes(70_000)
    digest = client.push_blob(name, content)

    answer = client.request("GET", f"/v2/{name}/blobs/{digest}")

    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == "70000"
    assert answer.headers["docker-content-digest"] == digest
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{digest}"'


def test_a_blob_head_has_the_headers_of_its_get_and_no_body(client, name):
    digest = client.push_blob(name, secrets.token_bytes(1_234))
    path = f"/v2/{name}/blobs/{digest}"

    head, get = client.request("HEAD", path), client.request("GET", path)

    assert head.status_code == 200
    assert head.content == b""
    assert _lasting(head) == _lasting(get)


def test_a_blob_of_another_repository_is_not_found(client, name):
    digest = client.push_blob(name, secrets.token_bytes(100))
    client.push_blob(f"{name}-other", b"something else")

    answer = client.request("GET", f"/v2/{name}-other/blobs/{digest}")

    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "BLOB_UNKNOWN"
    assert client.request("HEAD", f"/v2/{name}-other/blobs/{digest}").status_code == 404


def test_a_sha512_blob_answers_in_the_algorithm_asked_for(client, name):
    content = secrets.token_bytes(5_000)
    digest = client.push_blob(name, content, "sha512")

    answer = client.request("GET", f"/v2/{name}/blobs/{digest}")

    assert answer.content == content
    assert answer.headers["docker-content-digest"] == digest
    assert client.request("GET", f"/v2/{name}/blobs/{digest_of(content)}").status_code == 404


def test_an_empty_blob_can_be_pushed_and_pulled(client, name):
    digest = client.push_blob(name, b"")

    answer = client.request("GET", f"/v2/{name}/blobs/{digest}")

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == "0"


def test_a_malformed_digest_is_refused(client, name):
    client.push_blob(name, b"a repository")

    for digest in BAD_DIGESTS:
        answer = client.request("GET", f"/v2/{name}/blobs/{digest}")

        assert answer.status_code == 400, digest
        assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"


def test_a_digest_may_come_percent_encoded(registry, client, name):
    digest = client.push_blob(name, b"content")
    target = f"/v2/{name}/blobs/{digest.replace(':', '%3A')}"

    answer = send(registry.server, "GET", target, credential_of(registry, client, name))

    assert answer.status == 200
    assert answer.body == b"content"


def test_nothing_is_ever_compressed(registry, client, name):
    digest = client.push_blob(name, b"a" * 100_000)
    manifest = client.push_image(name)
    credential = credential_of(registry, client, name)

    for path in (f"blobs/{digest}", f"manifests/{manifest}", f"referrers/{manifest}", "tags/list"):
        for accepted in ("gzip", "zstd, gzip, deflate", "br", "*"):
            headers = {**credential, "Accept-Encoding": accepted}
            answer = send(registry.server, "GET", f"/v2/{name}/{path}", headers)

            assert answer.status == 200
            assert "content-encoding" not in answer.headers
            assert answer.headers["content-length"] == str(len(answer.body))


def test_a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest(client, name):
    image = client.make_image(name)
    body = json.dumps(image, indent=3).encode() + b"\n"
    digest = client.push_manifest(name, "v1", body, OCI_MANIFEST)

    by_tag = client.request("GET", f"/v2/{name}/manifests/v1")
    by_digest = client.request("GET", f"/v2/{name}/manifests/{digest}")

    for answer in (by_tag, by_digest):
        assert answer.status_code == 200
        assert answer.content == body
        assert answer.headers["content-type"] == OCI_MANIFEST
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["etag"] == f'"{digest}"'
        assert answer.headers["content-length"] == str(len(body))


def test_a_manifest_head_has_the_headers_of_its_get_and_no_body(client, name):
    digest = client.push_image(name, "v1")

    for reference in ("v1", digest):
        path = f"/v2/{name}/manifests/{reference}"
        head, get = client.request("HEAD", path), client.request("GET", path)

        assert head.status_code == 200
        assert head.content == b""
        assert _lasting(head) == _lasting(get)
        assert head.headers["content-length"] == str(len(get.content))


def test_a_manifest_that_is_not_there_is_unknown(client, name):
    client.push_image(name, "v1")

    for reference in ("v2", digest_of(b"nothing"), digest_of(b"nothing", "sha512")):
        answer = client.request("GET", f"/v2/{name}/manifests/{reference}")

        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"
        assert client.request("HEAD", f"/v2/{name}/manifests/{reference}").status_code == 404


def test_a_repository_that_is_not_there_is_unknown(client, name):
    for path in (f"manifests/{digest_of(b'nothing')}", "manifests/v1", f"blobs/{digest_of(b'')}"):
        answer = client.request("GET", f"/v2/{name}/{path}")

        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN"


def test_a_reference_outside_the_grammar_is_not_found(client, name):
    client.push_image(name)

    for reference in (".INVALID", "-v1", "a" * 129, "sha256:abc", "a+b", "v1:v2"):
        answer = client.request("GET", f"/v2/{name}/manifests/{reference}")

        assert answer.status_code == 404, reference
        assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


def test_a_sha512_manifest_is_found_by_its_digest(client, name):
    body = json.dumps(client.make_image(name)).encode()
    digest = digest_of(body, "sha512")
    client.push_manifest(name, digest, body, OCI_MANIFEST)

    answer = client.request("GET", f"/v2/{name}/manifests/{digest}")

    assert answer.content == body
    assert answer.headers["docker-content-digest"] == digest


def test_content_is_never_run_or_guessed_by_a_browser(client, name):
    blob = client.push_blob(name, b"<script>alert(1)</script>")
    client.push_image(name, "v1")

    answers = [
        client.request(method, f"/v2/{name}/{path}", headers=headers)
        for path in (f"blobs/{blob}", "manifests/v1")
        for method in ("GET", "HEAD")
        for headers in ({}, {"range": "bytes=1-4"}, {"if-none-match": "*"})
    ]

    assert {answer.status_code for answer in answers} == {200, 206, 304}
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["content-disposition"] == "attachment"


def test_lists_and_refusals_are_never_run_or_guessed_by_a_browser(client, name):
    digest = client.push_image(name, "v1")

    answers = [
        client.request("GET", f"/v2/{name}/tags/list"),
        client.request("GET", f"/v2/{name}/referrers/{digest}"),
        client.request("GET", "/v2/_catalog"),
        client.request("GET", f"/v2/{name}/manifests/missing"),
        client.request("GET", f"/v2/{name}/tags/list?n=<script>"),
    ]

    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"


def _lasting(answer):
    """The headers without those of the one request."""
    one_time = {"date", "x-request-id"}
    return {key: value for key, value in answer.headers.items() if key not in one_time}
