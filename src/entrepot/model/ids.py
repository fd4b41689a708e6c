"""Identifiers we make: row ids and the public ids of organisations and projects."""

import secrets
import threading
import time

PUBLIC_ID_ALPHABET = "0123456789bcdfghjklmnpqrstvwxz"
PUBLIC_ID_LENGTH = 10

_EPOCH_MS = 1_704_067_200_000  # 2024-01-01: 41 bits of milliseconds last until 2093
_RANDOM_BITS = 22
_LAST = (1 << 63) - 1
_MS, _SLACK = 1_000, 10 * 60 * 1_000_000  # in µs
_lock = threading.Lock()
_last = 0


def new_id() -> int:
    """A 63-bit row id that grows with time.

    Rows that are written together lie together in an index, without a sequence that two databases
    would spell differently. Within a process ids only grow; between processes 22 random bits per
    millisecond keep them apart, and the primary key has the last word.
    """
    global _last  # noqa: PLW0603  # the one counter a process needs
    fresh = (time.time_ns() // 1_000_000 - _EPOCH_MS) << _RANDOM_BITS | secrets.randbits(
        _RANDOM_BITS
    )
    with _lock:
        _last = max(_last + 1, fresh)
        return _last


def id_range(since: int, until: int) -> tuple[int, int]:
    """What ids of rows made from `since` until before `until`, in UTC µs, are from and below.

    It reaches ten minutes further to both sides: clocks differ, and these are not the rows' times.
    """
    first, end = (since - _SLACK) // _MS - _EPOCH_MS, (until + _SLACK) // _MS + 1 - _EPOCH_MS
    return min(max(first, 0) << _RANDOM_BITS, _LAST), min(max(end, 0) << _RANDOM_BITS, _LAST)


def new_public_id() -> str:
    """Ten characters of `0-9bcdfghjklmnpqrstvwxz`, about 49 random bits."""
    return "".join(secrets.choice(PUBLIC_ID_ALPHABET) for _ in range(PUBLIC_ID_LENGTH))


def to_text(id: int) -> str:  # noqa: A002  # what it is
    """A row's id as the management API writes it: 13 characters of the same alphabet."""
    letters = []
    for _ in range(_TEXT_LENGTH):
        id, letter = divmod(id, len(PUBLIC_ID_ALPHABET))  # noqa: A001
        letters.append(PUBLIC_ID_ALPHABET[letter])
    return "".join(reversed(letters))


def from_text(text: str) -> int | None:
    """The row's id that `to_text` wrote; None for any other text."""
    if len(text) != _TEXT_LENGTH or any(letter not in PUBLIC_ID_ALPHABET for letter in text):
        return None
    number = 0
    for letter in text:
        number = number * len(PUBLIC_ID_ALPHABET) + PUBLIC_ID_ALPHABET.index(letter)
    return number if number < 1 << 63 else None


_TEXT_LENGTH = 13  # 30^13 is more than 2^63
