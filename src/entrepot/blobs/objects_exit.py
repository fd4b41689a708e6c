"""Leaving the process without obstore's threads.

They call into Python when something has ended, also when nobody waits for it any more. One that
does so while the interpreter goes away brings the process down with SIGABRT.
"""

import atexit
import sys
import threading
import time

_PATIENCE = 2.0  # seconds
_LOOK = 0.001
# Until a thread that has something to tell gets to do so, which no one can see coming.
_QUIET = 0.05


def leave_in_peace() -> None:
    """Have the end of the process wait for them, for some hundredths of a second."""
    atexit.unregister(_wait)
    atexit.register(_wait)


def _wait() -> None:
    deadline = time.monotonic() + _PATIENCE
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < deadline and now < quiet_since + _QUIET:
        time.sleep(_LOOK)
        if _are_foreign_threads_in_python():
            quiet_since = time.monotonic()


def _are_foreign_threads_in_python() -> bool:
    ours = {thread.ident for thread in threading.enumerate()}
    return any(ident not in ours for ident in sys._current_frames())  # noqa: SLF001  # the only way to see them
