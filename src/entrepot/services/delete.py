"""Taking content out of a repository. Nothing is destroyed: rows are marked, reviews queued."""

from entrepot.db import accounts, blobs, collection, manifests, orphans, tags
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Repository, is_match
from entrepot.model.clock import Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import BlobUnknown, Denied, ManifestUnknown, NameUnknown, Unsupported
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import Tag
from entrepot.model.tenancy import Change
from entrepot.services.access import Access
from entrepot.services.addresses import NO_REPOSITORY, Address
from entrepot.services.audit import record


class Delete:
    """Deletes tags, manifests and blobs. `restore` is how long that can be undone, in µs.

    Each deletion first marks its row, which locks it, and only then looks for whoever needs it: a
    push that runs at the same time either holds the row already, or finds it deleted. What is
    raised rolls the mark back. A repository is named by an address (`NameUnknown`) or by its row
    (`NotFound`); both ways lead through the same judge and the same gates.
    """

    def __init__(self, database: Database, clock: Clock, access: Access, *, restore: int) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._restore = restore

    async def tag(self, actor: Actor, where: Address | int, tag: Tag) -> int:
        """Remove a tag, not its manifest; until when it can be restored at least.

        Raises ManifestUnknown, NameUnknown, NotFound, Denied.
        """

        async def work(tx: Transaction) -> int:
            now = self._clock.now()
            repository = await self._repository(tx, actor, Action.DELETE_TAG, where)
            _require_deletable(repository, [tag.text])
            deleted = await tags.delete(
                tx, repository.id, tag.text, token_id=actor.token_id, now=now
            )
            if deleted is None:
                message = "no such tag in this repository"
                raise ManifestUnknown(message, tag=tag.text)
            digest, was_pushed = deleted
            await self._uncount(tx, repository, int(was_pushed), now)
            # Two that take the last two tags look one behind the other.
            await orphans.lock_manifests(tx, repository.id, [digest])
            if not await orphans.find_tagged(tx, repository.id, [digest]):
                await orphans.orphan(tx, repository.id, [digest], since=now)
                await self._review(tx, "manifest", repository, digest, now)
            change = _change("tag.deleted", repository, digest=digest, tag=tag.text)
            await record(tx, actor, change, now=now)
            return now + self._restore

        return await self._database.write(work)

    async def manifest(self, actor: Actor, where: Address | int, digest: Digest) -> int:
        """Remove a manifest and the tags that point at it; until when it can be restored.

        Raises ManifestUnknown, Unsupported (an index lists it), NameUnknown, NotFound, Denied.
        """

        async def work(tx: Transaction) -> int:
            now = self._clock.now()
            repository = await self._repository(tx, actor, Action.DELETE, where)
            if not await manifests.delete(tx, repository.id, str(digest), now=now):
                message = "no such manifest in this repository"
                raise ManifestUnknown(message, digest=str(digest))
            parent = await manifests.find_parent(tx, repository.id, str(digest))
            if parent is not None:
                message = f"the index {parent} lists this manifest; delete the index first"
                raise Unsupported(message, digest=str(digest), index=parent)
            deleted = await tags.delete_all_of(
                tx, repository.id, str(digest), token_id=actor.token_id, now=now
            )
            names = list(deleted)
            _require_deletable(repository, names)
            await self._uncount(tx, repository, sum(deleted.values()), now)
            await self._review(tx, "manifest", repository, str(digest), now)
            change = _change("manifest.deleted", repository, digest=str(digest), tags=names)
            await record(tx, actor, change, now=now)
            return now + self._restore

        return await self._database.write(work)

    async def blob(self, actor: Actor, address: Address, digest: Digest) -> None:
        """Remove a blob.

        Raises BlobUnknown, Unsupported (a manifest needs it), NameUnknown, Denied.
        """

        async def work(tx: Transaction) -> None:
            now = self._clock.now()
            repository = await self._repository(tx, actor, Action.DELETE, address)
            if not await blobs.delete_link(tx, repository.id, str(digest), now=now):
                message = "no such blob in this repository"
                raise BlobUnknown(message, digest=str(digest))
            manifest = await blobs.find_user_of(tx, repository.id, str(digest))
            if manifest is not None:
                message = f"the manifest {manifest} needs this blob; delete the manifest first"
                raise Unsupported(message, digest=str(digest), manifest=manifest)
            await self._review(tx, "link", repository, str(digest), now)
            change = _change("blob.deleted", repository, digest=str(digest))
            await record(tx, actor, change, now=now)

        await self._database.write(work)

    async def _repository(
        self, tx: Transaction, actor: Actor, action: Action, where: Address | int
    ) -> Repository:
        if isinstance(where, int):
            return await self._access.enter_repository(tx, actor, action, where)
        found = await self._access.admit(tx, actor, action, where)
        if not isinstance(found, Repository):
            raise NameUnknown(NO_REPOSITORY, name=str(where.name))
        return found

    async def _uncount(self, tx: Transaction, repository: Repository, tags: int, now: int) -> None:
        """Count so many pushed tags less."""
        owner = repository.organisation_id
        await accounts.count_tags(tx, owner, -tags, now=now, id=new_id())

    async def _review(
        self, tx: Transaction, kind: str, repository: Repository, digest: str, now: int
    ) -> None:
        await collection.review(tx, kind, repository.id, digest, due_at=now + self._restore)


def _require_deletable(repository: Repository, names: list[str]) -> None:
    """Raises Denied for a tag that is immutable or protected."""
    for name in names:
        for pattern in (*repository.immutable_tags, *repository.protected_tags):
            if is_match(pattern, name):
                message = f"the tag {name} is kept here by the pattern {pattern}"
                raise Denied(message, tag=name)


def _change(action: str, repository: Repository, **details: object) -> Change:
    return Change(
        action,
        "repository",
        to_text(repository.id),
        repository.path,
        repository.organisation_id,
        details,
    )
