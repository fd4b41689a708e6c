"""What can be undone: what a tag was before, and what was deleted as a whole. Times in UTC µs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TagVersion:
    """What a tag was for a while; it is that still where `ended_at` is None.

    `ended_by` is push, delete, manifest, retention, sync, restore or repository, `ended_who` whose
    credential did it. Not `is_held`: the manifest is gone. `waits_since`: it is deleted, or lost
    its last tag, and may go once it has waited.
    """

    version: int
    digest: str
    started_at: int
    ended_at: int | None
    ended_by: str | None
    ended_who: str | None
    was_pushed: bool
    is_held: bool
    waits_since: int | None


@dataclass(frozen=True, slots=True)
class RestoredTag:
    """A tag that was restored; `before` is what it was until then."""

    name: str
    digest: str
    version: int
    before: str | None


@dataclass(frozen=True, slots=True)
class RestoredTags:
    """Tags that came back. `left` did not: they are something else by now, or it is gone."""

    back: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deleted:
    """A repository or project that was deleted; `name` is a repository's path."""

    kind: str
    id: int
    public_id: str
    name: str
    deleted_at: int
