"""A clock that a test turns."""

from entrepot.model.clock import SystemClock


class FakeClock:
    """Starts at the machine's time; each look takes a microsecond, all else is `advance`."""

    def __init__(self) -> None:
        self.time = SystemClock().now()

    def now(self) -> int:
        self.time += 1
        return self.time

    def advance(self, microseconds: int) -> None:
        self.time += microseconds
