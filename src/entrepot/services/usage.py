"""What organisations, projects and repositories held, and what that costs."""

from dataclasses import dataclass, replace
from typing import Literal

from entrepot.db import installation, projects, usage
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor
from entrepot.model.clock import Clock
from entrepot.model.errors import FieldInvalid, NotFound
from entrepot.model.tenancy import Organisation, Project
from entrepot.model.usage import Held, Measured, Period, UsageLine, day_end
from entrepot.services.access import Access
from entrepot.services.projects import NO_PROJECT

_FOLDED_AT_ONCE = 500  # on SQLite nobody else writes meanwhile
_FOLD = "usage.fold"

By = Literal["repository", "project"]


@dataclass(frozen=True, slots=True)
class OrganisationUsage:
    """An organisation in a period. `held` is what it holds now.

    `measured` counts a digest once that several of its repositories share, `repositories` each
    time. `may_browse`: whether the caller may see which repositories there are.
    """

    organisation: Organisation
    period: Period
    measured: Measured
    repositories: Measured
    held: Held
    may_browse: bool

    @property
    def shared(self) -> Measured:
        """What deduplication saves."""
        return self.repositories - self.measured


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """A project's builds in a period."""

    project: Project
    organisation: Organisation
    period: Period
    measured: Measured


class Usage:
    """Answers for periods, and the fold that they are made of."""

    def __init__(self, database: Database, clock: Clock, access: Access) -> None:
        self._database = database
        self._clock = clock
        self._access = access

    async def fold(self) -> int:
        """Add the deltas that came to the points; how many there were."""
        folded = 0
        while True:
            async with self._database.read() as tx:
                if not await usage.page_of_deltas(tx, limit=1):
                    return folded
            folded += await self._database.write(_fold_some, durable=False)

    async def of_organisation(
        self, actor: Actor, name: str, period: Period | None
    ) -> OrganisationUsage:
        """An organisation's usage; without a period, this month until now.

        Raises FieldInvalid, Unauthenticated, NotFound, Denied.
        """
        period = self._until_now(period)
        async with self._database.read() as tx:
            actor = await self._access.known(tx, actor)
            entered = await self._access.enter(tx, actor, Action.SEE_USAGE, name)
            measured, sum_of_repositories = await usage.measure(tx, entered.id, period)
            held = await usage.current(tx, entered.id)
            count = await usage.count_repositories(tx, entered.id)
        return OrganisationUsage(
            entered,
            period,
            measured,
            sum_of_repositories,
            replace(held, repositories=count),
            Action.BROWSE in self._access.allowed_in(actor.credential, entered.id),
        )

    async def page(
        self, found: OrganisationUsage, by: By, *, after: str, limit: int
    ) -> tuple[list[UsageLine], bool]:
        """Up to `limit` lines of what `of_organisation` let in to, and whether more follow.

        Repositories by path, projects by id; none for whoever may not see which there are.
        """
        if not found.may_browse:
            return [], False
        ask = usage.page_of_projects if by == "project" else usage.page_of_repositories
        async with self._database.read(scan=True) as tx:
            lines = await ask(tx, found.organisation.id, found.period, after=after, limit=limit + 1)
        return lines[:limit], len(lines) > limit

    async def of_project(self, actor: Actor, public_id: str, period: Period | None) -> ProjectUsage:
        """What the builds of a project held. Raises FieldInvalid, Unauthenticated, NotFound, ….

        What it is linked to is not among them.
        """
        period = self._until_now(period)
        async with self._database.read() as tx:
            actor = await self._access.known(tx, actor)
            project = await projects.find(tx, public_id)
            if project is None or Action.BROWSE not in self._access.allowed_in(
                actor.credential, project.organisation_id
            ):
                raise NotFound(NO_PROJECT)
            entered = await self._access.enter(tx, actor, Action.SEE_USAGE, project.organisation_id)
            lines = await usage.page_of_projects(
                tx, entered.id, period, only=public_id, after="", limit=1
            )
        measured = lines[0].measured if lines else Measured(0, 0)
        return ProjectUsage(project, entered, period, measured)

    def _until_now(self, period: Period | None) -> Period:
        """What of a period has been. Raises FieldInvalid for one that is to come."""
        now = self._clock.now()
        period = period or Period.month_at(now)
        if period.start >= now:
            raise FieldInvalid("this period has not begun", field="from")
        return replace(period, end=now) if period.end > now else period


async def _fold_some(tx: Transaction) -> int:
    """Fold the oldest deltas, of one day; how many.

    One folder at a time, on however many nodes: what one has read, the other must not add again.
    """
    await installation.keep(tx, _FOLD, "")  # locks its row, made or not
    page = await usage.page_of_deltas(tx, limit=_FOLDED_AT_ONCE)
    if not page:
        return 0
    day = day_end(page[0][1])
    ids = [id_ for id_, at in page if at < day]
    await usage.fold(tx, ids, day=day)
    return len(ids)
