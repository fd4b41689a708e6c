"""Lengths of time as a person types them: 90s, 30m, 12h, 7d."""

import re

import click

from entrepot.model.clock import DAY, HOUR, MINUTE, SECOND

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def duration(text: str) -> int:
    """The type of an option that takes a length of time; microseconds inside."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter("a duration is a number and s, m, h or d, such as 12h")
    return int(match[1]) * _UNITS[match[2]]


def seconds(length: int | None) -> int | None:
    """The same in seconds, as the management API takes it."""
    return None if length is None else length // SECOND
