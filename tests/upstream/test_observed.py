from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.clock import SECOND
from entrepot.model.upstreams import Observation
from entrepot.upstream.observed import LONGEST_WAIT, observe, retry_after

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
NOW_MICROSECONDS = int(NOW.timestamp()) * SECOND


@given(st.integers(min_value=0, max_value=10**15))
def test_retry_after_in_seconds(seconds):
    assert retry_after(str(seconds), NOW_MICROSECONDS) == min(seconds, LONGEST_WAIT)


@given(st.integers(min_value=-(10**7), max_value=10**7))
def test_retry_after_as_a_date(seconds):
    text = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert retry_after(text, NOW_MICROSECONDS) == max(0, min(seconds, LONGEST_WAIT))


@given(st.text(max_size=60))
def test_retry_after_in_any_words(text):
    wait = retry_after(text, NOW_MICROSECONDS)

    assert wait is None or 0 <= wait <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("30", 30),
        (" 30 ", 30),
        ("30.5", 30),
        ("²", None),
        ("9" * 40, None),
        ("Sat, 31 Jan 2026 12:01:00 GMT", 60),
        ("Saturday, 31-Jan-26 12:01:00 GMT", 60),
        ("Sat Jan 31 12:01:00 2026", 60),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("Sat, 99 Jan 2026 12:01:00 GMT", None),
    ],
)
def test_forms_of_retry_after(text, wait):
    assert retry_after(text, NOW_MICROSECONDS) == wait


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({}, Observation(200)),
        (
            {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "7;w=21600"},
            Observation(200, limit=100, limit_remaining=7, limit_window_seconds=21600),
        ),
        (
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "0"},
            Observation(200, limit=100, limit_remaining=0, limit_window_seconds=60),
        ),
        (
            {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "4999"},
            Observation(200, limit=5000, limit_remaining=4999),
        ),
        ({"ratelimit-limit": "lots", "ratelimit-remaining": "-1"}, Observation(200)),
        ({"Retry-After": "7"}, Observation(200, retry_after=7)),
    ],
)
def test_limits_are_read_from_the_headers(headers, seen):
    from multidict import CIMultiDict

    assert observe(200, CIMultiDict(headers), NOW_MICROSECONDS) == seen
