"""Pushing a blob in chunks that say where they belong (end-5, end-6)."""

import secrets

import pytest

from tests.protocol.documents import code_of
from tests.protocol.registry import credential_of
from tests.protocol.test_uploads import begin, pull
from tests.protocol.wire import send
from tests.support.server import digest_of


@pytest.fixture
def content():
    return secrets.token_bytes(30_000)


def chunk(client, location, content, start, stop, prefix=""):
    return client.request(
        "PATCH",
        location,
        content=content[start:stop],
        headers={"content-range": f"{prefix}{start}-{stop - 1}"},
    )


@pytest.mark.parametrize("prefix", ["", "bytes "])
def test_chunks_in_order_make_the_blob(client, name, content, prefix):
    location = begin(client, name)

    for start in (0, 10_000):
        answer = chunk(client, location, content, start, start + 10_000, prefix)

        assert answer.status_code == 202
        assert answer.headers["location"] == location
        assert answer.headers["range"] == f"0-{start + 9_999}"

    done = client.request(
        "PUT",
        location,
        params={"digest": digest_of(content)},
        content=content[20_000:],
        headers={"content-range": f"{prefix}20000-29999"},
    )
    assert done.status_code == 201
    assert pull(client, name, digest_of(content)) == content


def test_a_chunk_out_of_order_is_refused_and_says_where_to_go_on(client, name, content):
    location = begin(client, name)
    chunk(client, location, content, 0, 10_000)

    for start, stop in ((20_000, 30_000), (0, 10_000), (9_999, 20_000), (10_001, 20_000)):
        answer = chunk(client, location, content, start, stop)

        assert answer.status_code == 416
        assert answer.headers["location"] == location
        assert answer.headers["range"] == "0-9999"
        assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_INVALID"
        assert answer.headers["content-length"] == str(len(answer.content))


def test_an_upload_of_10_000_segments_takes_no_more_and_can_be_finished(
    registry, client, name, content
):
    location = begin(client, name)
    chunk(client, location, content, 0, 10_000)
    registry.change(
        "UPDATE uploads SET segment_count = 10000 WHERE id = :id", id=location.rpartition("/")[2]
    )

    over = chunk(client, location, content, 10_000, 20_000)
    digest = digest_of(content[:10_000])
    done = client.request("PUT", location, params={"digest": digest})

    assert over.status_code == 400
    assert code_of(over) == "BLOB_UPLOAD_INVALID"
    assert "10000" in over.text
    assert "larger chunks" in over.text
    assert done.status_code == 201
    assert pull(client, name, digest) == content[:10_000]


def test_an_upload_survives_a_416(client, name, content):
    location = begin(client, name)
    chunk(client, location, content, 0, 10_000)
    chunk(client, location, content, 0, 10_000)
    late = client.request(
        "PUT",
        location,
        params={"digest": digest_of(content)},
        content=content[20_000:],
        headers={"content-range": "20000-29999"},
    )

    rest = chunk(client, location, content, 10_000, 30_000)
    done = client.request("PUT", location, params={"digest": digest_of(content)})

    assert late.status_code == 416
    assert late.headers["range"] == "0-9999"
    assert rest.status_code == 202
    assert done.status_code == 201


def test_the_first_chunk_begins_at_the_beginning(client, name, content):
    location = begin(client, name)

    answer = chunk(client, location, content, 5, 100)

    assert answer.status_code == 416
    assert answer.headers["range"] == "0-0"


def test_a_chunk_that_cannot_be_read_is_refused(client, name):
    location = begin(client, name)

    for header in ("9-0", "abc", "0-", "-9", "bytes=a-b", "0-9-10", "0-99"):
        answer = client.request(
            "PATCH", location, content=b"0123456789", headers={"content-range": header}
        )

        assert answer.status_code == 416, header
        assert answer.headers["location"] == location
    done = client.request(
        "PUT", location, params={"digest": digest_of(b"0123456789")}, content=b"0123456789"
    )
    assert done.status_code == 201


def test_a_chunked_body_is_measured_against_its_content_range(registry, client, name):
    credential = credential_of(registry, client, name)
    location = begin(client, name)

    right = send(
        registry.server,
        "PATCH",
        location,
        {**credential, "Content-Range": "0-9"},
        chunks=[b"0" * 10],
    )
    wrong = send(
        registry.server,
        "PATCH",
        location,
        {**credential, "Content-Range": "10-19"},
        chunks=[b"1" * 5],
    )

    assert right.status == 202
    assert wrong.status == 416


def test_bytes_without_a_range_are_appended(client, name, content):
    location = begin(client, name)
    chunk(client, location, content, 0, 10_000)

    client.request("PATCH", location, content=content[10_000:20_000])
    done = client.request(
        "PUT", location, params={"digest": digest_of(content)}, content=content[20_000:]
    )

    assert done.status_code == 201


def test_no_least_size_is_asked_of_a_chunk(client, name):
    location = begin(client, name)

    for number in range(5):
        answer = chunk(client, location, b"01234", number, number + 1)

        assert answer.status_code == 202
        assert "oci-chunk-min-length" not in answer.headers
    done = client.request("PUT", location, params={"digest": digest_of(b"01234")})
    assert done.status_code == 201
