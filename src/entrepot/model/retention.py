"""How long what is pushed is kept."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

from entrepot.model.errors import FieldInvalid

MOST_DAYS, MOST_TAGS, MOST_PATTERNS = 36_500, 1_000_000, 64
_PATTERN = re.compile(r"[A-Za-z0-9._*-]{1,128}")


@dataclass(frozen=True, slots=True)
class Retention:
    """One of `days` since the last push, the newest `tags`, or never to delete.

    Tags that fit a pattern of `keep` stay and do not count. `pulled_days`: nor goes what was pulled
    within so many days. `untagged_days` is for manifests that no tag points at; None: as `days`.
    """

    days: int | None = None
    tags: int | None = None
    never: bool = False
    keep: tuple[str, ...] = ()
    pulled_days: int | None = None
    untagged_days: int | None = None

    @classmethod
    def parse(cls, said: Mapping[str, object]) -> Self:
        """From names and values as somebody wrote them. Raises FieldInvalid."""
        unknown = set(said) - {field.name for field in fields(cls)}
        if unknown:
            message = f"retention knows no {min(unknown)}"
            raise FieldInvalid(message, field="retention")
        keep = said.get("keep") or ()
        if not isinstance(keep, list | tuple):
            raise FieldInvalid(_PATTERNS_MESSAGE, field="retention.keep")
        values = {name: value for name, value in said.items() if value is not None}
        return cls(**{**values, "keep": tuple(keep)}).checked()  # type: ignore[arg-type]  # checked

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` made."""
        said = json.loads(text)
        return cls(**{**said, "keep": tuple(said.get("keep", ()))})

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self))

    def checked(self) -> Self:
        """This policy. Raises FieldInvalid unless it says one thing, and not too much."""
        said = [self.days is not None, self.tags is not None, self.never is True]
        if (
            sum(said) != 1
            or not _is_number(self.days, MOST_DAYS)
            or not _is_number(self.tags, MOST_TAGS)
        ):
            message = (
                f"retention is one of days (1 to {MOST_DAYS}), tags (1 to {MOST_TAGS}) and never "
                "(true)"
            )
            raise FieldInvalid(message, field="retention")
        for name in ("pulled_days", "untagged_days"):
            if not _is_number(getattr(self, name), MOST_DAYS):
                message = f"{name} of a retention is a number from 1 to {MOST_DAYS}"
                raise FieldInvalid(message, field=f"retention.{name}")
        if len(self.keep) > MOST_PATTERNS or not all(_is_pattern(one) for one in self.keep):
            raise FieldInvalid(_PATTERNS_MESSAGE, field="retention.keep")
        return self

    def __str__(self) -> str:
        """A sentence without its full stop, such as `7 days since the last push`."""
        if self.never:
            said = "never deleted"
        elif self.tags is not None:
            said = "the newest tag" if self.tags == 1 else f"the newest {self.tags} tags"
        else:
            said = f"{_days(self.days or 0)} since the last push"
        if self.keep:
            said += f"; tags that fit {', '.join(self.keep)} stay"
        if self.pulled_days is not None:
            said += f"; what was pulled within {_days(self.pulled_days)} stays"
        if self.untagged_days is not None:
            said += f"; {_days(self.untagged_days)} without a tag"
        return said


_PATTERNS_MESSAGE = (
    f"keep is at most {MOST_PATTERNS} patterns of 1 to 128 letters, digits, dots, dashes, "
    "underscores and *"
)


def _is_number(value: object, most: int) -> bool:
    """Whether this is from 1 to `most`, or nothing. True is an int of Python's."""
    return value is None or (type(value) is int and 1 <= value <= most)


def _is_pattern(value: object) -> bool:
    return isinstance(value, str) and _PATTERN.fullmatch(value) is not None


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"
