"""A sync of a pull-through repository: what it was to do, how far it came, what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

NAMED_FAILURES = 10  # in the sentence about a run
KEPT_FAILURES = 100  # with the run


class Cause(StrEnum):
    """Why a run began."""

    SCHEDULE = "schedule"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """A tag that could not be synced: why in a word or status, and in a sentence."""

    tag: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """How far a run came, in tags; `fetched` counts the blobs that it brought."""

    wanted: int = 0
    done: int = 0
    changed: int = 0
    removed: int = 0
    failed: int = 0
    fetched: int = 0


@dataclass(frozen=True, slots=True)
class SyncRun:
    """One run. Times are UTC microseconds; `ended_at` is None while it goes on.

    `error` says what failed, None where every wanted tag succeeded. `leader` is the process that
    does it, empty while none does, and `beat` counts its signs of life.
    """

    id: int
    repository_id: int
    cause: Cause
    started_at: int
    ended_at: int | None
    counts: SyncCounts
    error: str | None
    failures: tuple[SyncFailure, ...]
    leader: str = ""
    beat: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A repository whose turn to be synced it is, by `run` where somebody asked for it.

    `running` counts the runs of its organisation that go on: who has fewer goes first.
    """

    repository_id: int
    organisation_id: int
    running: int
    run: SyncRun | None = None


def describe(failures: Sequence[SyncFailure], failed: int, wanted: int) -> str:
    """`3 of 120 tags failed: v1 (404), v2 (429), v3 (404)`."""
    named = ", ".join(f"{failure.tag} ({failure.reason})" for failure in failures[:NAMED_FAILURES])
    rest = failed - min(failed, NAMED_FAILURES, len(failures))
    more = f" and {rest} more" if rest else ""
    return f"{failed} of {wanted} tags failed: {named}{more}"
