"""Ranges of answers and of chunks against an oracle that counts bytes one by one."""

import string
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.model.errors import RangeInvalid
from entrepot.model.ranges import ByteRange, parse_chunk, parse_range

_SIZES = st.integers(0, 40)
_NUMBERS = st.integers(0, 45).map(str) | st.sampled_from(["", "9" * 19, "9" * 20, "٣", "-1", "+1"])
_SPECS = st.builds("{}-{}".format, _NUMBERS, _NUMBERS)
_HEADERS = st.one_of(
    st.builds(
        "{}={}".format,
        st.sampled_from(["bytes", "Bytes", "bytes ", "items", ""]),
        st.lists(_SPECS, max_size=6).map(", ".join) | st.text("0123-,", max_size=12),
    ),
    st.text(),
)


def is_number(text):
    return 1 <= len(text) <= 19 and all(letter in string.digits for letter in text)


def read_spec(text, size):
    """The positions that one range names; None when it is no range."""
    first, dash, last = text.strip().partition("-")
    if not dash or (first and not is_number(first)) or (last and not is_number(last)):
        return None
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


def expected_ranges(header, size, limit):
    """What RFC 9110 makes of it: a list, None for the whole, or "416"."""
    unit, _, rest = header.partition("=")
    specs = [read_spec(text, size) for text in rest.split(",")]
    if unit.strip().lower() != "bytes" or len(specs) > limit or None in specs:
        return None
    inside = [spec for spec in specs if len(spec)]
    if not inside:
        return "416"
    return None if sum(map(len, inside)) > size else inside


@given(_HEADERS, _SIZES)
@example("bytes=0-0", 0)
@example("bytes=-0", 5)
@example("bytes=-99", 5)
@example("bytes=4-,0-0", 5)
@example("bytes=٣-٤", 40)
def test_a_range_header_asks_for_the_bytes_that_it_counts(header, size):
    expected = expected_ranges(header, size, 4)

    try:
        found = parse_range(header, size, 4)
    except RangeInvalid:
        assert expected == "416"
    else:
        counted = None if found is None else [range(part.start, part.stop) for part in found]
        assert expected == counted


@given(_SIZES.filter(bool), st.data())
def test_a_range_says_what_it_is_and_reads_back(size, data):
    start = data.draw(st.integers(0, size - 1))
    part = ByteRange(start, data.draw(st.integers(start + 1, size)))

    said = part.content_range(size)

    assert parse_range(f"bytes={part.start}-{part.stop - 1}", size, 1) == [part]
    assert parse_chunk(said) == part
    assert part.length == len(range(part.start, part.stop))


def read_chunk(text):
    """First and last byte; None when it is no chunk."""
    text = text.strip()
    if text.startswith(("bytes ", "bytes=")):
        text = text[6:]
    span, slash, total = text.partition("/")
    first, _, last = span.partition("-")
    if slash and not (total == "*" or is_number(total)):
        return None
    if not (is_number(first) and is_number(last) and int(first) <= int(last)):
        return None
    return int(first), int(last)


@given(
    st.builds(
        "{}{}-{}{}".format,
        st.sampled_from(["", "bytes ", "bytes=", "bytes", "Bytes ", "bytes bytes="]),
        _NUMBERS,
        _NUMBERS,
        st.sampled_from(["", "/*", "/7", "/", "/x", "\n"]),
    )
    | st.text("0123456789-/* bytes=", max_size=20)
    | st.text()
)
@example("0-٣")
def test_a_chunk_range_is_read_if_and_only_if_the_grammar_has_it(text):
    try:
        chunk = parse_chunk(text)
    except RangeInvalid:
        found = None
    else:
        found = (chunk.start, chunk.stop - 1)

    assert found == read_chunk(text)


@pytest.mark.parametrize("spec", ["0-0", "-1", "0-", "1-0", "x", ""])
def test_a_header_of_many_ranges_is_not_taken_apart(spec):
    header = "bytes=" + ",".join([spec] * 100_000)
    tracemalloc.start()

    assert parse_range(header, 10, 256) is None

    assert tracemalloc.get_traced_memory()[1] < 4 * len(header)
    tracemalloc.stop()
