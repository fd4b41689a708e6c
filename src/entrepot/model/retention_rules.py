"""What a retention policy says of one tag or manifest, and why, in the words that people read.

Plan, preview and run all judge here.
"""

import re
from dataclasses import dataclass, replace
from typing import Self

from entrepot.model.access import is_match
from entrepot.model.clock import DAY, HOUR, to_rfc3339
from entrepot.model.retention import Retention

DEFAULT_DAYS = 7

_HALF_DIGEST = re.compile(r"sha512-[0-9a-f]{64}(\..*)?")


@dataclass(frozen=True, slots=True)
class TagFacts:
    """A pushed tag. `belongs_to` is the manifest here that its name says it belongs to."""

    name: str
    digest: str
    pushed_at: int
    expires_at: int | None
    pulled_at: int | None
    belongs_to: str | None


@dataclass(frozen=True, slots=True)
class UntaggedFacts:
    """A pushed manifest that no tag points at."""

    digest: str
    pushed_at: int
    pulled_at: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something goes, and why, or why not."""

    goes: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy at a moment.

    `newest` is when the last of the newest tags was pushed, and its name; None where there are no
    more tags than may stay. `untagged_days` is the server's.
    """

    policy: Retention
    immutable: tuple[str, ...]
    protected: tuple[str, ...]
    untagged_days: int
    now: int
    newest: tuple[int, str] | None = None

    def with_newest(self, newest: tuple[int, str] | None) -> Self:
        """These rules, with where the newest tags end."""
        return replace(self, newest=newest)

    def expired(self, tag: TagFacts) -> bool:
        """Whether a tag's max-age is over."""
        return tag.expires_at is not None and tag.expires_at <= self.now

    @property
    def has_patterns(self) -> bool:
        """Whether the name of a tag may keep it."""
        return bool(self.immutable or self.protected or self.policy.keep)

    def counts(self, tag: TagFacts) -> bool:
        """Whether a tag is one of those that a policy of the newest tags counts."""
        return self._fixed(tag) is None

    def of_tag(self, tag: TagFacts) -> Verdict:
        """Whether a tag goes."""
        if (fixed := self._fixed(tag)) is not None:
            return fixed
        policy = self.policy
        if policy.never:
            return Verdict(goes=False, reason="nothing is deleted here")
        if policy.tags is not None:
            if self.newest is None or (tag.pushed_at, tag.name) >= self.newest:
                return Verdict(goes=False, reason=f"one of the newest {policy.tags}")
            reason = f"beyond the newest {policy.tags}"
        else:
            reason = f"last pushed {self._ago(tag.pushed_at)} ago"
            if tag.pushed_at >= self.now - (policy.days or 0) * DAY:
                return Verdict(goes=False, reason=f"pushed {self._ago(tag.pushed_at)} ago")
        return self._unless_pulled(tag.pulled_at, reason)

    def of_untagged(self, manifest: UntaggedFacts, kept_by: str | None) -> Verdict:
        """Whether a manifest without a tag goes that `kept_by` keeps, if anything."""
        if kept_by is not None:
            return Verdict(goes=False, reason=f"kept by {kept_by}")
        ago = self._ago(manifest.pushed_at)
        if self.untagged_before is None or manifest.pushed_at >= self.untagged_before:
            return Verdict(goes=False, reason=f"no tag; pushed {ago} ago")
        return self._unless_pulled(manifest.pulled_at, f"no tag; last pushed {ago} ago")

    @property
    def tags_before(self) -> tuple[int, str] | None:
        """Moment and name before which the policy lets tags go; None if it lets none."""
        if self.policy.days is not None:
            return (self.now - self.policy.days * DAY, "")
        return self.newest

    @property
    def untagged_before(self) -> int | None:
        """The moment before which manifests go that no tag points at; None if none does."""
        policy = self.policy
        days = policy.untagged_days or policy.days
        if days is None and not policy.never:
            days = self.untagged_days
        return self.now - days * DAY if days is not None else None

    def _fixed(self, tag: TagFacts) -> Verdict | None:
        """What holds whatever the policy says of age and number."""
        for patterns, word in ((self.immutable, "immutable"), (self.protected, "protected")):
            if (pattern := _match(patterns, tag.name)) is not None:
                return Verdict(goes=False, reason=f"{word} by pattern {pattern}")
        if tag.belongs_to is not None:
            return Verdict(goes=False, reason=f"belongs to {tag.belongs_to}")
        if _HALF_DIGEST.fullmatch(tag.name) is not None:  # whose is not known, collection ends it
            return Verdict(goes=False, reason="belongs to a digest")
        if tag.expires_at is not None and self.expired(tag):
            return Verdict(goes=True, reason=f"its max-age ended {to_rfc3339(tag.expires_at)}")
        if (pattern := _match(self.policy.keep, tag.name)) is not None:
            return Verdict(goes=False, reason=f"kept by pattern {pattern}")
        return None

    def _unless_pulled(self, pulled_at: int | None, reason: str) -> Verdict:
        days = self.policy.pulled_days
        if days is not None and pulled_at is not None and pulled_at >= self.now - days * DAY:
            return Verdict(goes=False, reason=f"pulled {self._ago(pulled_at)} ago")
        return Verdict(goes=True, reason=reason)

    def _ago(self, moment: int) -> str:
        since = max(0, self.now - moment)
        for length, word in ((DAY, "day"), (HOUR, "hour")):
            if since >= length:
                number = since // length
                return f"{number} {word}" + ("s" if number > 1 else "")
        return "less than an hour"


def _match(patterns: tuple[str, ...], name: str) -> str | None:
    return next((pattern for pattern in patterns if is_match(pattern, name)), None)
