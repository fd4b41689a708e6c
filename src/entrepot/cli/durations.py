"""Lengths of time as a person types them: 90s, 30m, 12h, 7d."""

import re
from collections.abc import Callable

import click

from entrepot.model.clock import DAY, HOUR, MINUTE, SECOND

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def duration(text: str) -> int:
    """The type of an option that takes a length of time; microseconds inside."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter("a duration is a number and s, m, h or d, such as 12h")
    return int(match[1]) * _UNITS[match[2]]


def lifetime(shortest: int = MINUTE, longest: int = 3_660 * DAY) -> Callable[[str], int]:
    """The type of an option that says how long something lives: tokens, where it is not said."""

    def checked(text: str) -> int:
        length = duration(text)
        if not shortest <= length <= longest:
            raise click.BadParameter(f"a life from {_typed(shortest)} to {_typed(longest)} will do")
        return length

    checked.__name__ = duration.__name__  # which is what `--help` says it takes
    return checked


def seconds(length: int | None) -> int | None:
    """The same in seconds, as the management API takes it."""
    return None if length is None else length // SECOND


def _typed(length: int) -> str:
    return next(
        f"{length // size}{unit}" for unit, size in reversed(_UNITS.items()) if length % size == 0
    )
