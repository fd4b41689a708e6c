"""How a blob's bytes can be had."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class File:
    """A file of this machine that holds exactly `size` bytes."""

    path: Path
    size: int
