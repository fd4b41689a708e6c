"""Storing manifests: visible only when all that they need is here, in one transaction."""

from dataclasses import dataclass

from entrepot.blobs.store import BlobStore
from entrepot.db import (
    accounts,
    blobs,
    collection,
    manifests,
    retention_turns,
    tags,
    uploads,
)
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Repository, is_match
from entrepot.model.clock import SECOND, Clock
from entrepot.model.digests import Digest
from entrepot.model.errors import (
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    Unauthenticated,
)
from entrepot.model.ids import new_id, to_text
from entrepot.model.manifests import ManifestFacts
from entrepot.model.names import Tag
from entrepot.model.tenancy import Change
from entrepot.services.access import Access
from entrepot.services.addresses import Address, Addresses
from entrepot.services.audit import record
from entrepot.services.quotas import judge

_NAMED_MISSING = 10  # how many missing digests an error names


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest that is stored and durable; what to warn of."""

    digest: Digest
    subject: Digest | None
    warnings: list[str]


class Push:
    """Writes manifests. `grace` is how long content without a root is protected, in µs."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        clock: Clock,
        access: Access,
        addresses: Addresses,
        *,
        grace: int,
        index_depth: int,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self._grace = grace
        self._index_depth = index_depth

    async def manifest(
        self,
        actor: Actor,
        address: Address,
        *,
        digest: Digest | None,
        tag_names: list[Tag],
        facts: ManifestFacts,
        body: bytes,
        opened_before: int,
        max_age: int | None = None,
    ) -> PushedManifest:
        """Store `body` and point the tags at it, for so long where they have a `max_age`, in µs.

        `digest` is what the client calls it, if it said. With `opened_before` in the past the right
        has expired and only finishes what was begun before.
        Raises DigestInvalid, ManifestInvalid, ManifestBlobUnknown, StorageFull, Denied,
        Unauthenticated, NameUnknown.
        """
        actual = Digest.of(body, digest.algorithm if digest else "sha256")
        if digest is not None and digest != actual:
            message = f"the manifest sent has the digest {actual}"
            raise DigestInvalid(message, digest=str(digest))
        self._store.require_space()
        warnings = await self._database.write(
            lambda tx: self._store_manifest(
                tx, actor, address, str(actual), tag_names, facts, body, max_age, opened_before
            )
        )
        return PushedManifest(actual, facts.subject, warnings)

    async def _store_manifest(
        self,
        tx: Transaction,
        actor: Actor,
        address: Address,
        digest: str,
        tag_names: list[Tag],
        facts: ManifestFacts,
        body: bytes,
        max_age: int | None,
        opened_before: int,
    ) -> list[str]:
        now = self._clock.now()
        where = await self._access.admit(tx, actor, Action.PUSH, address)
        repository = await self._addresses.ensure(tx, actor, address, where, now)
        await self._require_begun(tx, actor, repository, opened_before, now)
        names = sorted({tag.text for tag in tag_names})
        expires_at = None if max_age is None else now + max_age
        if names and expires_at is not None:  # before any content, as collection locks
            await retention_turns.make_due(tx, repository.id, at=expires_at)
        is_new = await self._put(tx, repository, digest, facts, body, now)
        left, new_tags = await _move_tags(tx, actor, repository, digest, names, now, expires_at)
        grew = await _account(tx, repository, digest, len(body) if is_new else 0, new_tags, now)
        if repository.source is not None:  # what was pushed ages by retention
            due_at = now + self._grace
            await collection.review_all(tx, "manifest", repository.id, left, due_at=due_at)
        pushed = Change(
            "manifest.pushed",
            "repository",
            to_text(repository.id),
            repository.path,
            repository.organisation_id,
            {"digest": digest, "tags": names}
            | ({"max_age_seconds": max_age // SECOND} if names and max_age is not None else {}),
        )
        await record(tx, actor, pushed, now=now)
        return await judge(tx, repository, grew=grew, new_tags=new_tags)

    @staticmethod
    async def _require_begun(
        tx: Transaction, actor: Actor, repository: Repository, opened_before: int, now: int
    ) -> None:
        """A right that has expired pushes the manifest of an upload it opened, nothing else."""
        if opened_before > now:
            return
        if not await uploads.has_any_since(
            tx,
            repository_id=repository.id,
            token_id=actor.token_id,
            opened_before=opened_before,
        ):
            message = "this token has expired; get a new one"
            raise Unauthenticated(message, error="invalid_token")

    async def _put(
        self,
        tx: Transaction,
        repository: Repository,
        digest: str,
        facts: ManifestFacts,
        body: bytes,
        now: int,
    ) -> bool:
        """Store the manifest with what it refers to, protected; whether it is new."""
        protected_until = now + self._grace
        found_blobs, found_children, depth = await self._hold(
            tx, repository, facts, protected_until
        )
        media_type, is_new = await manifests.put(
            tx,
            repository.id,
            digest=digest,
            media_type=facts.media_type,
            artifact_type=facts.artifact_type,
            subject=str(facts.subject) if facts.subject else None,
            annotations=facts.annotations,
            depth=depth,
            body=body,
            now=now,
            protected_until=protected_until,
        )
        if media_type != facts.media_type:
            message = f"these bytes are known here as {media_type}; a digest has one media type"
            raise ManifestInvalid(message, media_type=facts.media_type)
        await manifests.add_references(
            tx, repository.id, digest, blobs=found_blobs, children=found_children
        )
        return is_new

    async def _hold(
        self, tx: Transaction, repository: Repository, facts: ManifestFacts, until: int
    ) -> tuple[set[str], set[str], int]:
        """Lock and protect all that the manifest needs: its blobs, its children, its depth.

        In digest order, so that pushes do not deadlock. Check and insert are apart, but nothing
        can go in between: whoever deletes one of these rows must update it first, waits for us,
        and then sees our references.
        """
        held_blobs: set[str] = set()
        held_children: set[str] = set()
        missing: list[str] = []
        depth = 0
        for digest in sorted(facts.blobs | facts.children | facts.either):
            child_depth: int | None = None
            if digest in facts.children or digest in facts.either:
                child_depth = await manifests.protect(
                    tx, repository.id, digest, protected_until=until
                )
                if child_depth is not None:
                    held_children.add(digest)
                    depth = max(depth, child_depth + 1)
            if (digest in facts.blobs or (digest in facts.either and child_depth is None)) and (
                await blobs.protect(tx, repository.id, digest, protected_until=until)
            ):
                held_blobs.add(digest)
            if digest not in held_blobs and digest not in held_children:
                missing.append(digest)
        if missing:
            named = ", ".join(missing[:_NAMED_MISSING])
            message = f"push what the manifest needs first; this repository lacks {named}"
            raise ManifestBlobUnknown(message, missing=missing[:_NAMED_MISSING])
        if depth > self._index_depth:
            message = f"indexes nest at most {self._index_depth} deep"
            raise ManifestInvalid(message, depth=depth)
        return held_blobs, held_children, depth


async def _move_tags(
    tx: Transaction,
    actor: Actor,
    repository: Repository,
    digest: str,
    names: list[str],
    now: int,
    expires_at: int | None,
) -> tuple[set[str], int]:
    """Point the tags at a manifest; the ones that they pointed at, how many are new.

    Raises Denied.
    """
    left_behind: set[str] = set()
    new = 0
    for name in names:
        await require_own(tx, repository, name)
        moved = await tags.move(
            tx,
            repository.id,
            name,
            digest,
            token_id=actor.token_id,
            now=now,
            expires_at=expires_at,
        )
        new += moved.is_new
        if moved.left is not None:
            require_movable(repository, name)
            left_behind.add(moved.left)
    return left_behind, new


async def _account(
    tx: Transaction, repository: Repository, digest: str, bytes_new: int, new_tags: int, now: int
) -> bool:
    """Count what a push brought; whether its organisation has more bytes now."""
    organisation_id = repository.organisation_id
    if not bytes_new:
        await accounts.count_tags(tx, organisation_id, new_tags, now=now, id=new_id())
        return False
    return await accounts.gained(
        tx,
        organisation_id=organisation_id,
        repository_id=repository.id,
        digest=digest,
        bytes_count=bytes_new,
        now=now,
        ids=(new_id(), new_id()),
        tags=new_tags,
    )


async def require_own(tx: Transaction, repository: Repository, name: str) -> None:
    """Raises Denied for a tag of the upstream that people may not put another behind."""
    source = repository.source
    if source is None or source.may_shadow or not await tags.is_mirrored(tx, repository.id, name):
        return
    message = (
        f"the tag {name} is one of the upstream; push another tag, or allow it: "
        f"entrepot repository set {repository.path} --may-shadow"
    )
    raise Denied(message, tag=name)


def require_movable(repository: Repository, name: str) -> None:
    """Raises Denied for a tag that is immutable; raised behind the move, which it rolls back."""
    for pattern in repository.immutable_tags:
        if is_match(pattern, name):
            message = f"the tag {name} is immutable here (by {pattern}); push another tag"
            raise Denied(message, tag=name)
