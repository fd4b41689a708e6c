"""Answers byte by byte: whole files, ranges, several ranges, and readers who leave."""

import asyncio
import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.blobs.answers import File
from entrepot.model.errors import ClientGone, RangeInvalid
from entrepot.web.answers import Answer, send_answer
from entrepot.web.conditions import answer_file
from tests.web.requests import Script, Sent, request_with

CONTENT = bytes(range(256)) * 4 + b"\r\n--x--\r\n"
ETAG = '"sha256:a"'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "blob"
    path.write_bytes(CONTENT)
    return File(path, len(CONTENT))


async def get(file, *headers, method="GET", script=None):
    request = request_with(*headers, method=method, receive=(script or Script()).receive)
    sent = Sent()
    kind = [(b"content-type", b"application/octet-stream")]
    answer = answer_file(request, file, ETAG, kind, range_limit=8)
    length = await send_answer(answer, request, sent.send)
    assert int(sent.headers[b"content-length"]) == (length or int(sent.headers[b"content-length"]))
    return sent


def parts_of(sent):
    """The parts of a multipart answer, read by another parser."""
    head = b"content-type: " + sent.headers[b"content-type"] + b"\r\n\r\n"
    message = email.message_from_bytes(head + sent.body, policy=email.policy.HTTP)
    return list(message.iter_parts())


@given(
    spans=st.lists(
        st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 90)), min_size=1, max_size=8
    )
)
async def test_ranges_are_the_bytes_they_name(file, spans):
    wanted = [(start, min(start + more, len(CONTENT) - 1)) for start, more in spans]
    header = "bytes=" + ",".join(f"{first}-{last}" for first, last in wanted)

    sent = await get(file, ("Range", header))

    assert sent.status == 206
    assert len(sent.body) == int(sent.headers[b"content-length"])
    expected = [CONTENT[first : last + 1] for first, last in wanted]
    ranges = [f"bytes {first}-{last}/{len(CONTENT)}" for first, last in wanted]
    if len(wanted) == 1:
        assert sent.body == expected[0]
        assert sent.headers[b"content-range"] == ranges[0].encode()
        return
    boundary = sent.headers[b"content-type"].partition(b"boundary=")[2]
    pieces = sent.body.split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    for piece, content, named in zip(pieces[1:-1], expected, ranges, strict=True):
        head, _, body = piece.partition(b"\r\n\r\n")
        assert body == content
        assert f"content-range: {named}".encode() in head
        assert b"content-type: application/octet-stream" in head


async def test_another_parser_finds_the_parts_too(file):
    sent = await get(file, ("Range", "bytes=65-70,97-100"))

    parts = parts_of(sent)

    assert [part["content-range"] for part in parts] == [
        f"bytes 65-70/{len(CONTENT)}",
        f"bytes 97-100/{len(CONTENT)}",
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Range", "items=0-1")],
        [("Range", "bytes=0-1"), ("If-Range", '"other"')],
        [("Range", "bytes=0-,0-")],
        [("Range", "bytes=" + ",".join(["0-0"] * 9))],
    ],
)
async def test_what_asks_for_no_range_gets_the_whole(file, headers):
    sent = await get(file, *headers)

    assert (sent.status, sent.body) == (200, CONTENT)


async def test_a_range_with_its_condition_met_is_a_range(file):
    sent = await get(file, ("Range", "bytes=1-2"), ("If-Range", ETAG))

    assert (sent.status, sent.body) == (206, CONTENT[1:3])


async def test_a_range_outside_names_the_size(file):
    with pytest.raises(RangeInvalid) as refused:
        await get(file, ("Range", f"bytes={len(CONTENT)}-"))

    assert refused.value.values["content_range"] == f"bytes */{len(CONTENT)}"


async def test_head_has_the_length_and_no_body(file):
    sent = await get(file, ("Range", "bytes=0-1"), method="HEAD")

    assert (sent.status, sent.body) == (200, b"")
    assert sent.headers[b"content-length"] == str(len(CONTENT)).encode()


async def test_a_server_that_sends_files_gets_the_path_and_no_bytes(file):
    request = request_with(extensions={"http.response.pathsend": {}})
    sent = Sent()

    length = await send_answer(Answer(200, [], file), request, sent.send)

    assert sent.messages[1:] == [{"type": "http.response.pathsend", "path": str(file.path)}]
    assert length == len(CONTENT)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_no_length(status):
    sent = Sent()

    await send_answer(Answer(status, [], b""), request_with(), sent.send)

    assert b"content-length" not in sent.headers


async def test_a_reader_who_leaves_stops_the_stream(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"")
    with path.open("r+b") as large:
        large.truncate(64 * 1024 * 1024)
    leaves = asyncio.Event()
    sent = Sent()

    async def receive():
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        await sent.send(message)
        if len(sent.messages) == 3:
            leaves.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    request = request_with(receive=receive)
    with pytest.raises(ClientGone):
        await send_answer(Answer(200, [], File(path, path.stat().st_size)), request, send)

    assert len(sent.messages) < 8
    assert not any(
        message["type"] == "http.response.body" and not message.get("more_body")
        for message in sent.messages
    )
