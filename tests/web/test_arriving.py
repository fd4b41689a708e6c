"""Answers whose bytes still arrive."""

import asyncio

import pytest

from entrepot.model.errors import ClientGone, RangeInvalid, UpstreamDown
from entrepot.model.ranges import ByteRange
from entrepot.web.answers import Answer, begin, send_answer
from entrepot.web.conditions import answer_file
from tests.web.requests import Script, Sent, request_with

CONTENT = bytes(range(256)) * 10
SIZE = len(CONTENT)
TYPE = (b"content-type", b"application/octet-stream")


class Played:
    """Something that arrives in small pieces; `waits_at` is where it never goes on."""

    def __init__(self, content=CONTENT, *, size=SIZE, waits_at=None, breaks_at=None):
        self.size = size
        self.closed = 0
        self._content = content
        self._waits_at = waits_at
        self._breaks_at = breaks_at

    async def piece(self, start, most):
        if start == self._waits_at:
            await asyncio.Event().wait()
        if start == self._breaks_at:
            raise UpstreamDown("the upstream broke off")
        return self._content[start : start + min(most, 512)]

    def close(self):
        self.closed += 1


def is_ended(sent):
    return not sent.messages[-1].get("more_body", False)


async def test_what_arrives_is_sent_to_its_end():
    body, sent = Played(), Sent()

    count = await send_answer(Answer(200, [TYPE], body), request_with(), sent.send)

    assert (count, sent.body, body.closed) == (len(CONTENT), CONTENT, 1)
    assert sent.headers[b"content-length"] == b"2560"
    assert is_ended(sent)


async def test_a_length_that_nobody_knows_is_not_announced():
    sent = Sent()

    await send_answer(Answer(200, [TYPE], Played(size=None)), request_with(), sent.send)

    assert b"content-length" not in sent.headers
    assert sent.body == CONTENT
    assert is_ended(sent)


async def test_what_breaks_off_is_never_ended():
    body, sent = Played(breaks_at=1024), Sent()

    count = await send_answer(Answer(200, [TYPE], body), request_with(), sent.send)

    assert (count, sent.body, body.closed) == (1024, CONTENT[:1024], 1)
    assert not is_ended(sent)


async def test_headers_do_not_wait_for_the_first_byte():
    sent = Sent()
    sending = asyncio.create_task(
        send_answer(Answer(200, [TYPE], Played(waits_at=0)), request_with(), sent.send)
    )
    for _ in range(5):
        await asyncio.sleep(0)

    assert [message["type"] for message in sent.messages] == [
        "http.response.start",
        "http.response.body",
    ]
    sending.cancel()


@pytest.mark.parametrize(
    "ranges",
    [None, [ByteRange(5, 9)], [ByteRange(600, 1300), ByteRange(1, 3)]],
)
async def test_an_answer_that_has_begun_is_the_same(ranges):
    body, sent, same = Played(), Sent(), Sent()

    await send_answer(await begin(Answer(206, [TYPE], body, ranges)), request_with(), sent.send)
    await send_answer(Answer(206, [TYPE], Played(), ranges), request_with(), same.send)

    assert len(sent.body) == len(same.body)
    assert sent.headers[b"content-length"] == same.headers[b"content-length"]
    assert ranges is not None or sent.body == CONTENT
    assert body.closed == 1
    assert is_ended(sent)


@pytest.mark.parametrize(("at", "ranges"), [(0, None), (512, [ByteRange(512, 600)])])
async def test_an_answer_without_its_first_bytes_does_not_begin(at, ranges):
    body = Played(breaks_at=at)

    with pytest.raises(UpstreamDown):
        await begin(Answer(200, [TYPE], body, ranges))

    assert body.closed == 1


async def test_a_reader_who_leaves_while_it_waits_is_let_go():
    body, sent = Played(waits_at=512), Sent()
    request = request_with(receive=Script(b"", Script.GONE).receive)

    with pytest.raises(ClientGone):
        await send_answer(Answer(200, [TYPE], body), request, sent.send)

    assert body.closed == 1
    assert not is_ended(sent)


async def test_a_server_that_stops_is_not_a_reader_who_left():
    body, sent = Played(waits_at=512), Sent()
    sending = asyncio.create_task(send_answer(Answer(200, [TYPE], body), request_with(), sent.send))
    await asyncio.sleep(0)
    sending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await sending
    assert body.closed == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=5-9", CONTENT[5:10]), ("bytes=2000-", CONTENT[2000:]), ("bytes=-3", CONTENT[-3:])],
)
async def test_a_range_of_what_arrives(header, expected):
    request, sent = request_with(("Range", header)), Sent()
    answer = answer_file(request, Played(), '"x"', [TYPE], range_limit=4)

    await send_answer(answer, request, sent.send)

    assert (sent.status, sent.body) == (206, expected)
    assert sent.headers[b"content-length"] == str(len(expected)).encode()


async def test_what_arrives_is_let_go_where_the_range_is_refused():
    body, request = Played(), request_with(("Range", f"bytes={SIZE}-"))

    with pytest.raises(RangeInvalid):
        answer_file(request, body, '"x"', [TYPE], range_limit=4)

    assert body.closed == 1


async def test_several_ranges_of_what_arrives():
    sent = Sent()
    ranges = [ByteRange(1, 3), ByteRange(600, 1300)]

    await send_answer(Answer(206, [TYPE], Played(), ranges), request_with(), sent.send)

    assert CONTENT[600:1300] in sent.body
    assert sent.headers[b"content-length"] == str(len(sent.body)).encode()


async def test_a_range_of_an_unknown_length_is_answered_whole():
    request, sent = request_with(("Range", "bytes=5-9")), Sent()
    answer = answer_file(request, Played(size=None), '"x"', [TYPE], range_limit=4)

    await send_answer(answer, request, sent.send)

    assert (sent.status, sent.body) == (200, CONTENT)


@pytest.mark.parametrize(("status", "method"), [(304, "GET"), (200, "HEAD")])
async def test_what_is_not_sent_is_closed_all_the_same(status, method):
    body, sent = Played(), Sent()

    await send_answer(Answer(status, [TYPE], body), request_with(method=method), sent.send)

    assert (sent.body, body.closed) == (b"", 1)
