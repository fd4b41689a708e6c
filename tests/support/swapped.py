"""A service that goes on with another database, or by another clock."""

from typing import Any

_PARTS = ("_staged", "_catching_up")  # of Uploads


def swap(service: Any, **means: object) -> None:
    """Have it, and what it is made of, use `database` or `clock` from now on."""
    for part in (service, *(getattr(service, name) for name in _PARTS if hasattr(service, name))):
        for name, value in means.items():
            if hasattr(part, f"_{name}"):
                setattr(part, f"_{name}", value)
