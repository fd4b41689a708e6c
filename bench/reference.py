"""Hash, write and fdatasync a file's bytes in one process: `python -m bench.reference FROM TO`.

The bytes are mapped, not read, so that the reference pays for no copy but the one of write(2): it
has an easier task than any server. Prints MB/s, measured from the first byte to the last sync.
"""

import hashlib
import mmap
import os
import sys
import time
from pathlib import Path

_PIECE = 1 << 20


def hash_and_write(source: str, target: str) -> float:
    """Return the MB/s of doing it in turn, piece by piece, with one sync at the end."""
    with (
        Path(source).open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        content = memoryview(mapped)
        size = len(content)
        output = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        started = time.perf_counter()
        digest = hashlib.sha256()
        for start in range(0, size, _PIECE):
            piece = content[start : start + _PIECE]
            digest.update(piece)
            os.write(output, piece)
            piece.release()
        os.fdatasync(output)
        seconds = time.perf_counter() - started
        os.close(output)
        content.release()
    return size / 1e6 / seconds


if __name__ == "__main__":
    print(hash_and_write(*sys.argv[1:]))
