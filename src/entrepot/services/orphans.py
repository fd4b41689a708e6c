"""One look of collection at manifests, links or blobs: what nothing keeps goes.

Each function is the work of one transaction over reviews of one kind and one repository. It knows
no policies: retention and people say what is an orphan, this says whether anything keeps it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from entrepot.db import accounts, collection, orphans, reachability, unused
from entrepot.db.collection import Review
from entrepot.db.database import Transaction
from entrepot.db.orphans import Place, Suspect
from entrepot.model.clock import DAY, HOUR
from entrepot.model.ids import new_id

RESTORABLE = "restorable"
PROTECTED = "protected"
NEEDED = "needed by what is restorable"
KEPT = "kept by the tag of another manifest"
READ_LATELY = "its repository is read"
IN_DELETED = "its repository is deleted"
UNCLEAR = "reaches too much"


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """Times in µs: what is deleted stays restorable, objects wait, and mirrored content is idle."""

    restore: int
    delay: int
    idle: int


@dataclass(slots=True)
class Look:
    """What one transaction found: what went, and what has to wait until when for which reason.

    `settled` is how many reviews are not due any more.
    """

    manifests: int = 0
    links: int = 0
    blobs: int = 0
    settled: int = 0
    later: dict[tuple[int, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def wait(self, digest: str, until: int, reason: str) -> None:
        """Look at this again then."""
        self.later[until, reason].append(digest)


async def look_at_links(
    tx: Transaction, reviews: Sequence[Review], limits: CollectionLimits, now: int
) -> Look:
    """Take blobs out of a repository in which nothing needs them."""
    del limits
    repository_id, digests = reviews[0].repository_id, _digests(reviews)
    look = Look()
    place = await orphans.lock_repository(tx, repository_id)
    if place is None:
        return await _end(tx, reviews, look, now)
    if place.deleted_at is not None:
        return await _leave(tx, reviews, look, now)
    await unused.lock_links(tx, repository_id, digests)
    gone = await unused.delete_links(tx, repository_id, digests, now=now)
    if gone:
        await _account(tx, place, repository_id, await unused.find_sizes(tx, gone), now)
        await collection.review_all(tx, "blob", 0, gone, due_at=now)
    left = [digest for digest in digests if digest not in gone]
    if left:
        protected = await unused.find_protected_links(tx, repository_id, left, now=now)
        for digest, until in protected.items():
            look.wait(digest, until, PROTECTED)
    look.links = len(gone)
    return await _end(tx, reviews, look, now)


async def look_at_blobs(
    tx: Transaction, reviews: Sequence[Review], limits: CollectionLimits, now: int
) -> Look:
    """Forget digests that no repository has; their objects go when the tombstones are due."""
    digests = _digests(reviews)
    await unused.lock_blobs(tx, digests)
    count = await unused.bury_blobs(tx, digests, due_at=now + limits.delay)
    return await _end(tx, reviews, Look(blobs=count), now)


async def look_at_manifests(
    tx: Transaction, reviews: Sequence[Review], limits: CollectionLimits, now: int
) -> Look:
    """Delete manifests that have waited for long enough and that nothing keeps."""
    repository_id, digests = reviews[0].repository_id, _digests(reviews)
    look = Look()
    place = await orphans.lock_repository(tx, repository_id)
    if place is None:
        return await _end(tx, reviews, look, now)
    if place.deleted_at is not None:
        return await _leave(tx, reviews, look, now)
    await orphans.lock_manifests(tx, repository_id, digests)
    suspects = await orphans.find_suspects(tx, repository_id, digests)
    going = [suspect for suspect in suspects if _may_go_by_time(suspect, look, limits, now)]
    going = await _unkept(tx, repository_id, place, going, look, limits, now)
    if going:
        await _delete(tx, repository_id, place, going, limits, now)
    look.manifests = len(going)
    return await _end(tx, reviews, look, now)


def _may_go_by_time(suspect: Suspect, look: Look, limits: CollectionLimits, now: int) -> bool:
    """Whether its time has come; what is live and no orphan is not collection's to judge."""
    waits_since = suspect.deleted_at if suspect.deleted_at is not None else suspect.orphaned_at
    if suspect.is_pushed:
        if waits_since is None:
            return False
        if waits_since + limits.restore > now:
            look.wait(suspect.digest, waits_since + limits.restore, RESTORABLE)
            return False
    if suspect.protected_until > now:
        look.wait(suspect.digest, suspect.protected_until, PROTECTED)
        return False
    return True


async def _unkept(
    tx: Transaction,
    repository_id: int,
    place: Place,
    suspects: list[Suspect],
    look: Look,
    limits: CollectionLimits,
    now: int,
) -> list[Suspect]:
    """Those of them that nothing keeps.

    An orphan that the tag of another manifest keeps stays one, which retention does not judge.
    What a person deleted is kept by an index alone, which they would have had to delete first:
    a subject or a referrer that stays does not bring it back.
    """
    asked = [s.digest for s in suspects if s.is_pushed and s.deleted_at is None]
    kept: dict[str, str] = {}
    if asked:
        kept = await reachability.find_kept(
            tx, repository_id, asked, now=now, restorable_since=now - limits.restore
        )
    tagged: set[str] = set()
    if mirrored := [s.digest for s in suspects if not s.is_pushed]:
        tagged = await orphans.find_tagged(tx, repository_id, mirrored)
    going, adopted = [], []
    for suspect in suspects:
        reason = kept.get(suspect.digest)
        if suspect.has_parent or _is_own_tag(reason):
            adopted.append(suspect.digest)
        elif reason is not None:
            _wait_for(reason, suspect, look, now)
        elif suspect.is_pushed:
            going.append(suspect)
        elif suspect.digest in tagged or suspect.has_subject:
            continue
        elif place.accessed_at + limits.idle > now:
            look.wait(suspect.digest, place.accessed_at + limits.idle, READ_LATELY)
        else:
            going.append(suspect)
    if adopted:
        await orphans.adopt(tx, repository_id, adopted)
    return going


def _is_own_tag(reason: str | None) -> bool:
    """Whether a manifest is kept by `tag v1`, not by `tag v1 of sha256:…`."""
    return reason is not None and reason.startswith("tag ") and " of " not in reason


def _wait_for(reason: str, suspect: Suspect, look: Look, now: int) -> None:
    """Look again at what is kept by others, which may go without a word."""
    if reason == reachability.TOO_MANY:
        look.wait(suspect.digest, now + DAY, UNCLEAR)
    elif reason.startswith("tag "):
        look.wait(suspect.digest, now + DAY, KEPT)
    else:
        look.wait(suspect.digest, now + HOUR, NEEDED)


async def _delete(
    tx: Transaction,
    repository_id: int,
    place: Place,
    going: list[Suspect],
    limits: CollectionLimits,
    now: int,
) -> None:
    """Delete manifests; what hung below them goes with its last root, at once."""
    digests = [suspect.digest for suspect in going]
    below = await orphans.find_below(tx, repository_id, digests)
    ended = await orphans.end_tags(tx, repository_id, digests, now=now)
    hanging = {digest for kind, digest in below if kind == "below"}.difference(digests)
    beside = {digest for kind, digest in below if kind == "beside"}.difference(digests)
    if hanging:
        await orphans.orphan(tx, repository_id, hanging, since=now - limits.restore)
    await orphans.delete_manifests(tx, repository_id, digests)
    sizes = {suspect.digest: suspect.size for suspect in going}
    await _account(tx, place, repository_id, sizes, now, tags=ended)
    links = {digest for kind, digest in below if kind == "link"}
    await collection.review_all(tx, "link", repository_id, links, due_at=now)
    await collection.review_all(tx, "manifest", repository_id, hanging | beside, due_at=now)


async def _account(
    tx: Transaction,
    place: Place,
    repository_id: int,
    sizes: dict[str, int],
    now: int,
    tags: int = 0,
) -> None:
    await accounts.lost(
        tx,
        organisation_id=place.organisation_id,
        repository_id=repository_id,
        sizes=sizes,
        now=now,
        ids=(new_id(), new_id()),
        tags=tags,
    )


async def _leave(tx: Transaction, reviews: Sequence[Review], look: Look, now: int) -> Look:
    """A deleted repository can be restored with all that it had; then it goes as a whole."""
    for review in reviews:
        look.wait(review.digest, now + DAY, IN_DELETED)
    return await _end(tx, reviews, look, now)


async def _end(tx: Transaction, reviews: Sequence[Review], look: Look, now: int) -> Look:
    """Settle the reviews, and count what went."""
    waiting: set[str] = set()
    for (until, reason), digests in look.later.items():
        waiting.update(digests)
        later = [review for review in reviews if review.digest in set(digests)]
        look.settled += await collection.postpone(tx, later, due_at=until, reason=reason)
    look.settled += await collection.finish(tx, [r for r in reviews if r.digest not in waiting])
    if look.manifests or look.links:
        await collection.count_gone(tx, day=now // DAY, manifests=look.manifests, links=look.links)
    return look


def _digests(reviews: Iterable[Review]) -> list[str]:
    return sorted(review.digest for review in reviews)
