"""Projects: making, renaming, moving and deleting them, and their links to repositories."""

from dataclasses import replace

from entrepot.db import (
    accounts,
    installation,
    organisations,
    projects,
    repositories,
    tokens,
    uploads,
)
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.errors import Denied, FieldInvalid, NotFound, Stale, Taken
from entrepot.model.ids import new_id, new_public_id, to_text
from entrepot.model.tenancy import Change, Organisation, Project, RepositoryFacts
from entrepot.services.access import Access, require_writable
from entrepot.services.addresses import DEFAULT_ORGANISATION, NO_REPOSITORY
from entrepot.services.audit import record
from entrepot.services.organisations import (
    STALE,
    require_free,
    require_public_id,
    require_version,
)
from entrepot.services.quotas import judge, require_repository
from entrepot.services.repositories import Repositories

PROJECTS = 10_000  # of one organisation
LINKS = 100  # repositories that one project may be linked to


class Projects:
    """What can be done to projects. `repositories` deletes the one that holds a project's builds.

    A project is found by its id first and judged in its organisation: whoever may not browse that
    hears what they would hear of an id that is nobody's.
    """

    def __init__(
        self, database: Database, clock: Clock, access: Access, repositories_: Repositories
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._repositories = repositories_

    async def page(
        self, actor: Actor, organisation: str, *, after: str, limit: int
    ) -> tuple[list[Project], bool]:
        """Up to `limit` projects of an organisation, by id, and whether more follow.

        Raises Unauthenticated, NotFound, Denied.
        """
        async with self._database.read(scan=True) as tx:
            entered = await self._access.enter(tx, actor, Action.BROWSE, organisation)
            found = await projects.page(tx, entered.id, after=after, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def get(self, actor: Actor, public_id: str) -> Project:
        """One project. Raises Unauthenticated, NotFound."""
        async with self._database.read() as tx:
            return await self.enter(tx, actor, Action.BROWSE, public_id)

    async def create(
        self, actor: Actor, organisation: str, name: str, *, public_id: str | None = None
    ) -> Project:
        """Make a project; with an id of the caller's own it is one that moved here.

        Raises FieldInvalid, Taken, Unauthenticated, NotFound, Denied.
        """
        require_public_id(public_id)
        project_id, public_id = new_id(), public_id or new_public_id()

        async def work(tx: Transaction) -> Project:
            entered = await self._access.enter(tx, actor, Action.CREATE_PROJECT, organisation)
            if (made := await projects.find(tx, public_id)) is not None and made.id == project_id:
                return made  # by this, before an unknown COMMIT
            await require_free(tx, public_id, field="id")
            await require_no_repository(tx, entered, public_id, field="id")
            await require_room(tx, entered)
            now = self._clock.now()
            await projects.add(
                tx,
                id=project_id,
                public_id=public_id,
                organisation_id=entered.id,
                name=name,
                now=now,
            )
            made = await projects.find(tx, public_id)
            if made is None:
                raise AssertionError("a project that was just made is there")
            await self._record(tx, actor, "project.created", made)
            return made

        return await self._database.write(work)

    async def rename(
        self, actor: Actor, public_id: str, name: str, *, version: int | None
    ) -> Project:
        """Give a project another name; its id stays. Raises Stale, Unauthenticated, NotFound, ….

        `version` is the one that the caller read; None changes whatever there is.
        """

        async def work(tx: Transaction) -> Project:
            found = await self.enter(tx, actor, Action.MANAGE_PROJECT, public_id)
            require_version(found.version, version)
            renamed = replace(found, name=name)
            if not await projects.update(tx, renamed):
                raise Stale(STALE)
            await self._record(tx, actor, "project.renamed", found, {"to": name})
            return replace(renamed, version=found.version + 1)

        return await self._database.write(work)

    async def delete(self, actor: Actor, public_id: str, *, version: int | None) -> int:
        """Delete a project with its tokens, links and builds; until when it can be restored.

        Its id is never given again.

        Raises Denied (also where its builds are read-only or have tags that are kept), Stale,
        Unauthenticated, NotFound.
        """

        async def work(tx: Transaction) -> int:
            found = await self.enter(tx, actor, Action.MANAGE_PROJECT, public_id)
            require_version(found.version, version)
            builds = await self._builds(tx, found)
            now = self._clock.now()
            if not await projects.delete(tx, found, now=now):
                raise Stale(STALE)
            await tokens.revoke_of_project(tx, found.id, now)
            await projects.unlink_all(tx, found.id)
            if isinstance(builds, Repository):
                await self._repositories.remove(tx, actor, builds, now=now)
            await self._record(tx, actor, "project.deleted", found)
            return now + self._repositories.window

        return await self._database.write(work)

    async def transfer(
        self, actor: Actor, public_id: str, organisation: str, *, version: int | None
    ) -> Project:
        """Give a project and its builds to another organisation, where it has the same id.

        Nothing of before works there: its tokens are revoked, its links removed, open uploads end,
        its builds are not public. To move it to where it is changes nothing.
        Raises Denied (also where either side is read-only), Taken, Stale, Unauthenticated and
        NotFound.
        """
        ids = ((new_id(), new_id()), (new_id(), new_id()))

        async def work(tx: Transaction) -> Project:
            found = await self.enter(tx, actor, Action.MANAGE_PROJECT, public_id)
            target = await self._access.enter(tx, actor, Action.CREATE_PROJECT, organisation)
            if target.id == found.organisation_id:
                return found
            require_version(found.version, version)
            # A new repository and a project that comes must not both have the path.
            await installation.lock(tx, DEFAULT_ORGANISATION)
            builds = await self._builds(tx, found)
            place = await organisations.find_place(tx, target.public_id, public_id)
            if place is not None:
                require_writable(place)
            await require_no_repository(tx, target, public_id, field="organisation")
            await require_room(tx, target)
            there = replace(
                found,
                organisation_id=target.id,
                organisation_public_id=target.public_id,
                organisation_slug=target.slug,
            )
            if not await projects.update(tx, there):
                raise Stale(STALE)
            now = self._clock.now()
            await tokens.revoke_of_project(tx, found.id, now)
            await projects.unlink_all(tx, found.id)
            if isinstance(builds, Repository):
                await self._move(tx, builds, target.id, now, ids)
                if place is not None:
                    await require_repository(tx, place)
            moved: dict[str, object] = {"from": found.organisation_slug, "to": target.slug}
            for project in (found, there):  # a line in the log of each organisation
                await self._record(tx, actor, "project.transferred", project, moved)
            if isinstance(builds, Repository) and place is not None:
                await judge(tx, place, grew=True, new_tags=1)
            return replace(there, version=found.version + 1)

        return await self._database.write(work)

    @staticmethod
    async def _move(
        tx: Transaction,
        builds: Repository,
        organisation_id: int,
        now: int,
        ids: tuple[tuple[int, int], tuple[int, int]],
    ) -> None:
        """Move the repository with all that is counted for it.

        Its sessions end first: a blob that is being committed has locked its own, so that what
        follows sees its link, or finds its session ended and fails.
        """
        await repositories.transfer(tx, builds.id, organisation_id)
        await uploads.end_all_of(tx, builds.id)
        await projects.unlink_all_of(tx, builds.id)
        before = builds.organisation_id
        await accounts.lost_all(
            tx, organisation_id=before, repository_id=builds.id, now=now, ids=ids[0]
        )
        await accounts.gained_all(
            tx, organisation_id=organisation_id, repository_id=builds.id, now=now, ids=ids[1]
        )

    async def linked(
        self, actor: Actor, public_id: str, *, after: str, limit: int
    ) -> tuple[list[RepositoryFacts], bool]:
        """Up to `limit` repositories that a project is linked to, by path, and whether more follow.

        Those that the caller may pull. Raises Unauthenticated, NotFound.
        """
        async with self._database.read() as tx:
            actor = await self._access.known(tx, actor)
            found = await self.enter(tx, actor, Action.BROWSE, public_id)
            entered = await self._access.enter(tx, actor, Action.BROWSE, found.organisation_id)
        return await self._repositories.visible(
            actor, entered, project_id=found.id, after=after, limit=limit
        )

    async def link(self, actor: Actor, public_id: str, repository_id: int) -> None:
        """Let a project's credentials use a repository of its organisation; again changes nothing.

        Raises FieldInvalid (more than LINKS), Unauthenticated, NotFound, Denied.
        """

        async def work(tx: Transaction) -> None:
            found = await self.enter(tx, actor, Action.MANAGE_PROJECT, public_id)
            repository = await repositories.get(tx, repository_id)
            if repository is None or repository.organisation_id != found.organisation_id:
                raise NotFound(NO_REPOSITORY)
            if not await projects.lock(tx, found):
                raise NotFound(NO_PROJECT)
            if not await projects.link(tx, found.id, repository_id, now=self._clock.now()):
                return
            if await projects.count_links(tx, found.id) > LINKS:
                message = f"a project is linked to at most {LINKS} repositories; unlink one first"
                raise FieldInvalid(message, field="repository")
            await self._record(tx, actor, "project.linked", found, _named(repository))

        await self._database.write(work)

    async def unlink(self, actor: Actor, public_id: str, repository_id: int) -> None:
        """Take a repository from a project's credentials.

        Raises Unauthenticated, NotFound (also where there is no such link), Denied.
        """

        async def work(tx: Transaction) -> None:
            found = await self.enter(tx, actor, Action.MANAGE_PROJECT, public_id)
            repository = await repositories.get(tx, repository_id)
            if repository is None or not await projects.unlink(tx, found.id, repository_id):
                raise NotFound("this project is not linked to such a repository")
            await self._record(tx, actor, "project.unlinked", found, _named(repository))

        await self._database.write(work)

    async def enter(self, tx: Transaction, actor: Actor, action: Action, public_id: str) -> Project:
        """The project, to somebody who may do `action` in its organisation now.

        Raises Unauthenticated, NotFound (also to whoever may not see it), Denied.
        """
        actor = await self._access.known(tx, actor)
        found = await projects.find(tx, public_id)
        if found is None:
            raise NotFound(NO_PROJECT)
        await self.require(tx, actor, action, found)
        return found

    async def require(
        self, tx: Transaction, actor: Actor, action: Action, project: Project
    ) -> None:
        """Raises NotFound, Denied unless somebody who is known may do that to a project."""
        actions = self._access.allowed_in(actor.credential, project.organisation_id)
        if not actions & {action, Action.BROWSE}:
            raise NotFound(NO_PROJECT)
        await self._access.enter(tx, actor, action, project.organisation_id)

    @staticmethod
    async def _builds(tx: Transaction, project: Project) -> Repository | Place:
        """The repository of a project's builds, or where it would be. Raises Denied, NotFound."""
        place = await projects.find_place(tx, project.public_id)
        if place is None or place.organisation_id != project.organisation_id:
            raise NotFound(NO_PROJECT)
        found = await repositories.find(tx, place)
        is_its_own = found is not None and found.project_id == project.id
        builds = found if found is not None and is_its_own else place
        require_writable(builds)
        return builds

    async def _record(
        self,
        tx: Transaction,
        actor: Actor,
        action: str,
        project: Project,
        details: dict[str, object] | None = None,
    ) -> None:
        change = Change(
            action,
            "project",
            project.public_id,
            project.name,
            project.organisation_id,
            details or {},
        )
        await record(tx, actor, change, now=self._clock.now())


NO_PROJECT = "no such project, or none that you may see"


async def require_no_repository(
    tx: Transaction, organisation: Organisation, public_id: str, *, field: str
) -> None:
    """The path of a project's builds must be free: what is there is not the project's.

    Raises Taken.
    """
    if await repositories.find(tx, Place(organisation.id, public_id)) is not None:
        message = f"{organisation.slug} has a repository called {public_id}; delete it first"
        raise Taken(message, field=field)


async def require_room(tx: Transaction, organisation: Organisation) -> None:
    """Raises Denied."""
    if await projects.count(tx, organisation.id, limit=PROJECTS) >= PROJECTS:
        raise Denied(f"{organisation.slug} has {PROJECTS:,} projects; delete some first")


def _named(repository: RepositoryFacts) -> dict[str, object]:
    return {"repository": to_text(repository.id), "path": repository.path}
