"""Bodies that pause or trickle are given up; whatever keeps coming is not."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from entrepot.model.errors import RequestTimedOut
from entrepot.web.requests import Message, Request


def _request(pieces: Iterable[bytes], *, pause: float, idle_seconds: float) -> Request:
    async def messages() -> AsyncIterator[Message]:
        for piece in pieces:
            await asyncio.sleep(pause)
            yield {"type": "http.request", "body": piece, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    arriving = messages()
    scope = {"method": "PATCH", "path": "/", "headers": [], "query_string": b""}
    return Request(scope, lambda: anext(arriving), idle_seconds=idle_seconds)


async def _read(request: Request) -> int:
    return sum([len(piece) async for piece in request.pieces()])


async def test_a_body_that_trickles_is_given_up_although_it_never_pauses_for_long():
    request = _request([b"x"] * 1_000, pause=0.01, idle_seconds=0.1)

    with pytest.raises(RequestTimedOut):
        await _read(request)


async def test_a_body_that_keeps_coming_may_take_longer_than_the_idle_time():
    request = _request([b"x" * 1_024] * 30, pause=0.01, idle_seconds=0.1)

    assert await _read(request) == 30 * 1_024
