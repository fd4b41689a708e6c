"""What a part calls to have a value counted under the name of an operation."""

from collections.abc import Callable

Observe = Callable[[str, float], None]


def ignore(_operation: str, _value: float) -> None:
    """Count nothing."""
