"""Where a name leads: the one place that knows every form of address.

1. `{org}.{host}/any/path`: the sub-domain is an organisation, by id or slug.
2. `{host}/{org}/any/path`: the first component is an organisation.
3. `{host}/{project-id}`: the repository of a project's builds.
4. `{host}/any/path`: the default organisation.

The first match wins. Slugs and project ids are refused when the default organisation has a
repository that begins with them (`services.tenancy`), so 2 and 3 never hide what 4 held before; and
4 never takes over what was an organisation or project once.

What a path then names may be below a namespace mirror (`services.namespaces`): a place where no
repository is says where one would come from.
"""

from dataclasses import dataclass, replace

from entrepot.db import installation, organisations, projects, repositories
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Actor, Place, Repository
from entrepot.model.errors import Conflict, NameUnknown
from entrepot.model.ids import new_id, to_text
from entrepot.model.names import RepositoryName, is_public_id
from entrepot.model.tenancy import Change
from entrepot.services import namespaces
from entrepot.services.audit import record
from entrepot.services.quotas import require_repository

DEFAULT_ORGANISATION = "default_organisation"


@dataclass(frozen=True, slots=True)
class Address:
    """A repository as a request names it: by a label of the host, if any, and a path.

    `ns` is the registry in whose name a mirror's client asks, in small letters; mostly empty.
    """

    label: str | None
    name: RepositoryName
    ns: str = ""


class Addresses:
    """From addresses to places and repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def where(self, address: Address) -> Repository | Place | None:
        """The repository; or the place where one could be; or nothing."""
        async with self._database.read() as tx:
            try:
                return await self.find(tx, address)
            except NameUnknown:
                return None

    async def organisation_of(self, label: str | None) -> int | None:
        """The organisation of a host's label, or the default one."""
        async with self._database.read() as tx:
            if label is not None:
                place = await organisations.find_place(tx, label, "")
            else:
                place = await organisations.find_default_place(tx, "")
        return place.organisation_id if place is not None else None

    async def place(self, tx: Transaction, address: Address) -> Place:
        """Where an address leads now. Raises NameUnknown."""
        place = await self._place(tx, address)
        if address.ns and place.project_id is None:
            return await namespaces.lead(tx, place, address.ns) or place
        return place

    async def _place(self, tx: Transaction, address: Address) -> Place:
        """The same, by host and path alone."""
        name = address.name
        if address.label is not None:
            place = await organisations.find_place(tx, address.label, name.text)
            return await self._within(tx, place, name)
        place = await organisations.find_start(tx, name.first, name.rest)
        if place is None and is_public_id(name.first) and not name.rest:
            place = await projects.find_place(tx, name.first)
        # Else it was somebody's who is gone. Whoever still pulls by it must not get what somebody
        # else has put there since.
        return await self._within(tx, place if place and place.path else None, name)

    async def find(self, tx: Transaction, address: Address) -> Repository | Place:
        """The repository there, or the place where one could be. Raises NameUnknown."""
        place = await self.place(tx, address)
        repository = await repositories.find(tx, place)
        # Asked for what is there as well: the time of a refusal must not tell that it is.
        free = await namespaces.find(tx, place)
        where = repository or (free if place.project_id is None else place)  # a project's builds
        if address.ns and not await namespaces.may_answer(tx, where, address.ns):
            raise NameUnknown(NO_REPOSITORY, name=str(address.name), ns=address.ns)
        return where

    async def ensure(
        self, tx: Transaction, actor: Actor, address: Address, where: Repository | Place, now: int
    ) -> Repository:
        """The repository at `where`, made now by its first push or pull. Raises Conflict.

        A new slug or project id and a new repository of the default organisation that begins with
        it must not both succeed: each first locks the same row, then looks again.
        """
        if isinstance(where, Repository):
            return where
        await installation.lock(tx, DEFAULT_ORGANISATION)
        source = where.source
        if await self.place(tx, address) != replace(where, source=None, is_public=False):
            message = "the name came to mean something else just now; try again"
            raise Conflict(message, name=str(address.name))
        repository = await repositories.ensure(
            tx, where, new_id=(fresh := new_id()), now=now, source=source
        )
        if repository.id == fresh:
            change = Change(
                "repository.created",
                "repository",
                to_text(fresh),
                where.path,
                where.organisation_id,
                {"by": "push" if source is None else "pull"},
            )
            await record(tx, actor, change, now=now)
            if source is None:  # a pull never fails because of a quota
                await require_repository(tx, where)
        return repository

    @staticmethod
    async def _within(tx: Transaction, place: Place | None, name: RepositoryName) -> Place:
        """A path in an organisation; the id of one of its projects is that project's."""
        if place is None:
            raise NameUnknown(NO_REPOSITORY, name=str(name))
        if place.project_id is None and is_public_id(place.path):
            project = await projects.find_place(tx, place.path)
            if project is not None and project.organisation_id == place.organisation_id:
                return project
        return place


NO_REPOSITORY = "no such repository, or none that you may see"
