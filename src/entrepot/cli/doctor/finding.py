"""What an examination finds: one sentence, how bad it is, and what to do about it."""

import re
from dataclasses import dataclass
from typing import Literal

from entrepot.model.errors import EntrepotError, StorageFailed

_REMEDY = re.compile(r"; (?![^()]*\))")  # not within parentheses: those hold other people's words

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """An error keeps the registry, or its clients, from working; a warning may do so one day."""

    part: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """What is examined, by its name."""

    name: str

    def ok(self, found: str) -> Finding:
        """As it should be."""
        return Finding(self.name, "ok", found)

    def warning(self, found: str, remedy: str) -> Finding:
        """Works now."""
        return Finding(self.name, "warning", found, remedy)

    def error(self, found: str, remedy: str) -> Finding:
        """Does not work."""
        return Finding(self.name, "error", found, remedy)

    def failed(self, error: EntrepotError, remedy: str = "") -> Finding:
        """What was raised. Our refusals say behind a semicolon what to do."""
        found, *said = _REMEDY.split(error.message, maxsplit=1)
        cause = error.__cause__
        if isinstance(error, StorageFailed) and isinstance(cause, OSError):
            return self.error(f"{found} ({cause.strerror})", remedy)  # that one was for clients
        if store := error.values.get("store"):
            return self.error(f"{found} ({store})", remedy)
        return self.error(found, said[0] if said else remedy)
