"""The lock that every write and checkpoint of every process holds on an SQLite database."""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.model.errors import StorageFailed, Unavailable

_FILE_NAME = "write.lock"
_POLL_SECONDS = 0.001


class WriteLock:
    """An exclusive `flock` beside the database.

    SQLite 3.7.0 to 3.51.2 can lose committed transactions when one connection writes while another
    checkpoints, so the two must never meet, whichever process they are in.
    """

    def __init__(self, database: Path, *, seconds: float = 30.0) -> None:
        self._path = database.parent / _FILE_NAME
        self._seconds = seconds

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock. Raises Unavailable after `seconds`, StorageFailed without a folder."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFailed("the write lock cannot be opened") from error
        try:
            _wait_for(descriptor, time.monotonic() + self._seconds)
            yield
        finally:
            os.close(descriptor)


def _wait_for(descriptor: int, deadline: float) -> None:
    """Poll, because a blocking `flock` has no time limit outside the main thread."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise Unavailable("another process holds the write lock") from error
            time.sleep(_POLL_SECONDS * random.random())  # noqa: S311 - no secret
        else:
            return
