"""Repositories that appear as they are pulled, below a namespace mirror."""

import asyncio

from entrepot.db import lookups, manifests
from entrepot.db.database import Database, Transaction
from entrepot.model.access import Action, Actor, Place, Repository
from entrepot.model.clock import Clock
from entrepot.model.errors import EntrepotError, NameUnknown, UpstreamMissing
from entrepot.model.names import Reference, Tag
from entrepot.model.received import Received
from entrepot.model.upstreams import Source
from entrepot.services.access import Access
from entrepot.services.addresses import NO_REPOSITORY, Address, Addresses
from entrepot.services.checks import Checks

Given = Received | list[str]
_Key = tuple[Source, int, str, str]

_MOST_DENIED = 10_000


class FirstPull:
    """Asks the upstream first: only what it gave makes a repository.

    Names that it does not have leave nothing behind but a short memory of this process, `denied`
    µs long.
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
    ) -> None:
        self._database = database
        self._clock = clock
        self._access = access
        self._addresses = addresses
        self._checks = checks
        self._denied = denied
        self._running: dict[_Key, asyncio.Task[Given]] = {}
        self._denied_until: dict[_Key, int] = {}

    async def enter(
        self, actor: Actor, address: Address, place: Place, reference: Reference | None
    ) -> Repository:
        """The repository that the first pull of `reference`, or of the list of tags, makes.

        Raises NameUnknown, UpstreamError, Unauthenticated.
        """
        source = place.source
        if source is None or place.read_only is not None:
            raise NameUnknown(NO_REPOSITORY, name=str(address.name))
        key = (source, place.organisation_id, place.path, str(reference))
        if 0 < self._denied_until.get(key, 0) - self._clock.now() <= self._denied:
            raise NameUnknown(_NOTHING, name=str(address.name))
        asked_at = self._clock.now()
        try:
            given = await self._ask(key, source, reference)
        except UpstreamMissing as error:
            self._deny(key)
            raise NameUnknown(_NOTHING, name=str(address.name)) from error
        repository = await self._make(actor, address, source, reference, given, asked_at)
        if isinstance(given, list) and repository.source == source:
            await self._checks.store_names(repository, given, asked_at)
        return repository

    async def close(self) -> None:
        """Stop asking."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _ask(self, key: _Key, source: Source, reference: Reference | None) -> Given:
        """One question for all who ask the same in this process; it outlives them."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(source, reference))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key))
        await asyncio.wait({task})
        if task.cancelled():
            raise NameUnknown(NO_REPOSITORY)
        error = task.exception()
        if isinstance(error, EntrepotError):
            raise type(error)(error.message, **error.values) from error
        return task.result()

    async def _fetch(self, source: Source, reference: Reference | None) -> Given:
        if reference is None:
            return await self._checks.tag_names(source)
        return await self._checks.fetch(source, reference)

    async def _make(
        self,
        actor: Actor,
        address: Address,
        source: Source,
        reference: Reference | None,
        given: Given,
        asked_at: int,
    ) -> Repository:
        """Judge again, and make the repository with what its upstream gave."""

        async def work(tx: Transaction) -> Repository:
            where = await self._access.admit(tx, actor, Action.PULL, address)
            if isinstance(where, Place) and where.source != source:
                raise NameUnknown(NO_REPOSITORY, name=str(address.name))
            now = self._clock.now()
            repository = await self._addresses.ensure(tx, actor, address, where, now)
            if repository.source is not None and (
                (repository.source.upstream_id, repository.source.path)
                == (source.upstream_id, source.path)
                and isinstance(given, Received)
                and reference is not None
                and not await _has(tx, repository, reference)
            ):
                await self._checks.store(tx, repository, reference, given, asked_at)
            return repository

        return await self._database.write(work)

    def _deny(self, key: _Key) -> None:
        while len(self._denied_until) >= _MOST_DENIED:
            del self._denied_until[next(iter(self._denied_until))]
        self._denied_until[key] = self._clock.now() + self._denied


_NOTHING = "neither this registry nor the upstream of this name has such a repository or tag"


async def _has(tx: Transaction, repository: Repository, reference: Reference) -> bool:
    """Whether another first pull of the same has stored it."""
    if isinstance(reference, Tag):
        return await lookups.find(tx, repository.id, reference.text) is not None
    return await manifests.find(tx, repository.id, reference) is not None
