"""Time as the registry counts it: integer UTC microseconds, from a clock that tests can turn."""

import time
from datetime import UTC, datetime
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """UTC microseconds since 1970."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """UTC microseconds since 1970."""
        return time.time_ns() // 1_000


def to_rfc3339(moment: int) -> str:
    """`2026-01-31T23:59:59Z`, as the token service and the logs write it."""
    return datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
