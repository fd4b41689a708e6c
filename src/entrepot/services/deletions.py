"""Repositories and projects that were deleted: which can come back until when, and their return."""

from entrepot.db import (
    accounts,
    deletions,
    installation,
    organisations,
    orphans,
    projects,
    repositories,
    tag_history,
    upstreams,
)
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.clock import HOUR, Clock
from entrepot.model.errors import Denied, NotFound, Taken, Unsupported
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import RepositoryName
from entrepot.model.tenancy import Change, Project, RepositoryFacts
from entrepot.model.undo import Deleted
from entrepot.services.access import Access, require_writable
from entrepot.services.addresses import DEFAULT_ORGANISATION, NO_REPOSITORY
from entrepot.services.audit import record
from entrepot.services.projects import Projects, require_no_repository, require_room
from entrepot.services.quotas import judge, require_repository
from entrepot.services.repositories import Repositories

_AT_ONCE = 1_000  # tags that one statement brings back


class Deletions:
    """Undoes deletions while they can be undone; what is there stays as it is.

    Whoever could delete something can bring it back. What was revoked or unlinked with it stays so.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        repositories_: Repositories,
        projects_: Projects,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._repositories = repositories_
        self._projects = projects_
        self._window = repositories_.window

    async def page(
        self, actor: Actor, organisation: str, *, before: int, limit: int
    ) -> tuple[list[Deleted], bool]:
        """Up to `limit` of what an organisation lost and can have back, and whether more follow.

        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read(scan=True) as tx:
            entered = await self._access.enter(tx, actor, Action.MANAGE_REPOSITORY, organisation)
            found = await deletions.page(
                tx,
                entered.id,
                since=self._clock.now() - self._window,
                before=before,
                limit=limit + 1,
            )
        return found[:limit], len(found) > limit

    def until(self, deleted_at: int) -> int:
        """When what was deleted then cannot be restored any more."""
        return deleted_at + self._window

    async def repository(self, actor: Actor, repository_id: int) -> RepositoryFacts:
        """Bring a repository back with its policies and tags, as they were at its deletion.

        Raises Taken (something has its path), Unsupported (its upstream or project is gone),
        Denied, Unauthenticated, NotFound (also when it is too late).
        """

        async def work(tx: Transaction) -> RepositoryFacts:
            known = await self._access.known(tx, actor)
            found = await deletions.find_repository(tx, repository_id)
            if found is None:  # never, for ever, or not at all: then it stays as it is
                await self._access.enter_repository(
                    tx, known, Action.MANAGE_REPOSITORY, repository_id
                )
            else:
                self._require_able(known, found[0])
                await self._return(tx, known, repository_id)
            facts = await repositories.get(tx, repository_id)
            if facts is None:
                raise NotFound(NO_REPOSITORY)
            return facts

        return await self._database.write(work)

    async def project(self, actor: Actor, public_id: str) -> Project:
        """Bring a project back, with the builds that went with it; its tokens and links are gone.

        Raises Taken (a repository has the address of its builds), Denied, Unauthenticated,
        NotFound (also when it is too late).
        """

        async def work(tx: Transaction) -> Project:
            known = await self._access.known(tx, actor)
            await installation.lock(tx, DEFAULT_ORGANISATION)
            found = await deletions.find_project(tx, public_id)
            if found is None:
                return await self._projects.enter(tx, known, Action.MANAGE_PROJECT, public_id)
            project, deleted_at = found
            await self._projects.require(tx, known, Action.MANAGE_PROJECT, project)
            self._require_in_time(deleted_at, "project")
            organisation = await self._access.enter(
                tx, known, Action.MANAGE_PROJECT, project.organisation_id
            )
            await require_no_repository(tx, organisation, public_id, field="id")
            await require_room(tx, organisation)
            await deletions.restore_project(tx, project.id)
            place = await projects.find_place(tx, public_id)
            if place is None:
                raise AssertionError("a project that was just restored is there")
            require_writable(place)
            builds = await deletions.find_builds(tx, project, deleted_at=deleted_at)
            if builds is not None:
                await self._return(tx, known, builds)
            change = Change(
                "project.restored",
                "project",
                public_id,
                project.name,
                project.organisation_id,
                {"builds": builds is not None},
            )
            await record(tx, known, change, now=self._clock.now())
            restored = await projects.find(tx, public_id)
            if restored is None:
                raise AssertionError("a project that was just restored is there")
            return restored

        return await self._database.write(work)

    def _require_able(self, actor: Actor, repository: Repository) -> None:
        """Raises NotFound to whoever could not see it, Denied to who could not delete it."""
        actions = self._access.allowed(actor.credential, repository)
        if not actions & {Action.MANAGE_REPOSITORY, Action.BROWSE}:
            raise NotFound(NO_REPOSITORY)
        if Action.MANAGE_REPOSITORY not in actions:
            message = "whoever may delete a repository may restore it; ask an administrator"
            raise Denied(message, action=str(Action.MANAGE_REPOSITORY))

    async def _return(self, tx: Transaction, actor: Actor, repository_id: int) -> None:
        """Bring a repository back. Its row is locked, so that the purge of it is not under way."""
        await installation.lock(tx, DEFAULT_ORGANISATION)
        place = await orphans.lock_repository(tx, repository_id)
        found = await deletions.find_repository(tx, repository_id)
        if place is None or found is None:
            raise NotFound(NO_REPOSITORY)  # purged, or somebody else was faster
        repository, deleted_at = found
        self._require_in_time(deleted_at, "repository")
        require_writable(repository)
        await self._require_place(tx, repository)
        now = self._clock.now()
        await deletions.restore_repository(tx, repository_id, retention_due_at=now + self._window)
        count, pushed = await self._return_tags(tx, actor, repository_id, deleted_at, now)
        owner = repository.organisation_id
        await accounts.count_tags(tx, owner, pushed, now=now, id=new_id())
        quota = Place(owner, repository.path, quota=repository.quota)
        await require_repository(tx, quota)
        change = Change(
            "repository.restored",
            "repository",
            to_text(repository_id),
            repository.path,
            owner,
            {"tags": count},
        )
        await record(tx, actor, change, now=now)
        await judge(tx, quota, grew=False, new_tags=pushed)

    @staticmethod
    async def _return_tags(
        tx: Transaction, actor: Actor, repository_id: int, deleted_at: int, now: int
    ) -> tuple[int, int]:
        """Bring back the tags that went with their repository; how many, and how many pushed."""
        count = pushed = 0
        after = ""
        while ended := await tag_history.page_of_ended(
            tx, repository_id, by="repository", since=deleted_at, after=after, limit=_AT_ONCE
        ):
            names = [name for name, _ in ended]
            back = await tag_history.reopen(
                tx, repository_id, names, token_id=actor.token_id, now=now
            )
            count, pushed, after = count + len(back), pushed + sum(back.values()), names[-1]
        return count, pushed

    async def _require_place(self, tx: Transaction, repository: Repository) -> None:
        """Its path is free, leads here, and has what it had. Raises Taken, Unsupported, NotFound.

        The lock of new names is held.
        """
        organisation = await organisations.get(tx, repository.organisation_id)
        if organisation is None:
            raise NotFound(NO_REPOSITORY)
        path = f"{organisation.slug}/{repository.path}"
        if await repositories.find(tx, Place(organisation.id, repository.path)) is not None:
            message = f"another repository is at {path} by now; delete that one first"
            raise Taken(message, field="path")
        if repository.project_id is not None:
            builds = await projects.find_place(tx, repository.path)
            if builds is None or builds.organisation_id != organisation.id:
                message = (
                    f"{repository.path} held the builds of a project that is not there; restore "
                    f"the project: entrepot project restore {repository.path}"
                )
                raise Unsupported(message, path=repository.path)
            return
        if repository.source is not None:
            upstream = await upstreams.get(tx, repository.source.upstream_id)
            if upstream is None:
                message = f"the upstream that {path} came from was removed; make it anew"
                raise Unsupported(message, path=repository.path)
        name = RepositoryName.parse(repository.path)
        await self._repositories.require_free(tx, organisation, name, None, is_hosted=True)

    def _require_in_time(self, deleted_at: int, what: str) -> None:
        """Raises NotFound once it is too late: then it may be half gone."""
        if self.until(deleted_at) <= self._clock.now():
            hours = f"{self._window / HOUR:g} h"
            message = f"this {what} was deleted longer than {hours} ago, and is gone"
            raise NotFound(message)
