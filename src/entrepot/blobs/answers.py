"""How a blob's bytes can be had."""

from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class File:
    """A file of this machine that holds exactly `size` bytes.

    `stamp` changes when the file does, by whoever's hand.
    """

    path: Path
    size: int
    stamp: int = 0


@dataclass(frozen=True, slots=True)
class Announced:
    """A blob that nobody wants the bytes of: how long it is, if that is known."""

    size: int | None


class Arriving(Protocol):
    """A blob that is still being fetched, from one reader's point of view.

    `size` is None while nobody has said how long it will be. Its last byte is given out only when
    the digest of all of them was seen to be right.
    """

    @property
    def size(self) -> int | None:
        """How long it will be."""

    def piece(self, start: int, most: int) -> Awaitable[bytes]:
        """1 to `most` bytes from `start` on, once they are there; nothing at the end.

        Raises EntrepotError when they never will be: the answer must break off then.
        """

    def close(self) -> None:
        """The reader wants no more; to be called once."""
