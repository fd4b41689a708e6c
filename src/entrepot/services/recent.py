"""A small memory of answers that may be a few seconds old."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from entrepot.model.clock import SECOND, Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# Identity and address may be this old on a read. Revocation within 10 s rests
# on it. Writes ask the database again.
LIFETIME = 5 * SECOND
_SIZE = 10_000


class Recent(Generic[K, V]):
    """Positive answers by key, for at most LIFETIME and 10,000 keys; the oldest go first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[K, tuple[int, V]] = {}

    def get(self, key: K) -> V | None:
        """What was put, if that is not too long ago."""
        entry = self._entries.get(key)
        # The upper bound is for a clock that was set back: it must not lengthen a memory.
        if entry is None or not 0 < entry[0] - self._clock.now() <= LIFETIME:
            return None
        return entry[1]

    def put(self, key: K, value: V) -> None:
        """Remember for a while."""
        self._entries.pop(key, None)
        while len(self._entries) >= _SIZE:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock.now() + LIFETIME, value)
