"""The memory of servers while something goes on, as the kernel counts it."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

_EVERY_SECONDS = 0.25


@dataclass(slots=True)
class Watched:
    """What each server had at first and at most, in bytes; what processes share counts once."""

    idle: list[int]
    peak: list[int] = field(default_factory=list)

    @property
    def grown(self) -> int:
        """By how much the one grew that grew most."""
        return max(peak - idle for idle, peak in zip(self.idle, self.peak, strict=True))

    def __str__(self) -> str:
        """Of each in MiB, as it grew."""
        each = zip(self.idle, self.peak, strict=True)
        return ", ".join(f"{idle >> 20} -> {peak >> 20} MiB" for idle, peak in each)


@contextmanager
def watching(pids: Sequence[int]) -> Iterator[Watched]:
    """Look at servers, with all their processes, until the block ends."""
    idle = [_used(pid) for pid in pids]
    watched = Watched(idle, list(idle))
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_EVERY_SECONDS):
            watched.peak[:] = map(max, watched.peak, map(_used, pids))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watched
    finally:
        is_over.set()
        thread.join()


def _used(pid: int) -> int:
    """The proportional set size of a process and all that it has started."""
    used = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used += process.memory_full_info().pss
    return used
