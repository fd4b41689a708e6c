"""How long what is pushed is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """One of `days` since the last push, the newest `tags`, or never to delete.

    Tags that fit a pattern of `keep` stay and do not count. `pulled_days`: nor goes what was pulled
    within so many days. `untagged_days` is for manifests that no tag points at; None: as `days`.
    """

    days: int | None = None
    tags: int | None = None
    never: bool = False
    keep: tuple[str, ...] = ()
    pulled_days: int | None = None
    untagged_days: int | None = None
