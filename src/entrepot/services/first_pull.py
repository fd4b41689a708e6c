"""Repositories that appear as they are pulled, below a namespace mirror."""

import asyncio

from entrepot.db import repositories
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.errors import (
    Denied,
    EntrepotError,
    NameUnknown,
    Unauthenticated,
    Unavailable,
    UpstreamMissing,
)
from entrepot.model.names import Reference
from entrepot.model.upstreams import Source
from entrepot.services.access import Access
from entrepot.services.addresses import NO_REPOSITORY, Address, Addresses
from entrepot.services.checks import Checks

_Key = tuple[Source, int, str, str]

_MOST_DENIED = 10_000


class FirstPull:
    """Asks the upstream first: only what it has makes a repository, which then reads as any other.

    Names that it does not have leave nothing behind but a short memory of this process, `denied`
    µs long. `most`: repositories of one upstream beyond which a pull makes none; nobody in
    particular makes any beyond half of that, so that strangers leave room for those who are known.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        access: Access,
        addresses: Addresses,
        checks: Checks,
        *,
        denied: int,
        most: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self._checks = checks
        self._denied = denied
        self._most = most
        self._running: dict[_Key, asyncio.Task[Repository]] = {}
        self._denied_until: dict[_Key, int] = {}

    async def enter(
        self, actor: Actor, address: Address, place: Place, reference: Reference | None
    ) -> Repository:
        """The repository that the first pull of `reference`, or of the list of tags, makes.

        Raises NameUnknown, UpstreamError, Unauthenticated, Denied.
        """
        source = place.source
        if source is None or place.read_only is not None:
            raise NameUnknown(NO_REPOSITORY, name=str(address.name))
        key = (source, place.organisation_id, place.path, str(reference))
        if 0 < self._denied_until.get(key, 0) - self._clock.now() <= self._denied:
            raise NameUnknown(_NOTHING, name=str(address.name))
        task = self._running.get(key)
        if task is not None:
            await asyncio.wait({task})
            if not task.cancelled() and not isinstance(task.exception(), _PERSONAL):
                return _result(task)
        task = asyncio.create_task(self._ask_and_make(actor, address, place, source, reference))
        self._running[key] = task
        task.add_done_callback(lambda done: self._end(key, done))
        await asyncio.wait({task})
        return _result(task)

    async def close(self) -> None:
        """Stop asking."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _ask_and_make(
        self,
        actor: Actor,
        address: Address,
        place: Place,
        source: Source,
        reference: Reference | None,
    ) -> Repository:
        """One question for all who ask the same in this process; it outlives them."""
        async with self._database.read() as tx:
            made = await repositories.find(tx, place)
            if made is not None:
                return made  # since its name was looked up
            await self._require_room(tx, actor, source)
        try:
            await self._checks.require_there(source, reference)
        except UpstreamMissing as error:
            raise NameUnknown(_NOTHING, name=str(address.name)) from error

        async def work(tx: Transaction) -> Repository:
            where = await self._access.admit(tx, actor, Action.PULL, address)
            if isinstance(where, Place) and where.source != source:
                raise NameUnknown(NO_REPOSITORY, name=str(address.name))
            if isinstance(where, Place):
                await self._require_room(tx, actor, source)
            return await self._addresses.ensure(tx, actor, address, where, self._clock.now())

        return await self._database.write(work)

    async def _require_room(self, tx: Transaction, actor: Actor, source: Source) -> None:
        """Raises Denied."""
        most = self._most // 2 if actor.is_anonymous else self._most
        if await repositories.count_of_upstream(tx, source.upstream_id, limit=most) < most:
            return
        if actor.is_anonymous:
            message = "log in to pull this: only those who are known add to so many repositories"
            raise Denied(message, repositories=most)
        message = (
            f"there are {most} repositories of this upstream already; delete some, or have the "
            "operator allow more: ENTREPOT_MIRROR__REPOSITORIES"
        )
        raise Denied(message, repositories=most)

    def _end(self, key: _Key, done: asyncio.Task[Repository]) -> None:
        if self._running.get(key) is done:
            del self._running[key]
        if done.cancelled() or not isinstance(error := done.exception(), NameUnknown):
            return
        if isinstance(error.__cause__, UpstreamMissing):
            while len(self._denied_until) >= _MOST_DENIED:
                del self._denied_until[next(iter(self._denied_until))]
            self._denied_until[key] = self._clock.now() + self._denied


_NOTHING = "neither this registry nor the upstream of this name has such a repository or tag"
# Said of who asked first, and so not of others.
_PERSONAL = (Unauthenticated, Denied)


def _result(task: asyncio.Task[Repository]) -> Repository:
    """What the task found, or its error anew for each who waited."""
    if task.cancelled():
        raise Unavailable("the server is stopping; try again")
    error = task.exception()
    if isinstance(error, EntrepotError):
        raise type(error)(error.message, **error.values) from error
    return task.result()
