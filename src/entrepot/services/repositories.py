"""Repositories: listing, making, changing and deleting them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from entrepot.db import (
    accounts,
    collection,
    installation,
    lookups,
    organisations,
    projects,
    repositories,
    tag_patterns,
    tags,
    uploads,
)
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.errors import Denied, FieldInvalid, NameUnknown, NotFound, Stale, Taken
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import RepositoryName
from entrepot.model.tenancy import Change, Organisation, RepositoryFacts
from entrepot.services import pull_through
from entrepot.services.access import Access, require_writable
from entrepot.services.addresses import DEFAULT_ORGANISATION, NO_REPOSITORY, Address, Addresses
from entrepot.services.audit import record
from entrepot.services.organisations import NONE_PUBLIC, STALE, require_version
from entrepot.services.pull_through import UpstreamPath
from entrepot.services.quotas import require_repository

PATTERNS = 50  # of a repository, of each kind
PATTERN = r"[A-Za-z0-9._*-]{1,128}"

_SCAN = 1_000  # repositories that one statement looks at for a caller who may see few
_PATTERN = re.compile(PATTERN)
_POLICIES = frozenset({"is_public", "is_read_only", "immutable_tags", "protected_tags", "upstream"})


@dataclass(frozen=True, slots=True)
class RepositoryFilter:
    """Which repositories: the one at `path`, those with `part` in their path."""

    path: str | None = None
    part: str = ""


class Repositories:
    """What can be done to repositories as a whole. A deletion can be undone for `window` µs."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        addresses: Addresses,
        *,
        window: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self.window = window

    async def page(
        self,
        actor: Actor,
        organisation: str,
        wanted: RepositoryFilter,
        *,
        after: str,
        limit: int,
    ) -> tuple[list[RepositoryFacts], bool]:
        """Up to `limit` repositories that the caller may pull, by path, and whether more follow.

        Others leave no trace: a page neither ends at one nor tells that one follows.
        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read() as tx:
            actor = await self._access.known(tx, actor)
            entered = await self._access.enter(tx, actor, Action.BROWSE, organisation)
        return await self.visible(
            actor, entered, path=wanted.path, part=wanted.part, after=after, limit=limit
        )

    async def visible(
        self,
        actor: Actor,
        organisation: Organisation,
        *,
        path: str | None = None,
        part: str = "",
        project_id: int | None = None,
        after: str,
        limit: int,
    ) -> tuple[list[RepositoryFacts], bool]:
        """The part of `page` behind the door: `actor` is known, and was let into `organisation`."""
        found: list[RepositoryFacts] = []
        size = limit + 1
        while True:
            async with self._database.read(scan=True) as tx:
                batch = await repositories.find_all(
                    tx,
                    organisation.id,
                    path=path,
                    part=part.lower(),  # paths have no capitals
                    project_id=project_id,
                    after=after,
                    limit=size,
                )
            found.extend(
                facts
                for facts in batch
                if Action.PULL in self._access.allowed(actor.credential, _row(facts, organisation))
            )
            if len(found) > limit or len(batch) < size:
                return found[:limit], len(found) > limit
            after, size = batch[-1].path, _SCAN

    async def get(self, actor: Actor, repository_id: int) -> RepositoryFacts:
        """One repository. Raises Unauthenticated, NotFound."""
        async with self._database.read() as tx:
            await self._access.enter_repository(tx, actor, Action.PULL, repository_id)
            return await _facts(tx, repository_id)

    async def create(
        self,
        actor: Actor,
        organisation: str,
        path: str,
        policies: Mapping[str, object],
        *,
        chosen: UpstreamPath | None = None,
    ) -> RepositoryFacts:
        """Make a repository; any policy but the usual takes who may manage repositories.

        With `chosen` it comes from there, if the caller may use that upstream.
        Raises NameInvalid, FieldInvalid, Taken, Unauthenticated, NotFound, Denied.
        """
        name = RepositoryName.parse(path)
        require_policies(policies)
        policies = {field: value for field, value in policies.items() if value}
        repository_id = new_id()

        async def work(tx: Transaction) -> RepositoryFacts:
            now = self._clock.now()
            known, entered, place = await self._enter_new(
                tx, actor, organisation, name, policies, makes=True
            )
            existing = await repositories.find(tx, place)
            if existing is not None and existing.id == repository_id:
                return await _facts(tx, repository_id)  # made by this, before an unknown COMMIT
            if chosen is not None:
                pull_through.require_no_project(place)
            await self.require_free(tx, entered, name, existing, is_hosted=chosen is None)
            details: dict[str, object] = {"by": "api"}
            source = None
            if chosen is not None:
                source = (await pull_through.use(tx, self._access, known, entered, chosen)).source
                details |= {"upstream": chosen.upstream.name, "upstream_path": chosen.path}
            await repositories.ensure(tx, place, new_id=repository_id, now=now, source=source)
            await require_repository(tx, place)
            made = await _facts(tx, repository_id)
            if policies:
                made = await _update(tx, entered, made, policies)
            await record(tx, actor, _change("repository.created", made, details), now=now)
            return made

        return await self._database.write(work)

    async def require_creatable(
        self,
        actor: Actor,
        organisation: str,
        path: str,
        policies: Mapping[str, object],
    ) -> tuple[Actor, Organisation]:
        """Judge whether a pull-through repository could be made now; by whom, and where.

        Raises what `create` does.
        """
        name = RepositoryName.parse(path)
        require_policies(policies)
        async with self._database.read() as tx:
            known, entered, place = await self._enter_new(tx, actor, organisation, name, policies)
            existing = await repositories.find(tx, place)
            pull_through.require_no_project(place)
            await self.require_free(tx, entered, name, existing, is_hosted=False)
        return known, entered

    async def _enter_new(
        self,
        tx: Transaction,
        actor: Actor,
        organisation: str,
        name: RepositoryName,
        policies: Mapping[str, object],
        *,
        makes: bool = False,
    ) -> tuple[Actor, Organisation, Place]:
        """Who asks, the organisation, and where the repository would be.

        `makes`: it is about to be made, so no new slug or project id may come in between.
        Raises Unauthenticated, NotFound, Denied.
        """
        known = await self._access.known(tx, actor)
        entered = await self._access.enter(tx, known, Action.BROWSE, organisation)
        if makes:
            await installation.lock(tx, DEFAULT_ORGANISATION)
        address = Address(entered.public_id, name)
        place = await self._addresses.place(tx, address)
        self._access.require(known, Action.CREATE_REPOSITORY, place, address)
        if any(policies.values()):
            self._access.require(known, Action.MANAGE_REPOSITORY, place, address)
        return known, entered, place

    async def require_free(
        self,
        tx: Transaction,
        organisation: Organisation,
        name: RepositoryName,
        existing: Repository | None,
        *,
        is_hosted: bool,
    ) -> None:
        """The path must be nobody's, and lead here by the short form too. Raises Taken.

        In the default organisation a path may begin with the slug or project id of somebody else:
        what lies behind it would be hidden.
        """
        if existing is not None:
            message = "there is a repository at this path already"
            if not is_hosted:
                message += (
                    "; what one comes from can be neither added nor changed: choose another path"
                )
            raise Taken(message, field="path")
        if await installation.find(tx, DEFAULT_ORGANISATION) != str(organisation.id):
            return
        own = Address(organisation.public_id, name)
        try:
            is_reached = await self._addresses.place(
                tx, Address(None, name)
            ) == await self._addresses.place(tx, own)
        except NameUnknown:
            is_reached = False
        if not is_reached:
            message = (
                f"addresses that begin with {name.first}/ lead to the organisation or project of"
                " that name; choose another path, or make a repository there:"
                f" entrepot repository create {name.first}/NAME"
            )
            raise Taken(message, field="path")

    async def update(
        self,
        actor: Actor,
        repository_id: int,
        policies: Mapping[str, object],
        *,
        version: int | None,
    ) -> RepositoryFacts:
        """Change policies: fields of `RepositoryFacts` by name; what is not named stays.

        `version` is the one that the caller read; None changes whatever there is.
        Raises FieldInvalid, Stale, Unauthenticated, NotFound, Denied.
        """
        require_policies(policies)

        async def work(tx: Transaction) -> RepositoryFacts:
            row = await self._access.enter_repository(
                tx, actor, Action.MANAGE_REPOSITORY, repository_id
            )
            organisation = await organisations.get(tx, row.organisation_id)
            if organisation is None:
                raise NotFound(NO_REPOSITORY)
            before = await _facts(tx, repository_id)
            require_version(before.version, version)
            changed = await _update(tx, organisation, before, policies)
            details = {name: policies[name] for name in sorted(policies)}
            change = _change("repository.changed", before, details)
            await record(tx, actor, change, now=self._clock.now())
            return changed

        return await self._database.write(work)

    async def delete(self, actor: Actor, repository_id: int, *, version: int | None) -> int:
        """Delete a repository; until when it can be restored. Its path is free again at once.

        Raises Denied (also while it is read-only or has tags that are kept), Stale,
        Unauthenticated, NotFound.
        """

        async def work(tx: Transaction) -> int:
            repository = await self._access.enter_repository(
                tx, actor, Action.MANAGE_REPOSITORY, repository_id
            )
            require_version((await _facts(tx, repository_id)).version, version)
            now = self._clock.now()
            await self.remove(tx, actor, repository, now=now)
            return now + self.window

        return await self._database.write(work)

    async def remove(
        self, tx: Transaction, actor: Actor, repository: Repository, *, now: int
    ) -> None:
        """Delete a repository, the caller's right to which was judged. Raises Denied, Stale.

        Its content is left to collection, which finds it by the review of the repository itself.
        """
        require_writable(repository)
        found = await _facts(tx, repository.id)
        if not await repositories.delete(tx, repository.id, version=found.version, now=now):
            raise Stale(STALE)
        for pattern in (*repository.immutable_tags, *repository.protected_tags):
            name = await tag_patterns.find_match(tx, repository.id, pattern)
            if name is not None:
                message = f"the tag {name} is kept here by the pattern {pattern}"
                raise Denied(message, tag=name)
        pushed = await tags.end_all(tx, repository.id, token_id=actor.token_id, now=now)
        owner = repository.organisation_id
        await accounts.count_tags(tx, owner, -pushed, now=now, id=new_id())
        await lookups.forget_all(tx, repository.id)
        await projects.unlink_all_of(tx, repository.id)
        await uploads.end_all_of(tx, repository.id)
        await collection.review(tx, "repository", repository.id, "", due_at=now + self.window)
        await record(tx, actor, _change("repository.deleted", found), now=now)


def require_policies(policies: Mapping[str, object]) -> None:
    """Raises FieldInvalid for what is no policy, and for patterns over a limit."""
    for field, value in policies.items():
        if field not in _POLICIES:
            raise FieldInvalid(f"{field} is no policy of a repository", field=field)
        if isinstance(value, Mapping):
            pull_through.require_fields(value)
        if not isinstance(value, tuple):
            continue
        if len(value) > PATTERNS or not all(_PATTERN.fullmatch(pattern) for pattern in value):
            message = (
                f"at most {PATTERNS} patterns of 1 to 128 letters, digits, dots, dashes, "
                "underscores and *"
            )
            raise FieldInvalid(message, field=field)


async def _update(
    tx: Transaction,
    organisation: Organisation,
    before: RepositoryFacts,
    policies: Mapping[str, object],
) -> RepositoryFacts:
    """Store policies. Raises Denied, Stale."""
    if policies.get("is_public") and not organisation.allows_public:
        raise Denied(NONE_PUBLIC, field="is_public")
    policies = dict(policies)
    if isinstance(fields := policies.get("upstream"), Mapping):
        if before.upstream is None:
            raise FieldInvalid(pull_through.IS_FIXED, field="upstream")
        policies["upstream"] = pull_through.changed(before.upstream, fields)
    changed = replace(before, **policies)  # type: ignore[arg-type]  # by require_policies
    if not await repositories.update(tx, changed):
        raise Stale(STALE)
    return replace(changed, version=before.version + 1)


async def _facts(tx: Transaction, repository_id: int) -> RepositoryFacts:
    """What is known of a repository. Raises NotFound when it went just now."""
    found = await repositories.get(tx, repository_id)
    if found is None:
        raise NotFound(NO_REPOSITORY)
    return found


def _row(facts: RepositoryFacts, organisation: Organisation) -> Repository:
    """What the judge needs to know to let somebody pull."""
    return Repository(
        facts.id,
        facts.organisation_id,
        facts.path,
        facts.project_id,
        is_public=facts.is_public and organisation.allows_public,
    )


def _change(
    action: str, facts: RepositoryFacts, details: Mapping[str, object] | None = None
) -> Change:
    return Change(
        action, "repository", to_text(facts.id), facts.path, facts.organisation_id, details or {}
    )
