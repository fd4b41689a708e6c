"""The kinds of values that settings have, and what all sections share."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_SIZE = re.compile(r"(\d+)\s*(|B|[KMGT]i?B)")

Network = IPv4Network | IPv6Network


def read_size(value: object) -> object:
    """A number of bytes from text such as 512MB; anything else as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if (match := _SIZE.fullmatch(value.strip())) is None:
        raise ValueError("is not a size such as 1048576, 512MB or 1GiB")
    return int(match[1]) * _UNITS[match[2]]


def _read_networks(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("is not a list of networks such as 10.0.0.0/8,::1")  # noqa: TRY004  # pydantic's way
    return tuple(ip_network(part.strip()) for part in parts if part.strip())


def _read_words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def read_path(value: object) -> object:
    """A path from text, absolute; anything else as it is."""
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


Size = Annotated[int, BeforeValidator(read_size), Field(ge=0)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_read_networks)]
Words = Annotated[tuple[str, ...], BeforeValidator(_read_words)]
FilePath = Annotated[Path, BeforeValidator(read_path)]


class Section(BaseModel):
    """A part of the tree: it does not change, and takes no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
