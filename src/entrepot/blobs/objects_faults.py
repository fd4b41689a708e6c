"""The object store's errors become ours here.

Clients see our sentence alone. What the store said goes to the log with the error's values.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from obstore.exceptions import BaseError

from entrepot.model.errors import EntrepotError, ObjectMissing, StorageFailed, Unavailable

REFUSALS = (BaseError, OSError, NotImplementedError)
"""What obstore raises. A missing object is a FileNotFoundError."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,80})</Code>|\(code: (\w{1,80})\)")
_MESSAGE = re.compile(r"<Message>([^<\n]{1,300})")
# Only with these a 404 is about an object: others are about a bucket, or of what stands before it.
_NO_OBJECT = frozenset({"NoSuchKey", "BlobNotFound"})
_BUSY = frozenset({"InternalError", "SlowDown"})
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_LONGEST = 300
_FIRST_PAUSE = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the store said, as far as it said anything: `status` 0 is a failed exchange."""

    status: int
    code: str
    words: str

    @property
    def is_missing(self) -> bool:
        """Whether the store itself says that an object is not there; to HEAD it says nothing."""
        return self.status == HTTPStatus.NOT_FOUND and self.code in _NO_OBJECT

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well succeed later."""
        if self.status == 0:
            return self.code in _BUSY or not self.code
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status in _LATER


def read_refusal(error: BaseException) -> Refusal:
    """What is in obstore's text, which holds the answer's body."""
    text = str(error).partition("\n\nDebug source:")[0]
    status, code, message = _STATUS.search(text), _CODE.search(text), _MESSAGE.search(text)
    number = int(status[1]) if status else 0
    if isinstance(error, FileNotFoundError):
        number = HTTPStatus.NOT_FOUND
    name = (code[1] or code[2]) if code else ""
    words = f"{number} {name}: {message[1] if message else ''}" if name else text
    return Refusal(number, name, words[:_LONGEST])


@contextmanager
def store_faults(doing: str, key: str | None = None) -> Iterator[None]:
    """Raise ObjectMissing, StorageFailed or Unavailable for what the store refuses."""
    try:
        yield
    except REFUSALS as error:
        # Their text is pages of what obstore knows; the store's own words are in the values.
        raise meant_by(error, doing, key) from None


def meant_by(error: BaseException, doing: str, key: str | None = None) -> EntrepotError:
    """Our error for one of obstore's."""
    refusal = read_refusal(error)
    if refusal.is_missing:
        return ObjectMissing("a stored object is missing", key=key, doing=doing)
    if refusal.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return ObjectMissing("a stored object is too short", key=key, doing=doing)
    if refusal.is_passing:
        message = "the registry's object store does not answer; try again"
        return Unavailable(message, doing=doing, key=key, store=refusal.words)
    message = "the registry's object store refused; its operator has been told"
    return StorageFailed(message, doing=doing, key=key, store=refusal.words)


def pauses(attempts: int) -> Iterator[float]:
    """Seconds to wait after each of some attempts, twice as long each time, by chance."""
    for attempt in range(attempts):
        yield _FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1)  # noqa: S311  # spreads load


def wrong_size(key: str, size: int, found: int) -> ObjectMissing:
    """An object that is there and not what was put there."""
    message = "a stored object has the wrong size"
    return ObjectMissing(message, key=key, size=size, found=found)
