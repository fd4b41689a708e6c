"""Ranges of blobs (end-2; RFC 9110, section 14), and their abuse."""

import re
import secrets
import time

import pytest

from tests.protocol.registry import credential_of
from tests.protocol.wire import send

SIZE = 10_000


@pytest.fixture
def content():
    return secrets.token_bytes(SIZE)


@pytest.fixture
def blob(client, name, content):
    return f"/v2/{name}/blobs/{client.push_blob(name, content)}"


SINGLE = {
    "bytes=0-0": (0, 1),
    "bytes=0-9999": (0, SIZE),
    "bytes=100-199": (100, 200),
    "bytes=9999-": (9_999, SIZE),
    "bytes=5000-": (5_000, SIZE),
    "bytes=-1": (9_999, SIZE),
    "bytes=-500": (9_500, SIZE),
    "bytes=-99999999": (0, SIZE),
    "bytes=9000-99999999": (9_000, SIZE),
    "Bytes=1-2": (1, 3),
    "bytes= 1-2": (1, 3),
    "bytes=1-2,20000-": (1, 3),
}
# Malformed, of another unit, or more than is worth its work: RFC 9110 lets us answer the whole.
IGNORED = (
    "bytes=",
    "bytes=-",
    "bytes=abc",
    "bytes=9-1",
    "bytes=1-2-3",
    "bytes 0-9",
    "items=0-9",
    "bytes=0-9999,0-9999",
    "bytes=" + ",".join(f"{n}-{n}" for n in range(1_000)),
    "bytes=" + ",".join("0-" for _ in range(1_000)),
    "bytes=0x1-2",
    "bytes=" + "9" * 4_000 + "-",
)
OUTSIDE = ("bytes=10000-", "bytes=20000-30000", "bytes=-0", "bytes=999999999999999999-")


def test_one_range_is_sent_alone(client, blob, content):
    for header, (start, stop) in SINGLE.items():
        answer = client.request("GET", blob, headers={"range": header})

        assert answer.status_code == 206, header
        assert answer.content == content[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(stop - start)
        assert answer.headers["content-type"] == "application/octet-stream"


def test_a_range_that_need_not_be_served_is_answered_with_the_whole(client, blob, content):
    for header in IGNORED:
        answer = client.request("GET", blob, headers={"range": header})

        assert answer.status_code == 200, header[:60]
        assert answer.content == content
        assert "content-range" not in answer.headers


def test_a_range_outside_says_how_large_the_blob_is(registry, client, name, blob):
    credential = credential_of(registry, client, name)

    for header in OUTSIDE:
        answer = send(registry.server, "GET", blob, {**credential, "Range": header})

        assert answer.status == 416, header
        assert answer.headers["content-range"] == f"bytes */{SIZE}"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers["content-type"] == "application/json"


def test_several_ranges_come_as_parts(client, blob, content):
    answer = client.request("GET", blob, headers={"range": "bytes=0-99,200-299,-50"})

    assert answer.status_code == 206
    assert answer.headers["content-length"] == str(len(answer.content))
    assert "content-range" not in answer.headers
    assert _parts(answer) == [
        ("bytes 0-99/10000", content[:100]),
        ("bytes 200-299/10000", content[200:300]),
        ("bytes 9950-9999/10000", content[9_950:]),
    ]


def test_a_partial_pull_may_name_hundreds_of_ranges(client, blob, content):
    header = "bytes=" + ",".join(f"{start}-{start + 9}" for start in range(0, 4_000, 20))

    answer = client.request("GET", blob, headers={"range": header})

    assert answer.status_code == 206
    assert [body for _, body in _parts(answer)] == [
        content[start : start + 10] for start in range(0, 4_000, 20)
    ]


def test_a_head_has_no_ranges(client, blob):
    answer = client.request("HEAD", blob, headers={"range": "bytes=0-9"})

    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(SIZE)


def test_nothing_lies_inside_of_an_empty_blob(client, name):
    path = f"/v2/{name}/blobs/{client.push_blob(name, b'')}"

    answer = client.request("GET", path, headers={"range": "bytes=0-"})

    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */0"


def test_a_broken_download_goes_on_where_it_ended(client, blob, content):
    first = client.request("GET", blob, headers={"range": "bytes=0-3999"})
    rest = client.request(
        "GET", blob, headers={"range": "bytes=4000-", "if-range": first.headers["etag"]}
    )

    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes 4000-9999/{SIZE}"
    assert first.content + rest.content == content


def test_ranges_that_overlap_never_cost_more_than_the_blob(registry, client, name):
    """CVE-2025-62727: work must not grow with the square of a header."""
    path = f"/v2/{name}/blobs/{client.push_blob(name, secrets.token_bytes(1_000_000))}"
    ranges = "bytes=" + ",".join("0-999999" for _ in range(2_000))
    credential = credential_of(registry, client, name)

    started = time.process_time()
    answer = send(registry.server, "GET", path, {**credential, "Range": ranges})

    assert answer.status == 200
    assert len(answer.body) == 1_000_000
    assert time.process_time() - started < 5


def _parts(answer):
    multipart = r"multipart/byteranges; boundary=(\w+)"
    boundary = "".join(re.findall(multipart, answer.headers["content-type"]))
    assert boundary
    found = []
    for part in answer.content.split(f"--{boundary}".encode())[1:-1]:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        assert headers["content-type"] == "application/octet-stream"
        found.append((headers["content-range"], body.removesuffix(b"\r\n")))
    assert answer.content.endswith(f"--{boundary}--\r\n".encode())
    return found
