"""What a tag was, and undoing: tags and manifests come back as they were.

Coming back counts as a push: retention looks at the age from then on. All that a manifest lists
comes with it, and every blob. The repository's row is locked first, as by collection: what is there
then stays, and what is gone went before.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from entrepot.db import (
    accounts,
    collection,
    orphans,
    revival,
    tag_history,
    tags,
)
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Repository
from entrepot.model.clock import HOUR, Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import Denied, ManifestUnknown, NotFound, Taken, Unsupported
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import Tag
from entrepot.model.tenancy import Change
from entrepot.model.undo import RestoredTag, RestoredTags, TagVersion
from entrepot.services.access import Access
from entrepot.services.addresses import NO_REPOSITORY
from entrepot.services.audit import record
from entrepot.services.push import require_movable, require_own
from entrepot.services.quotas import judge

AT_ONCE = 100  # tags that one transaction brings back


class Restore:
    """Brings tags and manifests back. `window` is how long a deletion can be undone, in µs.

    A tag is restored by whoever may both delete and push it, a manifest by whoever may delete it
    and push: who undoes gets no more than who did.
    """

    def __init__(self, database: Database, clock: Clock, access: Access, *, window: int) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._window = window

    async def history(
        self, actor: Actor, repository_id: int, tag: Tag, *, before: int, limit: int
    ) -> tuple[list[TagVersion], bool]:
        """Up to `limit` of what a tag was, the latest first, and whether more follow.

        Who ended a version is for whoever may push. Raises ManifestUnknown where there was no such
        tag, Unauthenticated, NotFound.
        """
        async with self._database.read(scan=True) as tx:
            known = await self._access.known(tx, actor)
            repository = await self._access.enter_repository(tx, known, Action.PULL, repository_id)
            found = await tag_history.page(
                tx, repository_id, tag.text, before=before, limit=limit + 1
            )
            if not found and not await tag_history.page(
                tx, repository_id, tag.text, before=1 << 62, limit=1
            ):
                raise _never_there(tag)
        if Action.PUSH not in self._access.allowed(known.credential, repository):
            found = [_without_who(version) for version in found]
        return found[:limit], len(found) > limit

    def restorable_until(self, version: TagVersion) -> int | None:
        """When a version that can be restored may go; None where nothing has it go."""
        if not version.is_held or version.waits_since is None:
            return None
        return version.waits_since + self._window

    async def tag(
        self,
        actor: Actor,
        repository_id: int,
        tag: Tag,
        *,
        version: int | None = None,
        at: int | None = None,
    ) -> RestoredTag:
        """Make a tag what it was: last, as that version, or at that moment.

        Raises ManifestUnknown (it was never that, or that is gone), Taken (it is there, and neither
        a version nor a moment was said), Denied, Unsupported, Unauthenticated, NotFound.
        """

        async def work(tx: Transaction) -> RestoredTag:
            repository = await self._enter(tx, actor, repository_id, Action.DELETE_TAG)
            _require_accepting(repository)
            now = self._clock.now()
            wanted, present = await self._wanted(tx, repository.id, tag, version, at)
            if present.ended_at is None and present.digest == wanted.digest:
                return RestoredTag(tag.text, wanted.digest, present.version, wanted.digest)
            _require_pushed(repository, tag, wanted)
            await require_own(tx, repository, tag.text)
            if not await _revive(tx, repository.id, [wanted.digest]):
                raise self._gone(tag, wanted)
            moved = await tags.move(
                tx,
                repository.id,
                tag.text,
                wanted.digest,
                token_id=actor.token_id,
                now=now,
                by="restore",
            )
            if moved.left is not None:
                require_movable(repository, tag.text)
                if repository.source is not None:  # as behind a push
                    await collection.review(
                        tx, "manifest", repository.id, moved.left, due_at=now + self._window
                    )
            (latest,) = await tag_history.page(tx, repository.id, tag.text, before=1 << 62, limit=1)
            details = {"tag": tag.text, "digest": wanted.digest, "from_version": wanted.version}
            await self._end(tx, actor, repository, "tag.restored", details, int(moved.is_new), now)
            return RestoredTag(tag.text, wanted.digest, latest.version, moved.left)

        return await self._database.write(work)

    async def manifest(self, actor: Actor, repository_id: int, digest: Digest) -> RestoredTags:
        """Bring a manifest back, with the tags that went with it and are nothing else by now.

        One that is there comes to no harm. Raises ManifestUnknown, Denied, Unauthenticated,
        NotFound.
        """

        async def work(tx: Transaction) -> RestoredTags:
            repository = await self._enter(tx, actor, repository_id, Action.DELETE)
            now = self._clock.now()
            found = await revival.find_waiting(tx, repository.id, str(digest))
            if found is None:
                message = (
                    "no such manifest in this repository; if it was deleted, it was longer than "
                    f"{_hours(self._window)} ago, and is gone"
                )
                raise ManifestUnknown(message, digest=str(digest))
            if found == (None, None):
                return RestoredTags((), ())
            deleted_at, _ = found
            names: list[str] = []
            if deleted_at is not None:
                names = await tag_history.find_ended_with(
                    tx, repository.id, str(digest), at=deleted_at
                )
            await _revive(tx, repository.id, [str(digest)])
            await revival.note_push(tx, repository.id, str(digest), now=now)
            back = await tag_history.reopen(
                tx, repository.id, names, token_id=actor.token_id, now=now
            )
            left = tuple(name for name in names if name not in back)
            details = {"digest": str(digest), "tags": list(back), "left": list(left)}
            pushed = sum(back.values())
            await self._end(tx, actor, repository, "manifest.restored", details, pushed, now)
            return RestoredTags(tuple(back), left)

        return await self._database.write(work)

    async def since(
        self, actor: Actor, repository_id: int, *, since: int, after: str
    ) -> tuple[RestoredTags, str | None]:
        """Bring back the next tags, by name, that retention has ended since then and nobody made.

        With the name to go on after, where there may be more. Raises Denied, Unauthenticated,
        NotFound.
        """

        async def work(tx: Transaction) -> tuple[RestoredTags, str | None]:
            repository = await self._enter(tx, actor, repository_id, Action.DELETE_TAG)
            now = self._clock.now()
            ended = await tag_history.page_of_ended(
                tx, repository.id, by="retention", since=since, after=after, limit=AT_ONCE
            )
            if not ended:
                return RestoredTags((), ()), None
            await _revive(tx, repository.id, {digest for _, digest in ended})
            names = [name for name, _ in ended]
            back = await tag_history.reopen(
                tx, repository.id, names, token_id=actor.token_id, now=now
            )
            if back:
                pushed = sum(back.values())
                details = {"tags": list(back)}
                await self._end(tx, actor, repository, "tag.restored", details, pushed, now)
            left = tuple(name for name in names if name not in back)
            following = names[-1] if len(names) == AT_ONCE else None
            return RestoredTags(tuple(back), left), following

        return await self._database.write(work)

    async def _enter(
        self, tx: Transaction, actor: Actor, repository_id: int, action: Action
    ) -> Repository:
        """The repository, locked, to who may do `action` and push. Raises NotFound, Denied."""
        await self._access.enter_repository(tx, actor, Action.PUSH, repository_id)
        place = await orphans.lock_repository(tx, repository_id)
        if place is None or place.deleted_at is not None:
            raise NotFound(NO_REPOSITORY)
        return await self._access.enter_repository(tx, actor, action, repository_id)

    async def _wanted(
        self, tx: Transaction, repository_id: int, tag: Tag, version: int | None, at: int | None
    ) -> tuple[TagVersion, TagVersion]:
        """What the tag shall be, and what it was last. Raises ManifestUnknown, Taken."""
        latest = await tag_history.page(tx, repository_id, tag.text, before=1 << 62, limit=1)
        if not latest:
            raise _never_there(tag)
        if version is None and at is None:
            if latest[0].ended_at is None:
                message = (
                    f"the tag {tag.text} is there, and is {latest[0].digest}; say which version it "
                    "shall be, or as of when"
                )
                raise Taken(message, field="version")
            return latest[0], latest[0]
        if version is not None:
            found = await tag_history.find(tx, repository_id, tag.text, version=version)
            what = f"has no version {version}; the last is {latest[0].version}"
        else:
            found = await tag_history.find_at(tx, repository_id, tag.text, at=at or 0)
            what = f"was not there at {_moment(at or 0)}"
        if found is None:
            raise ManifestUnknown(f"the tag {tag.text} {what}", tag=tag.text)
        return found, latest[0]

    def _gone(self, tag: Tag, wanted: TagVersion) -> ManifestUnknown:
        ended_at = wanted.ended_at or 0
        message = (
            f"the tag {tag.text} was {wanted.digest} until {_moment(ended_at)}; that could be "
            f"restored until {_moment(ended_at + self._window)} at least, and has been collected "
            "since"
        )
        return ManifestUnknown(message, tag=tag.text, digest=wanted.digest)

    @staticmethod
    async def _end(
        tx: Transaction,
        actor: Actor,
        repository: Repository,
        action: str,
        details: Mapping[str, object],
        pushed: int,
        now: int,
    ) -> None:
        """Count, record, and judge what was restored. Raises Denied."""
        await accounts.count_tags(tx, repository.organisation_id, pushed, now=now, id=new_id())
        change = Change(
            action,
            "repository",
            to_text(repository.id),
            repository.path,
            repository.organisation_id,
            details,
        )
        await record(tx, actor, change, now=now)
        await judge(tx, repository, grew=False, new_tags=pushed)


async def _revive(
    tx: Transaction, repository_id: int, digests: list[str] | set[str]
) -> frozenset[str]:
    """Bring back those of these manifests that are not gone, with all that they list; which."""
    family = await revival.find_family(tx, repository_id, digests)
    await orphans.lock_manifests(tx, repository_id, family)
    await revival.revive(tx, repository_id, family)
    return family


def _require_accepting(repository: Repository) -> None:
    """Raises Denied where only an upstream fills a repository."""
    source = repository.source
    if source is not None and not source.accepts_push:
        message = f"this repository is filled from {source.path} of an upstream; pull the tag again"
        raise Denied(message, upstream_path=source.path)


def _require_pushed(repository: Repository, tag: Tag, wanted: TagVersion) -> None:
    """Raises Unsupported for what an upstream gave: ours would stand before it for ever."""
    if repository.source is not None and not wanted.was_pushed:
        message = f"the tag {tag.text} came from the upstream then; pull it again"
        raise Unsupported(message, tag=tag.text)


def _never_there(tag: Tag) -> ManifestUnknown:
    message = f"there was never a tag {tag.text} in this repository"
    return ManifestUnknown(message, tag=tag.text)


def _without_who(version: TagVersion) -> TagVersion:
    return replace(version, ended_who=None)


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).isoformat().replace("+00:00", "Z")


def _hours(microseconds: int) -> str:
    return f"{microseconds / HOUR:g} h"
