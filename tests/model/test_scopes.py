"""Scopes of the token service: what comes back, and what cannot be read grants nothing."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.model.errors import RequestInvalid
from entrepot.model.scopes import SCOPE_LIMIT, Scope, parse_scopes

_WORDS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
_NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters=" "), min_size=1, max_size=30
) | st.sampled_from(["team/app", "localhost:5000/team/app", "a"])
_ACTIONS = st.frozensets(st.sampled_from(["pull", "push", "delete", "*", "odd_1"]), min_size=1)
scopes = st.builds(Scope, _WORDS, _NAMES, _ACTIONS)
near_scopes = st.lists(
    st.text("repository:pull,*/ ()", max_size=40) | st.text(max_size=60), max_size=6
)


@given(st.lists(scopes, max_size=SCOPE_LIMIT), st.booleans())
def test_scopes_come_back_as_they_were(wanted, in_one):
    texts = [str(scope) for scope in wanted]

    assert parse_scopes([" ".join(texts)] if in_one else texts) == wanted


@given(near_scopes)
@example(["repository:a:"])
@example(["repository::pull"])
@example([":::"])
@example(["repository:a:pull,"])
def test_what_is_read_of_any_text_reads_back_and_widens_nothing(values):
    for scope in parse_scopes(values):
        assert parse_scopes([str(scope)]) == [scope]
        assert scope.actions
        assert any(
            scope.name in value and all(action in value for action in scope.actions)
            for value in values
        )


@pytest.mark.parametrize(
    "bad", ["repository", "a:b", "REPO:a:pull", "repository:a:PULL", ":a:pull"]
)
def test_what_cannot_be_read_grants_nothing(bad):
    assert parse_scopes([bad, "repository:b:pull"]) == [
        Scope("repository", "b", frozenset({"pull"}))
    ]


def test_a_class_is_dropped_and_a_port_belongs_to_the_name():
    assert parse_scopes(["repository(plugin):localhost:5000/a:pull,push"]) == [
        Scope("repository", "localhost:5000/a", frozenset({"pull", "push"}))
    ]


@given(st.integers(SCOPE_LIMIT - 2, SCOPE_LIMIT + 3), st.booleans())
def test_more_scopes_than_the_limit_are_refused(count, in_one):
    texts = [f"repository:a{number}:pull" for number in range(count)]
    values = [" ".join(texts)] if in_one else texts

    if count <= SCOPE_LIMIT:
        assert len(parse_scopes(values)) == count
    else:
        with pytest.raises(RequestInvalid):
            parse_scopes(values)
