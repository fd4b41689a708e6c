"""Answers that are hardly HTTP, and manifests that are hardly JSON: an error, never a 500."""

import json

import pytest

from tests.support.server import OCI_INDEX, OCI_MANIFEST, digest_of
from tests.support.upstreams import faults

PATH = "library/app"


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "1")


@pytest.fixture
def cache(stand, upstream, image):
    return stand.cache(upstream, PATH, freshness=0)


ANSWERS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "half a line": b"HTTP/1.1 200",
    "a status that is none": b"HTTP/1.1 banana\r\n\r\n",
    "a status beyond": b"HTTP/1.1 999 Beyond\r\nContent-Length: 0\r\n\r\n",
    "only an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
    "a length and chunks": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ),
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "a huge chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
    "a huge header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 100_000 + b"\r\n",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("what", ["manifest", "blob", "tags"])
def test_what_is_hardly_http_is_an_error_of_the_upstream(cache, upstream, image, kind, what):
    upstream.script(faults.raw(ANSWERS[kind]), kind=what)
    path = {"manifest": "manifests/1", "blob": f"blobs/{image.layers[0]}", "tags": "tags/list"}

    answer = cache.get(path[what])

    if answer.status == 200:
        assert not answer.is_complete
    else:
        assert answer.status in {502, 504}, answer
        assert json.loads(answer.body)["errors"][0]["message"]


def document(**changes):
    known = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}
    known["config"] = {"mediaType": "application/json", "digest": digest_of(b"{}"), "size": 2}
    return json.dumps(known | changes).encode()


def layer(**changes):
    known = {"mediaType": "application/x", "digest": digest_of(b"x"), "size": 1}
    return document(layers=[known | changes])


DOCUMENTS = {
    "a deep nest": b'{"a":' * 100_000,
    "a deep list": b"[" * 100_000,
    "bytes that are no text": b'{"schemaVersion": 2, "mediaType": "\xff\xfe"}',
    "no media type": document(mediaType=None),
    "a media type that is a number": document(mediaType=7),
    "a list of layers that is none": document(layers="many"),
    "layers without a digest": document(layers=[{}]),
    "a path for a digest": layer(digest="sha256:../../../../etc/passwd"),
    "an address for a digest": layer(digest="http://127.0.0.2/x"),
    "a negative size": layer(size=-1),
    "a size beyond": layer(size=1 << 70),
    "a size that is no number": layer(size=1e400),
    "addresses of layers": layer(urls=["http://127.0.0.2:1/x", "file:///etc/passwd"]),
    "two media types": document()[:-1] + b', "mediaType": "' + OCI_INDEX.encode() + b'"}',
    "layers and manifests": document(manifests=[]),
    "an index that names itself": json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"digest": "self"}]}
    ).encode(),
    "an unknown type": document(mediaType="application/vnd.example.unknown+json"),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_is_served_as_it_is_or_refused(cache, upstream, kind):
    body = DOCUMENTS[kind]
    digest = upstream.repository(PATH).put_manifest(body, "odd", media_type=OCI_MANIFEST)

    for reference in ("odd", digest):
        answer = cache.manifest(reference)

        if answer.status == 200:
            assert digest_of(answer.body) == digest
        else:
            assert answer.status == 502, answer
            assert json.loads(answer.body)["errors"][0]["message"]
    assert not any(".." in entry.path for entry in upstream.log.entries)


@pytest.mark.parametrize(
    "said", [OCI_INDEX, "text/html", "application/json", "", "a\tb", "x" * 999]
)
def test_a_media_type_in_the_header_does_not_change_what_a_manifest_is(
    cache, upstream, image, said
):
    upstream.script(faults.headers(Content_Type=said), kind="manifest")

    answer = cache.manifest(image.digest)

    if answer.status == 200:
        assert (answer.body, answer.headers["content-type"]) == (image.body, OCI_MANIFEST)
    else:
        assert answer.status == 502


@pytest.mark.parametrize(
    "text", [b'"\r\nX-Evil: 1\r\n', b"\xff\xfe\0", "“naïve” ☃".encode(), b"x" * 100_000]
)
def test_what_an_upstream_says_forms_no_header_of_ours(cache, upstream, image, text):
    assert cache.manifest("1").status == 200
    upstream.script(faults.status(500, body=text), kind="manifest")

    answer = cache.manifest("1")

    assert answer.status == 200
    assert "x-evil" not in answer.headers
    warning = answer.headers["warning"]
    assert len(warning) < 4096
    assert warning.startswith('299 - "')
    assert warning.endswith('"')
    assert warning.count('"') - warning.count('\\"') == 2


@pytest.mark.parametrize(
    "name",
    ["ratelimit-limit", "ratelimit-remaining", "retry-after", "www-authenticate", "content-range"],
)
@pytest.mark.parametrize(
    "value", ["", "x", "9" * 400, "1;w=x", "-1;w=-1", ";;;,,,", "Bearer " * 99]
)
def test_headers_that_make_no_sense_do_no_harm(cache, upstream, image, name, value):
    upstream.manners.headers[name] = value

    assert cache.manifest("1").body == image.body
    assert digest_of(cache.blob(image.layers[0]).body) == image.layers[0]
