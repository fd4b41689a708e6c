"""Conditional requests for content that never changes (end-2, end-3; RFC 9110, section 13)."""

import secrets

import pytest

from tests.support.server import digest_of


@pytest.fixture
def blob(client, name):
    return f"/v2/{name}/blobs/{client.push_blob(name, secrets.token_bytes(1_000))}"


def test_content_that_the_client_has_is_not_sent_again(client, name, blob):
    client.push_image(name, "v1")

    for path in (blob, f"/v2/{name}/manifests/v1"):
        etag = client.request("HEAD", path).headers["etag"]

        for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
            for method in ("GET", "HEAD"):
                answer = client.request(method, path, headers={"if-none-match": known})

                assert answer.status_code == 304, known
                assert answer.content == b""
                assert answer.headers["etag"] == etag
                assert "docker-content-digest" in answer.headers


def test_content_that_the_client_lacks_is_sent(client, blob):
    for known in ('"other"', f'"{digest_of(b"other")}"', "", "garbage"):
        answer = client.request("GET", blob, headers={"if-none-match": known})

        assert answer.status_code == 200
        assert len(answer.content) == 1_000


def test_a_tag_that_moved_is_sent_again(client, name):
    client.push_image(name, "v1")
    etag = client.request("HEAD", f"/v2/{name}/manifests/v1").headers["etag"]
    moved = client.push_image(name, "v1")

    answer = client.request("GET", f"/v2/{name}/manifests/v1", headers={"if-none-match": etag})

    assert answer.status_code == 200
    assert answer.headers["docker-content-digest"] == moved


def test_a_range_goes_with_the_tag_that_it_was_taken_of(client, blob):
    etag = client.request("HEAD", blob).headers["etag"]

    same = client.request("GET", blob, headers={"range": "bytes=10-19", "if-range": etag})
    other = client.request("GET", blob, headers={"range": "bytes=10-19", "if-range": '"other"'})
    dated = client.request(
        "GET",
        blob,
        headers={"range": "bytes=10-19", "if-range": "Wed, 21 Oct 2015 07:28:00 GMT"},
    )

    assert (same.status_code, len(same.content)) == (206, 10)
    assert (other.status_code, len(other.content)) == (200, 1_000)
    assert (dated.status_code, len(dated.content)) == (200, 1_000)


def test_a_known_blob_wins_over_a_range(client, blob):
    etag = client.request("HEAD", blob).headers["etag"]

    answer = client.request("GET", blob, headers={"range": "bytes=0-9", "if-none-match": etag})

    assert answer.status_code == 304
