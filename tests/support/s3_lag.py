"""A store that agrees with itself only after a while, each key in its own time.

Time is counted in looks, so that a test need not wait: what is new stays unseen for some, what is
deleted is still there for some, and lists are late in both.
"""

import random
import re
from dataclasses import dataclass
from xml.sax.saxutils import unescape

from tests.support import s3_faults
from tests.support.s3_faults import Fault
from tests.support.s3_wire import Asked, Head

_LOOKS = {"GetObject", "HeadObject"}
_LISTS = {"ListObjects", "ListObjectsV2"}
_WRITES = {"PutObject", "CompleteMultipartUpload"}
_CONTENTS = re.compile(rb"<Contents>.*?<Key>(.*?)</Key>.*?</Contents>", re.DOTALL)


@dataclass(slots=True)
class _Postponed:
    """A deletion that was answered and is yet to come: after so many looks at its key."""

    key: str
    looks: int
    request: bytes


class Lag:
    """At most so many looks, drawn for each key: the same for the same `seed`."""

    def __init__(self, most: int, *, seed: int = 0) -> None:
        self._most = most
        self._random = random.Random(seed)
        self._unseen: dict[str, int] = {}
        self._postponed: list[_Postponed] = []

    def judge(self, asked: Asked, request: Head) -> Fault | None:
        """What happens to a request that looks or deletes."""
        if asked.operation in _LOOKS and self._is_unseen(asked.key):
            return s3_faults.refused(404, "NoSuchKey")
        if asked.operation in _LISTS:
            return s3_faults.rewritten(self._list)
        if asked.operation == "DeleteObject" and (looks := self._draw()):
            self._postponed.append(_Postponed(asked.key, looks, request.encode()))
            return s3_faults.deleted()
        return None

    def done(self, asked: Asked) -> None:
        """The server has done what was asked."""
        if asked.operation in _WRITES:
            self._unseen[asked.key] = self._draw()

    def due(self) -> list[bytes]:
        """The deletions whose time has come; they are handed over once."""
        due = [one.request for one in self._postponed if one.looks <= 0]
        self._postponed = [one for one in self._postponed if one.looks > 0]
        return due

    def settle(self) -> None:
        """With the next request the store knows all that was written and deleted until now."""
        self._unseen.clear()
        for one in self._postponed:
            one.looks = 0

    def _draw(self) -> int:
        return self._random.randint(0, self._most)

    def _is_unseen(self, key: str) -> bool:
        for one in self._postponed:
            one.looks -= one.key == key
        looks = self._unseen.get(key, 0)
        self._unseen[key] = looks - 1
        return looks > 0

    def _list(self, body: bytes) -> bytes:
        def kept(found: re.Match[bytes]) -> bytes:
            return b"" if self._is_unseen(unescape(found[1].decode())) else found[0]

        return _CONTENTS.sub(kept, body)
