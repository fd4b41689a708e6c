"""What `WWW-Authenticate` says (RFC 9110, 11.6.1), read from all of its lines."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"({_WORD})(?:[ \t]+|(?=,)|$)")
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))[ \t]*(?=,|$)')
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
_BLANK = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)")
_LONGEST = 16 << 10
_MOST = 16


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """One scheme, in lower case, and its parameters, whose names are in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(lines: Iterable[str]) -> list[AuthChallenge]:
    """Every challenge of every line; what cannot be read ends its line."""
    found: list[AuthChallenge] = []
    for line in lines:
        if len(found) >= _MOST:
            break  # thousands would take long to read
        if len(line) <= _LONGEST:
            found.extend(_challenges(line))
    return found[:_MOST]


def _challenges(line: str) -> list[AuthChallenge]:
    found: list[AuthChallenge] = []
    at = _end(_BLANK, line, 0)
    while at < len(line) and len(found) <= _MOST:
        # A scheme is followed by a space, a comma or the end, never by "=".
        parameter = _PARAMETER.match(line, at)
        if parameter is not None and found:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            # Said twice: the first counts, as with the first of two challenges.
            found[-1].parameters.setdefault(name.lower(), value)
            at = parameter.end()
        elif (scheme := _SCHEME.match(line, at)) is not None:
            found.append(AuthChallenge(scheme[1].lower()))
            at = scheme.end()
            if _PARAMETER.match(line, at) is None and (blob := _TOKEN68.match(line, at)):
                at = blob.end()
        else:
            break
        at = _end(_BLANK, line, at)
    return found


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def find(challenges: Iterable[AuthChallenge], scheme: str) -> AuthChallenge | None:
    """The first challenge of a scheme."""
    return next((each for each in challenges if each.scheme == scheme), None)
