"""Byte ranges of requests (RFC 9110, section 14) and of chunks (distribution-spec)."""

import re
from dataclasses import dataclass

from entrepot.model.errors import RangeInvalid

_RANGE = re.compile(r"(\d{1,19})-(\d{0,19})|-(\d{1,19})", re.ASCII)
# The spec's Content-Range has no unit; "bytes " is tolerated because some clients send it.
_CHUNK = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/(?:\d{1,19}|\*))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `stop`, the latter exclusive; never empty."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range in an answer."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str, size: int, limit: int) -> list[ByteRange] | None:
    """The ranges of `size` bytes that a Range header asks for; None means: answer the whole.

    A header that is malformed, of another unit, has more than `limit` ranges, or asks for more
    bytes than there are (overlap, CVE-2025-62727) is ignored, as RFC 9110 allows.
    Raises RangeInvalid when no range lies inside.
    """
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    parts = specs.split(",", limit)
    if len(parts) > limit:
        return None
    ranges: list[ByteRange] = []
    for part in parts:
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return None
        first, last, suffix = match.groups()
        if suffix is not None:
            start, stop = max(0, size - int(suffix)), size
        else:
            start, stop = int(first), min(size, int(last) + 1) if last else size
            if last and int(last) < start:
                return None
        if start < stop:
            ranges.append(ByteRange(start, stop))
    if not ranges:
        message = f"the range lies outside of the content, which has {size} bytes"
        raise RangeInvalid(message, size=size)
    if sum(part.length for part in ranges) > size:
        return None
    return ranges


def parse_chunk(header: str) -> ByteRange:
    """Read the Content-Range of an upload's chunk, such as `0-1023`. Raises RangeInvalid."""
    match = _CHUNK.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        message = "Content-Range of a chunk is FIRST-LAST, both counted from 0 and inclusive"
        raise RangeInvalid(message, chunk=header[:80])
    return ByteRange(int(match[1]), int(match[2]) + 1)
