"""Which tags of an upstream a sync takes: all, those that fit a pattern, or the newest."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from entrepot.model.access import is_match
from entrepot.model.errors import FieldInvalid, TagInvalid
from entrepot.model.names import Tag

ALL = "all"
_NEWEST = re.compile(r"newest:([1-9][0-9]{0,5})")
_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,128}")
_PARTS = re.compile(r"[0-9]+|[a-z]+")
# A word that makes a version an earlier one: 1.2.0-rc1 comes before 1.2.0.
_BEFORE = frozenset(
    {
        *("a", "alpha", "b", "beta", "c", "rc", "m", "pre", "preview", "next", "unstable"),
        *("dev", "develop", "snapshot", "nightly", "canary", "edge"),
    }
)
# Where registries without a list of referrers keep signatures: no version of anything.
_FALLBACK = re.compile(r"sha(256|512)-[0-9a-f]{64,}.*")

# A part of a name: its kind, its number, its word. The kinds in the order of age:
_LEADING, _WORD, _NUMBER = range(3)
_END = (_LEADING, 1, "")  # behind words that lead to a release, before any other part
Age = tuple[int, tuple[tuple[int, int, str], ...], str]


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Some of the tags of an upstream. `newest` is how many, None for all that fit `pattern`."""

    pattern: str = "*"
    newest: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`all`, `newest:N` or a pattern such as `v1.*`. Raises FieldInvalid."""
        if text == ALL:
            return cls()
        if (match := _NEWEST.fullmatch(text)) is not None:
            return cls(newest=int(match[1]))
        if _PATTERN.fullmatch(text) is None:
            message = (
                "which tags to sync is `all`, `newest:N`, or a pattern of letters, digits, dots,"
                " dashes, underscores and * such as v1.*"
            )
            raise FieldInvalid(message, field="sync")
        return cls(pattern=text)

    def choose(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are wanted, the newest first; what is no tag is left out."""
        fitting = [name for name in names if _is_tag(name) and is_match(self.pattern, name)]
        fitting.sort(key=age, reverse=True)
        if self.newest is None:
            return fitting
        return [name for name in fitting if _FALLBACK.fullmatch(name) is None][: self.newest]


def age(name: str) -> Age:
    """What to sort tags by, the oldest first, for upstreams tell no times.

    By the numbers in a name, so that 1.10 is newer than 1.9; a release is newer than what led to it
    (1.2.0-rc1); what has no number is older than what has; and `latest` is the newest of all.
    """
    if name == "latest":
        return (2, (), name)
    parts = tuple(_part(text) for text in _PARTS.findall(name.lower().removeprefix("v")))
    has_number = any(kind == _NUMBER for kind, _, _ in parts)
    return (int(has_number), (*parts, _END), name)


def _part(text: str) -> tuple[int, int, str]:
    if text.isdigit():
        return (_NUMBER, int(text), "")
    return (_LEADING if text in _BEFORE else _WORD, 0, text)


def _is_tag(name: str) -> bool:
    try:
        Tag.parse(name)
    except TagInvalid:
        return False
    return True
