"""Bodies, queries, conditions, pages and credentials, as odd clients send them."""

import asyncio
import base64
import contextlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.identity.bearer import BearerKey
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.model.errors import (
    ClientGone,
    RequestInvalid,
    RequestTimedOut,
    RequestTooLarge,
    SizeInvalid,
    Unauthenticated,
)
from entrepot.services.access import NOBODY, OUTSIDER
from entrepot.web.authenticate import nobody, password_of
from entrepot.web.conditions import is_known
from entrepot.web.paging import link_next, read_limit
from tests.web.requests import Script, request_with


def put(*steps, length=None):
    headers = [("Content-Length", str(length))] if length is not None else []
    script = Script(*steps)
    return request_with(*headers, method="PUT", receive=script.receive), script


async def test_a_body_comes_whole_whatever_its_pieces():
    request, _ = put(b"ab", b"", b"c", length=3)

    assert await request.body(3) == b"abc"
    assert request.received == 3


async def test_a_body_that_announces_too_much_is_refused_before_it_is_read():
    request, script = put(b"abcd", length=4)

    with pytest.raises(RequestTooLarge):
        await request.body(3)

    assert script.taken == 0


async def test_a_body_without_a_length_is_read_no_further_than_the_limit():
    request, script = put(*[b"x" * 10] * 100)

    with pytest.raises(RequestTooLarge):
        await request.body(25)

    assert script.taken == 3


@pytest.mark.parametrize(("steps", "length"), [([b"ab", b""], 3), ([b"abcd"], 3), ([b""], 1)])
async def test_a_body_is_as_long_as_announced(steps, length):
    request, _ = put(*steps, length=length)

    with pytest.raises(SizeInvalid):
        await request.body(100)


async def test_a_body_that_pauses_too_long_is_given_up():
    request, _ = put(b"a", Script.PAUSE)

    with pytest.raises(RequestTimedOut):
        await request.body(100)


async def test_a_client_that_goes_ends_its_body():
    request, _ = put(b"a", Script.GONE)

    with pytest.raises(ClientGone):
        await request.body(100)


@pytest.mark.parametrize("length", ["", "-1", "+1", "1e3", "0x10", "1 ", "²", "9" * 20, "1,1"])
async def test_an_odd_content_length_is_refused(length):
    request, script = put(b"a", length=length)

    with pytest.raises(SizeInvalid):
        await request.body(100)

    assert script.taken == 0
    assert request.content_length_or_none() is None


async def test_draining_reads_a_small_rest_and_leaves_a_large_one():
    small, _ = put(b"a" * 1_000, b"b" * 1_000)
    large, script = put(*[b"a" * 100_000] * 100)
    slow, _ = put(b"a", Script.PAUSE)
    gone, _ = put(b"a", Script.GONE)

    assert await small.drain()
    assert not await large.drain()
    assert script.taken <= 4
    assert not await slow.drain()
    assert not await gone.drain()


async def test_gone_waits_for_the_end_and_not_for_the_body():
    request, _ = put(b"a", b"b", Script.GONE)

    await asyncio.wait_for(request.gone(), 5)


@given(st.binary(max_size=60))
def test_any_query_is_read_or_refused(query):
    request = request_with(query=query)

    try:
        found = request.query
    except RequestInvalid:
        return

    assert found == (parse_qs(query.decode("ascii"), keep_blank_values=True))
    assert not any("\0" in value for values in found.values() for value in values)


def test_a_query_of_thousands_of_fields_is_refused():
    with pytest.raises(RequestInvalid):
        _ = request_with(query=b"tag=a&" * 5_000).query


@given(st.text(max_size=30) | st.integers().map(str), st.integers(1, 1_000))
def test_a_page_is_never_longer_than_the_most(text, most):
    request = request_with()
    request.__dict__["query"] = {"n": [text]}

    try:
        limit = read_limit(request, most=most, default=7)
    except RequestInvalid:
        assert not (text.isascii() and text.isdigit())
    else:
        assert limit == min(int(text), most)


@given(st.text(max_size=30), st.integers(0, 10_000))
def test_a_link_to_the_next_page_says_what_it_was_given(last, limit):
    name, value = link_next("/v2/a/tags/list", n=limit, last=last, artifactType=None)

    assert name == b"link"
    text, _, relation = value.decode().partition(">")
    parts = urlsplit(text.removeprefix("<"))
    assert relation == '; rel="next"'
    assert parts.path == "/v2/a/tags/list"
    assert not parts.netloc
    assert parse_qs(parts.query, keep_blank_values=True) == {"n": [str(limit)], "last": [last]}


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False),
        ('"sha256:a"', True),
        ('W/"sha256:a"', True),
        ('"x", "sha256:a"', True),
        ('"x" ,W/"sha256:a" ', True),
        ("*", True),
        ("sha256:a", False),
        ('"sha256:ab"', False),
        ("", False),
    ],
)
def test_content_is_known_by_its_tag_alone(header, known):
    headers = [("If-None-Match", header)] if header is not None else []

    assert is_known(request_with(*headers), '"sha256:a"') == known


_CREDENTIALS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(_CREDENTIALS.filter(lambda name: ":" not in name), _CREDENTIALS)
def test_the_password_of_a_basic_header_may_hold_colons(name, password):
    value = base64.b64encode(f"{name}:{password}".encode()).decode()

    assert password_of(value) == (password or name)


@given(st.text(max_size=40) | st.binary(max_size=30).map(lambda b: base64.b64encode(b).decode()))
def test_any_basic_header_is_read_or_refused(value):
    with contextlib.suppress(Unauthenticated):
        assert isinstance(password_of(value), str)


@given(st.text(st.characters(codec="latin-1"), max_size=60) | st.just("a.b.c"))
def test_any_bearer_header_is_read_or_refused(value):
    assert BearerKey(KeyRing(SecretKey.of(b"k" * 32))).read(value, "registry.test") is None


def test_a_huge_credential_is_not_decoded():
    with pytest.raises(Unauthenticated):
        password_of("A" * 1_000_000)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Forwarded-Host"])
def test_nobody_by_way_of_a_proxy_is_an_outsider(header):
    assert nobody(request_with((header, "x"))) == OUTSIDER
    assert nobody(request_with()) == NOBODY
