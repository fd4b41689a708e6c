import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.upstream.challenge import AuthChallenge, find, parse_challenges

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", min_size=1)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126))
CHALLENGES = st.builds(
    AuthChallenge, WORDS.map(str.lower), st.dictionaries(WORDS.map(str.lower), VALUES, max_size=4)
)


def written(challenge: AuthChallenge, *, quoted: bool = True) -> str:
    def value(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    parameters = ", ".join(f"{name}={value(text)}" for name, text in challenge.parameters.items())
    return f"{challenge.scheme} {parameters}".strip()


@given(st.lists(CHALLENGES, max_size=5))
def test_what_was_written_on_one_line_is_read_back(challenges):
    # A scheme alone, before others, reads as one; a parameter after it belongs to it.
    line = ", ".join(written(each) for each in challenges)

    assert parse_challenges([line]) == challenges


@given(st.lists(CHALLENGES, max_size=5))
def test_what_was_written_on_many_lines_is_read_back(challenges):
    assert parse_challenges([written(each) for each in challenges]) == challenges


@given(st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=255)), max_size=4))
def test_nothing_that_a_server_sends_breaks_it(lines):
    for each in parse_challenges(lines):
        assert each.scheme == each.scheme.lower()


@given(st.text('Basic realm="x",\\= ', max_size=200))
def test_what_looks_like_a_challenge_does_not_break_it_either(line):
    assert len(parse_challenges([line] * 3)) <= 16


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/redis:pull"',
            [
                AuthChallenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/redis:pull",
                    },
                )
            ],
        ),
        ('BASIC Realm = "a, b=c"', [AuthChallenge("basic", {"realm": "a, b=c"})]),
        ("Basic", [AuthChallenge("basic")]),
        (
            "Negotiate, Basic realm=x",
            [AuthChallenge("negotiate"), AuthChallenge("basic", {"realm": "x"})],
        ),
        (
            'Negotiate YWJjZA==, Basic realm="x"',
            [AuthChallenge("negotiate"), AuthChallenge("basic", {"realm": "x"})],
        ),
        ('Bearer realm="a", realm="b"', [AuthChallenge("bearer", {"realm": "a"})]),
        (
            'Bearer realm="a",, error="x", Basic realm="b"',
            [
                AuthChallenge("bearer", {"realm": "a", "error": "x"}),
                AuthChallenge("basic", {"realm": "b"}),
            ],
        ),
        ('Bearer realm="unfinished', [AuthChallenge("bearer")]),
        ('realm="nobody\'s"', []),
        ("", []),
        (" ,, , ", []),
    ],
)
def test_forms_that_are_sent(line, found):
    assert parse_challenges([line]) == found


def test_a_scheme_in_a_value_is_no_challenge():
    found = parse_challenges(['Basic realm="x, Bearer realm=\\"https://evil.example/\\""'])

    assert find(found, "bearer") is None


def test_a_line_of_any_length_takes_no_time():
    assert parse_challenges(["Bearer " + "a" * 100_000]) == []
    assert len(parse_challenges(["Basic, " * 2_000])) == 16
    parse_challenges(['Bearer realm="' + "\\" * 16_000])


def test_what_follows_many_challenges_is_not_read():
    lines = iter(["Basic, " * 2_000] * 3)

    assert len(parse_challenges(lines)) == 16
    assert next(lines)
