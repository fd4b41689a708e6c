"""Patterns of repository names against a slow oracle, and how their cost grows."""

import sys
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.model.access import is_match

patterns = st.text("ab/*", max_size=10) | st.text("a*", max_size=12) | st.text(max_size=6)
paths = st.text("ab/", max_size=10) | st.text(max_size=6)


def fits(pattern, path):
    """The meaning of a pattern, written as the choices that it leaves."""

    @cache
    def from_here(at, to):
        if at == len(pattern):
            return to == len(path)
        if pattern.startswith("**", at):
            return any(from_here(at + 2, end) for end in range(to, len(path) + 1))
        if pattern[at] == "*":
            end = to
            while True:
                if from_here(at + 1, end):
                    return True
                if end == len(path) or path[end] == "/":
                    return False
                end += 1
        return to < len(path) and path[to] == pattern[at] and from_here(at + 1, to + 1)

    return from_here(0, 0)


@given(patterns, paths)
@example("", "")
@example("**", "")
@example("*", "a/b")
@example("***", "a/b")
@example("**/a", "a")
@example("a.c", "abc")
@example("a*a", "a")
def test_a_pattern_matches_what_its_wildcards_can_stand_for(pattern, path):
    assert is_match(pattern, path) == fits(pattern, path)


@given(st.text("ab/.[(", max_size=10))
def test_a_pattern_without_wildcards_matches_itself_alone(path):
    assert is_match(path, path)
    assert not is_match(path, path + "a")
    assert is_match("**", path)


@pytest.mark.parametrize("wildcard", ["*", "**"])
@pytest.mark.timeout(10)
def test_no_pattern_makes_matching_slow(wildcard):
    """As a regular expression this would try 10**40 ways; now it takes one step per letter."""
    steps = 0

    def count(frame, event, argument):
        nonlocal steps
        steps += 1
        return count

    pattern = f"{wildcard}a" * 100 + "b"
    is_match(pattern, "")  # compiled and kept
    sys.settrace(count)
    try:
        assert not is_match(pattern, "a" * 255)
    finally:
        sys.settrace(None)

    assert steps < 255 * 20
