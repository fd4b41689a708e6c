"""Numbers of bytes as people write them."""

import re

_UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_SIZE = re.compile(r"(\d+)\s*(|B|[KMGT]i?B)")


def read_size(value: object) -> object:
    """A number of bytes from text such as 512MB; anything else as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if (match := _SIZE.fullmatch(value.strip())) is None:
        raise ValueError("is not a size such as 1048576, 512MB or 1GiB")
    return int(match[1]) * _UNITS[match[2]]
