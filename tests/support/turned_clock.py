"""`python turned_clock.py ENTREPOT serve …`: a server whose clock a test turns while it runs.

The file that TURNED_CLOCK names holds the seconds to add; another one takes its place to turn the
clock, for who reads a file that is being written finds it empty. Workers are spawned: each reads
this file first, and so has the same clock.
"""

import os
import sys
import time
from pathlib import Path

from entrepot.cli.main import main
from entrepot.model.clock import SECOND, SystemClock

_FILE = Path(os.environ["TURNED_CLOCK"])


def _now(self: SystemClock) -> int:
    del self
    return time.time_ns() // 1_000 + int(_FILE.read_text()) * SECOND


SystemClock.now = _now  # type: ignore[method-assign]  # for this process alone

if __name__ == "__main__":
    main(sys.argv[2:], prog_name="entrepot")
