"""The parts of the lifecycle, put together: retention, collection, usage, scrub."""

import contextlib

from entrepot.blobs.store import BlobStore
from entrepot.config import Settings
from entrepot.db.database import Database
from entrepot.jobs.schedule import Job
from entrepot.model.clock import DAY, SECOND, Clock
from entrepot.model.errors import EntrepotError
from entrepot.model.retention import Retention
from entrepot.model.retention_rules import DEFAULT_DAYS
from entrepot.services.access import Access
from entrepot.services.collection import Collection, Counts
from entrepot.services.collection_guard import CollectionGuard
from entrepot.services.collection_status import CollectionReport, CollectionStatus
from entrepot.services.joining import Joining
from entrepot.services.last_pulls import LastPulls
from entrepot.services.objects import Objects
from entrepot.services.orphans import CollectionLimits
from entrepot.services.quotas import Quotas
from entrepot.services.rests import Rests
from entrepot.services.retention import RetentionPolicies
from entrepot.services.retention_plan import RetentionPlan
from entrepot.services.retention_run import RetentionRun
from entrepot.services.scrub import Scrub, ScrubLimits
from entrepot.services.tombstones import Tombstones
from entrepot.services.usage import Usage
from entrepot.telemetry.metrics import Metrics
from entrepot.telemetry.observe import Observe, ignore

_LOOK_SECONDS = 60  # how often it is asked which repositories are due for retention


class Lifecycle:
    """What keeps storage in order in one worker."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        database: Database,
        store: BlobStore,
        objects: Objects,
        metrics: Metrics,
        access: Access,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._database = database
        self._store = store
        self._metrics = metrics
        self._access = access
        self._scrub = make_scrub(settings, clock, database, objects, metrics.scrub.observe)
        delay = settings.collection.delay_seconds * SECOND
        observe = metrics.joining.observe
        self.joining = Joining(database, store, objects, clock, delay=delay, observe=observe)
        self.usage = Usage(database, clock, access)
        self.quotas = Quotas(database, clock)
        self.guard = CollectionGuard(database, store)
        self.collection_status = CollectionStatus(database, clock, self.guard)
        self.collection_report = CollectionReport(database, access, self.collection_status)
        self.collection = make_collection(
            settings, clock, database, store, metrics.collection, Rests()
        )
        self.last_pulls = LastPulls(database, clock)
        restore = settings.retention.restore_seconds * SECOND
        plan = RetentionPlan(database, servers_policy(settings), restore=restore)
        self.retention = RetentionPolicies(database, clock, access, plan)
        self.retention_run = RetentionRun(
            database,
            clock,
            access,
            plan,
            restore=restore,
            every=settings.retention.every_seconds * SECOND,
            observe=metrics.retention.observe,
        )

    def jobs(self) -> list[Job]:
        """What comes round."""
        collection = self._settings.collection
        # No repository is looked at more often than it is due.
        look_seconds = min(_LOOK_SECONDS, self._settings.retention.every_seconds)
        joining = [Job("segments.join", 60, self._join)] if self._store.has_segments else []
        return [
            *joining,
            Job("repositories.retain", look_seconds, self.retention_run.sweep),
            Job("manifests.note_pulls", 60, self.last_pulls.flush),
            Job("collection.run", collection.every_seconds, self._collect),
            Job("blobs.scrub", 60, self._scrub.sweep),
            Job("blobs.count_damaged", 60, self._count_damaged),
            Job("manifests.scrub", 3_600, self._scrub.sweep_manifests),
            Job("usage.fold", 10, self.usage.fold),
            Job("quotas.watch", 60, self._watch_quotas),
        ]

    async def close(self) -> None:
        """Write down what was only noted."""
        with contextlib.suppress(EntrepotError):  # the database may be away
            await self.last_pulls.flush()

    async def _count_damaged(self) -> None:
        self._metrics.scrub.is_damaged(await self._scrub.count_damaged())

    async def _join(self) -> None:
        try:
            await self.joining.sweep()
        finally:
            self._metrics.joining.are_unjoined(await self.joining.count_unjoined())

    async def _watch_quotas(self) -> None:
        await self.quotas.watch()
        self._metrics.usage.near(await self.quotas.count_near())

    async def _collect(self) -> None:
        try:
            await self.collection.run()
        finally:
            await self.collection_status.publish(self._metrics.collection)


def servers_policy(settings: Settings) -> Retention:
    """What is kept where neither repository nor organisation says."""
    said = settings.retention
    if said.tags is None and not said.never:
        return Retention(days=said.days or DEFAULT_DAYS)
    return Retention(tags=said.tags, never=said.never)


def make_scrub(
    settings: Settings,
    clock: Clock,
    database: Database,
    objects: Objects,
    observe: Observe = ignore,
) -> Scrub:
    """Scrub, as the settings say."""
    scrub = settings.scrub
    limits = ScrubLimits(scrub.bytes_per_second, scrub.every_days * DAY)
    return Scrub(database, objects, clock, limits, observe)


def make_collection(
    settings: Settings,
    clock: Clock,
    database: Database,
    store: BlobStore,
    counts: Counts | None = None,
    rests: Rests | None = None,
) -> Collection:
    """Collection, for a server or for a command, which rests not."""
    limits = CollectionLimits(
        restore=settings.retention.restore_seconds * SECOND,
        delay=settings.collection.delay_seconds * SECOND,
        idle=settings.eviction.idle_seconds * SECOND,
    )
    guard = CollectionGuard(database, store)
    objects = Tombstones(database, store, clock, guard)
    return Collection(database, clock, limits, guard, objects, counts, rests)
