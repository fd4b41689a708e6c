"""The memory of a server, all its processes together, sampled while something runs.

What is counted is PSS, the proportional set size: a page that several processes share counts once
in the sum. Pages of mapped files count too, which RSS minus shared file pages would leave out.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a server."""

    seconds: float
    """Since the curve began."""
    pss: int
    """Bytes, of which `anonymous` are not backed by any file."""
    anonymous: int


@dataclass(slots=True)
class Curve:
    """Samples in the order of time."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """Return the largest sum of PSS seen."""
        return max(sample.pss for sample in self.samples)


def look(pid: int) -> tuple[int, int]:
    """Return (PSS, its anonymous part) in bytes, summed over a process and its descendants."""
    total = anonymous = 0
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(pid)
        for process in [server, *server.children(recursive=True)]:
            with suppress(OSError):
                fields = _rollup(process.pid)
                total += fields["Pss"]
                anonymous += fields.get("Pss_Anon", 0)
    return total, anonymous


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


@contextmanager
def watching(pid: int, every: float) -> Iterator[Curve]:
    """Sample a server from a thread until the block ends."""
    curve = Curve()
    over = threading.Event()
    started = time.monotonic()

    def sample() -> None:
        while True:
            curve.samples.append(Sample(time.monotonic() - started, *look(pid)))
            if over.wait(every):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield curve
    finally:
        over.set()
        thread.join()
