"""One client: it does one thing after another, and knows what it may expect of each."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random

from tests.support.soak.content import Contents, Image
from tests.support.soak.mirrored import NAME
from tests.support.soak.promises import Promise, Promises
from tests.support.soak.protocol import Late, Protocol
from tests.support.soak.wire import Gone, Wire, Wrong

_TAGS = 10  # of each client in the repositories that all share
_MAX_AGE = 5  # seconds
_VERIFIED = 0.3  # of all pushes, at once; the others later, or in the end


class Caller:
    """Shares repositories, layers and some images with others; its tags are its own."""

    def __init__(
        self,
        number: int,
        wire: Wire,
        promises: Promises,
        *,
        grace: float,
        names: list[str],
        snapshots: str,
        cached: dict[str, Image],
        restore: float,
        token: str,
    ) -> None:
        self._prefix = f"c{number}"
        self._random = Random(f"caller {number}")
        self._contents = Contents(f"contents {number}")
        self._wire = wire
        self._promises = promises
        self._names = names
        self._snapshots = snapshots
        self._cached = cached
        self._restore = restore
        self.protocol = Protocol(
            wire, self._random, grace=grace, names=[*names, snapshots], token=token
        )
        self._mine: list[Promise] = []
        self._gone: deque[tuple[str, Image]] = deque(maxlen=30)
        self._count = 0

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Go on until it is over."""
        actions: dict[Callable[[], Awaitable[None]], int] = {
            self._push_image: 22,
            self._push_index: 6,
            self._push_snapshot: 8,
            self._push_again: 6,
            self._tag_again: 8,
            self._move_tag: 8,
            self._sign: 5,
            self._remove_tag: 12,
            self._remove_and_restore: 4,
            self._remove_manifest: 8,
            self._remove_child: 1,
            self._pull_mine: 8,
            self._pull_others: 8,
            self._pull_gone: 4,
            self._pull_through: 4,
            self._list: 2,
            self._abandon: 3,
        }
        while not is_over():
            self._mine = [promise for promise in self._mine if promise.holds]
            tagged = [promise for promise in self._mine if promise.repository != self._snapshots]
            action = self._random.choices(list(actions), list(actions.values()))[0]
            if len(tagged) > _TAGS:
                action = self._random.choice([self._remove_tag, self._remove_manifest])
            try:
                await action()
            except Wrong:
                continue  # counted already
            except Gone as error:
                self._wire.tally.fail("not there", f"{action.__name__}: {error}")

    # Pushing

    async def _push(
        self, name: str, tag: str, image: Image, *, max_age: int | None = None
    ) -> Promise:
        until = math.inf if max_age is None else time.monotonic() + max_age
        before = self._promises.held.get((name, tag))
        promise = self._promises.begin(name, tag, image, until=until)
        await self.protocol.push(name, tag, image, max_age=max_age)
        self._promises.keep(promise)
        self._mine.append(promise)
        if before is not None:
            self._leave(before)
        if self._random.random() < _VERIFIED:
            await self.protocol.verify(promise)
        return promise

    def _leave(self, before: Promise) -> None:
        """A tag has moved away. What had no other can be pulled by its digest."""
        is_alone = before.image.is_own and self._promises.had_one_tag(before)
        if is_alone and not before.may_have_aged:
            self._mine.append(self._promises.keep_by_digest(before))

    def _is_promised(self, promise: Promise) -> bool:
        return any(
            other.image.digest == promise.image.digest and other.repository == promise.repository
            for other in self._promises.held.values()
        )

    async def _push_image(self) -> None:
        is_own = self._random.random() < 0.8
        image = self._contents.image() if is_own else self._contents.popular()
        await self._push(self._name(), self._new_tag(), image)

    async def _push_index(self) -> None:
        children = [self._contents.image() for _ in range(self._random.randint(2, 3))]
        shared = [p for p in self._promised() if p.image.children]
        name = self._name()
        if shared and self._random.random() < 0.4:  # an index may list what another one lists
            other = self._random.choice(shared)
            name = other.repository
            children.append(other.image.children[0])
        promise = await self._push(name, self._new_tag(), self._contents.index(children))
        if self._random.random() < 0.5:
            await self._sign_one(promise)

    async def _push_snapshot(self) -> None:
        """Into a repository of which retention alone removes tags."""
        max_age = _MAX_AGE if self._random.random() < 0.5 else None
        tag = self._new_tag()
        await self._push(self._snapshots, tag, self._contents.image(), max_age=max_age)

    async def _push_again(self) -> None:
        """What was removed: it may be there in full, in part, or not at all."""
        if self._gone:
            name, image = self._gone.pop()
            await self._push(name, self._new_tag(), image)

    async def _tag_again(self) -> None:
        """Give an image another tag: it is here, so its manifest alone is sent."""
        promise = self._one(lambda p: bool(p.tag))
        if promise is not None:
            await self._put_tag(promise, self._new_tag())

    async def _move_tag(self) -> None:
        promise = self._one(lambda p: bool(p.tag) and p.image.is_own)
        if promise is None:
            return
        other = self._one(
            lambda p: bool(p.tag) and p is not promise and p.repository == promise.repository
        )
        if other is not None and self._random.random() < 0.5:
            await self._put_tag(other, promise.tag)
        else:
            await self._push(promise.repository, promise.tag, self._contents.image())

    async def _put_tag(self, source: Promise, tag: str) -> None:
        name = source.repository
        before = self._promises.held.get((name, tag))
        if before is not None and before.image is source.image:
            return
        promise = self._promises.begin(name, tag, source.image, until=math.inf)
        try:
            await self.protocol.put(name, tag, source.image, source=source)
        except Late:
            return  # it went meanwhile, and might
        self._promises.keep(promise)
        self._mine.append(promise)
        if before is not None:
            self._leave(before)

    async def _sign(self) -> None:
        promise = self._one(lambda p: p.image.is_own)
        if promise is not None:
            await self._sign_one(promise)

    async def _sign_one(self, promise: Promise) -> None:
        """A signature as a referrer, one by a tag, or an SBOM with a signature of its own."""
        name, subject = promise.repository, promise.image
        way = self._random.random()
        if way < 0.4:
            signature = self._contents.image()
            tag = f"{subject.digest.replace(':', '-')}.sig"
            if not any(tag in twin.tags for twin in self._twins(promise)):
                await self.protocol.push(name, tag, signature)
                promise.tags[tag] = signature
            return
        referrer = self._contents.image(subject=subject)
        await self.protocol.push(name, referrer.digest, referrer)
        promise.below.append(referrer)
        if way > 0.8:
            second = self._contents.image(subject=referrer)
            await self.protocol.push(name, second.digest, second)
            promise.below.append(second)

    async def _abandon(self) -> None:
        await self.protocol.abandon(self._name(), self._contents.loose())

    # Removing

    async def _remove_tag(self) -> None:
        promise = self._one(lambda p: bool(p.tag) and p.repository != self._snapshots)
        if promise is None:
            return
        self._promises.end(promise, "remove tag")
        await self._remove([promise], promise.tag)
        if promise.image.is_own and not self._is_promised(promise):
            self._gone.append((promise.repository, promise.image))

    async def _remove_and_restore(self) -> None:
        """Undo a deletion: within the time for that it succeeds, and all is there as before."""
        promise = self._one(lambda p: bool(p.tag) and p.repository != self._snapshots)
        if promise is None:
            return
        name, tag = promise.repository, promise.tag
        self._promises.end(promise, "remove tag")
        sent = time.monotonic()
        await self._remove([promise], tag)
        if promise.may_have_aged:
            return
        await asyncio.sleep(self._random.random() * self._restore * 1.5)
        again = self._promises.begin(name, tag, promise.image, until=math.inf)
        if await self.protocol.restore(name, tag):
            again.below, again.tags = promise.below, promise.tags
            self._promises.keep(again)
            self._mine.append(again)
            await self.protocol.verify(again)
        elif time.monotonic() - sent < self._restore:
            self._wire.tally.fail("not restored", f"{name} {tag}")

    async def _remove_manifest(self) -> None:
        promise = self._one(lambda p: p.image.is_own)
        if promise is None:
            return
        same = self._twins(promise)
        for each in same:
            self._promises.end(each, "remove manifest")
        await self._remove(same, promise.image.digest)
        self._gone.append((promise.repository, promise.image))

    async def _remove(self, promises: list[Promise], reference: str) -> None:
        """Remove what is there, unless retention was faster."""
        try:
            await self.protocol.remove(promises[0].repository, reference)
        except Gone:
            if not all(promise.may_have_aged or promise.is_late for promise in promises):
                raise
        for promise in promises:
            self._promises.forget(promise)

    async def _remove_child(self) -> None:
        promise = self._one(lambda p: bool(p.image.children))
        if promise is not None:
            child = promise.image.children[0]
            is_refused = await self.protocol.is_needed(promise.repository, child.digest)
            if promise.holds and not is_refused:
                self._wire.tally.fail("a child was deleted", f"{promise.repository} {child.digest}")

    # Reading

    async def _pull_mine(self) -> None:
        promise = self._one(lambda _: True)
        if promise is not None:
            await self.protocol.verify(promise)

    async def _pull_others(self) -> None:
        held = list(self._promises.held.values())
        if held:
            await self.protocol.verify(self._random.choice(held))

    async def _pull_gone(self) -> None:
        if self._gone:
            name, image = self._random.choice(self._gone)
            await self.protocol.pull_gone(name, image)

    async def _pull_through(self) -> None:
        """What an upstream has can be pulled, however often its blobs leave again."""
        tag, image = self._random.choice(list(self._cached.items()))
        await self.protocol.pull(NAME, tag, image)

    async def _list(self) -> None:
        """Tags and referrers that are promised before and after are listed."""
        promise = self._one(lambda p: bool(p.tag))
        if promise is None:
            return
        below = [image.digest for image in promise.below]
        try:
            listed = await self.protocol.tags(promise.repository)
            referrers = await self.protocol.referrers(promise.repository, promise.image.digest)
        except Gone:
            if promise.holds:
                raise
            return
        is_whole = promise.tag in listed and (not below or below[0] in referrers)
        if promise.holds and not is_whole:
            self._wire.tally.fail("not listed", f"{promise.repository} {promise.tag} {below}")

    # Choosing

    def _name(self) -> str:
        return self._random.choice(self._names)

    def _new_tag(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def _promised(self) -> list[Promise]:
        return [promise for promise in self._mine if promise.holds]

    def _twins(self, promise: Promise) -> list[Promise]:
        """What this client was promised of the same image there, by whichever tag."""
        same = [p for p in self._promised() if p.image.digest == promise.image.digest]
        return [p for p in same if p.repository == promise.repository]

    def _one(self, fits: Callable[[Promise], bool]) -> Promise | None:
        found = [promise for promise in self._promised() if fits(promise)]
        return self._random.choice(found) if found else None
