"""What the registry has acknowledged to all clients, and therefore has to keep.

A promise ends before its client sends what ends it, and begins when that is answered. Retention
ends some too: those of tags that so many others in their repository may be newer than, and those
whose time is over.
"""

import json
import math
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.soak.content import Image


@dataclass(slots=True, eq=False)
class Promise:
    """An image that can be pulled whole, by a tag or, without one, by its digest.

    What hangs below it comes with it: `below` by digest, `tags` by the tags of their names.
    """

    repository: str
    tag: str
    image: Image
    begun: int
    until: float = math.inf  # of time.monotonic()
    below: list[Image] = field(default_factory=list)
    tags: dict[str, Image] = field(default_factory=dict)
    is_over: bool = False
    may_have_aged: bool = False  # retention may have removed its tag

    @property
    def holds(self) -> bool:
        """Whether the registry is still bound by it."""
        return not self.is_over and not self.is_late

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() >= self.until

    @property
    def reference(self) -> str:
        """What it is pulled by."""
        return self.tag or self.image.digest


class Promises:
    """All of them, and a journal of each step. Of each repository the newest `keep` tags stay."""

    def __init__(self, path: Path, *, keep: int) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._keep = keep
        self._moment = 0
        # When the last push of a tag ended, by repository and tag; never, while it goes on.
        self._pushed: dict[str, dict[str, float]] = defaultdict(dict)
        self.held: dict[tuple[str, str], Promise] = {}
        self._ending: set[Promise] = set()  # a request that ends it is on its way
        self._tagged: Counter[tuple[str, str]] = Counter()  # how often, by repository and digest
        self.steps: Counter[str] = Counter()

    def close(self) -> None:
        """End the journal."""
        self._file.close()

    def begin(self, repository: str, tag: str, image: Image, *, until: float) -> Promise:
        """A push of this tag begins: what it pointed at before is promised no more by it."""
        before = self.held.get((repository, tag))
        if before is not None:
            self._ending.add(before)
            self._drop(before)
        self._moment += 1
        self._tagged[repository, image.digest] += 1
        promise = Promise(repository, tag, image, self._moment, until)
        self._pushed[repository][tag] = math.inf
        self._age(repository)
        self._note("push", promise)
        return promise

    def keep(self, promise: Promise) -> None:
        """It was acknowledged."""
        self._moment += 1
        self._note("pushed", promise)
        if promise.tag:
            self._pushed[promise.repository][promise.tag] = self._moment
        self.held[promise.repository, promise.reference] = promise
        before = [b for b in self._ending if b.tag == promise.tag]
        self._ending.difference_update(b for b in before if b.repository == promise.repository)
        self._age(promise.repository)

    def keep_by_digest(self, promise: Promise) -> Promise:
        """Its tag points elsewhere now: the manifest stays, until its client deletes it."""
        left = Promise(promise.repository, "", promise.image, promise.begun)
        left.below, left.tags = promise.below, promise.tags
        self.keep(left)
        return left

    def had_one_tag(self, promise: Promise) -> bool:
        """Whether its image never had another tag there, of which retention may have made an end."""
        return self._tagged[promise.repository, promise.image.digest] == 1

    def end(self, promise: Promise, why: str) -> None:
        """Its client is about to remove it."""
        self._note(why, promise)
        self._ending.add(promise)
        self._drop(promise)

    def forget(self, promise: Promise) -> None:
        """That was acknowledged: its tag is gone."""
        self._note("gone", promise)
        self._ending.discard(promise)
        self._pushed[promise.repository].pop(promise.tag, None)

    def holding(self) -> list[Promise]:
        """All that bind now."""
        return [promise for promise in self.held.values() if promise.holds]

    def _age(self, repository: str) -> None:
        """Retention may remove a tag from the moment on that enough others may be newer."""
        pushed = self._pushed[repository]
        for promise in (*self.held.values(), *self._ending):
            if promise.repository != repository or not promise.tag or promise.may_have_aged:
                continue
            newer = sum(at > promise.begun for tag, at in pushed.items() if tag != promise.tag)
            if newer >= self._keep:
                promise.may_have_aged = True
                self._note("aged", promise)
                self._drop(promise)
        if len(pushed) > 4 * self._keep:  # the oldest decide nothing any more
            newest = sorted(pushed, key=pushed.__getitem__, reverse=True)[: 2 * self._keep]
            self._pushed[repository] = {tag: pushed[tag] for tag in newest}

    def _drop(self, promise: Promise) -> None:
        promise.is_over = True
        key = promise.repository, promise.reference
        if self.held.get(key) is promise:
            del self.held[key]

    def _note(self, step: str, promise: Promise) -> None:
        self.steps[step] += 1
        line = [
            time.time(),
            step,
            promise.repository,
            promise.tag,
            promise.image.digest,
        ]
        self._file.write(json.dumps(line) + "\n")
