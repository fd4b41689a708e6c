"""Background work that makes way: the busier its process is otherwise, the less it does at once.

Whoever pulls meanwhile shares two things with it: the processor, and the locks of the database.
Both are held for the length of one step. But what is never idle has to be cleaned up as well: the
later the work is, the shorter the rests.
"""

import asyncio
import time

_MOST = 25.0  # times as long as a step took is the rest after it, in a process that is busy
_LEAST_SECONDS = 0.002
_PATIENCE = 60.0  # seconds late without any rest
_IDLE = 0.25  # of a processor
_FADING = 0.8


class Rests:
    """The rests between steps. What a process does besides is seen while it rests."""

    def __init__(self) -> None:
        self._load = 1.0  # of a processor; what is not known yet is taken for busy
        self._patience = 1.0

    def size(self, most: int) -> int:
        """How many things one step takes on, of at most so many."""
        return most if self._load * self._patience < _IDLE else max(1, most // 10)

    async def after(self, seconds: float) -> None:
        """Rest after a step that took so long."""
        used, started = time.process_time(), time.perf_counter()
        await asyncio.sleep(self.length(seconds))
        self.saw((time.process_time() - used) / (time.perf_counter() - started))

    def length(self, seconds: float) -> float:
        """How long the rest after a step is that took so long, in seconds."""
        return max(_LEAST_SECONDS, seconds * _MOST * self._load * self._patience)

    def saw(self, load: float) -> None:
        """So much of a processor did the process use while this rested."""
        # A moment without requests is no idle process.
        self._load = max(min(1.0, load), _FADING * self._load)

    def late(self, seconds: float) -> None:
        """What is being done was due so long ago."""
        self._patience = max(0.0, 1.0 - seconds / _PATIENCE)
