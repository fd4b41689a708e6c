"""What a played server was asked, and how far its answers got."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Entry:
    """One request. `sent` counts body bytes; `finished` is whether all of the answer went out."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    form: Mapping[str, str]
    kind: str = ""  # ping, token, manifest, blob, tags, referrers, other
    name: str = ""
    reference: str = ""
    status: int = 0
    sent: int = 0
    finished: bool = False
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def authorization(self) -> str:
        """What it presented itself with; empty if with nothing."""
        return self.headers.get("authorization", "")


class AccessLog:
    """The requests that a server got, in order; read by tests while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Forget what was asked until now."""
        with self._lock:
            self._entries.clear()

    @property
    def entries(self) -> list[Entry]:
        """All of them until now."""
        with self._lock:
            return list(self._entries)

    def of(self, **facts: object) -> list[Entry]:
        """Those of which all this is so: `log.of(kind="blob", method="GET", reference=digest)`."""
        return [
            entry
            for entry in self.entries
            if all(getattr(entry, key) == value for key, value in facts.items())
        ]

    def count(self, **facts: object) -> int:
        """How many there are of them."""
        return len(self.of(**facts))

    def sent(self, **facts: object) -> int:
        """How many body bytes went out in answer to them."""
        return sum(entry.sent for entry in self.of(**facts))

    def told(self, secret: str) -> bool:
        """Whether a secret reached this server in a header, a query or a form."""
        return any(
            secret in text
            for entry in self.entries
            for text in (
                *entry.headers.values(),
                *entry.form.values(),
                *(value for values in entry.query.values() for value in values),
            )
        )
