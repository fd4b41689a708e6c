"""What an answer tells besides its content: when to come back, and how much is left."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from entrepot.model.clock import SECOND
from entrepot.model.upstreams import Observation

LONGEST_WAIT = 86_400  # seconds; an upstream that says more is asked again after a day
_MOST = 1 << 53
# `100;w=21600` (draft-ietf-httpapi-ratelimit-headers-02, as Docker Hub sends it).
_LIMIT = re.compile(r"\s*(\d{1,16})(?:\.\d+)?\s*(?:[,;]|$)")
_WINDOW = re.compile(r";\s*w\s*=\s*\"?(\d{1,16})")
_SECONDS = re.compile(r"\s*(\d{1,16})(?:\.\d+)?\s*")


def observe(status: int, headers: Mapping[str, str], now: int) -> Observation:
    """Read the headers of one answer; `now` in microseconds."""
    limit = headers.get("RateLimit-Limit") or headers.get("X-RateLimit-Limit") or ""
    remaining = headers.get("RateLimit-Remaining") or headers.get("X-RateLimit-Remaining") or ""
    window = _number(_WINDOW.search(remaining) or _WINDOW.search(limit))
    return Observation(
        status=status,
        retry_after=retry_after(headers.get("Retry-After"), now),
        limit=_number(_LIMIT.match(limit)),
        limit_remaining=_number(_LIMIT.match(remaining)),
        limit_window_seconds=window,
    )


def retry_after(text: str | None, now: int) -> int | None:
    """Seconds from now, of a number or a date (RFC 9110, 10.2.3); None where neither is there."""
    if text is None:
        return None
    if (seconds := _SECONDS.fullmatch(text)) is not None:
        return min(int(seconds[1]), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)  # an old form of date, which is UTC as well
    try:
        wait = (date - datetime.fromtimestamp(now / SECOND, UTC)).total_seconds()
    except OverflowError:
        return None
    return max(0, min(round(wait), LONGEST_WAIT))


def _number(match: "re.Match[str] | None") -> int | None:
    return min(int(match[1]), _MOST) if match else None
