"""The parts of the caches, put together: of upstreams, and of an object store."""

import asyncio
import contextlib
import secrets

from entrepot.blobs.node import node_id
from entrepot.blobs.spool import SpoolFolder
from entrepot.blobs.store import BlobStore
from entrepot.config import Settings
from entrepot.db.database import Database
from entrepot.identity.keys import KeyRing
from entrepot.identity.seal import Seal
from entrepot.jobs.schedule import Job
from entrepot.model.clock import DAY, SECOND, Clock
from entrepot.model.errors import EntrepotError
from entrepot.ops.relay import RelaySurface
from entrepot.parts import make_cache, make_outbound, protocol_limits
from entrepot.services.access import Access
from entrepot.services.addresses import Addresses
from entrepot.services.checks import Checks
from entrepot.services.eviction import Eviction, EvictionLimits
from entrepot.services.fetch_lead import FetchLimits, Means
from entrepot.services.fetch_relay import Relays
from entrepot.services.fetch_sweep import FetchSweep
from entrepot.services.fetches import Fetches
from entrepot.services.first_pull import FirstPull
from entrepot.services.last_access import LastAccess
from entrepot.services.lookups import Lookups
from entrepot.services.mirror import Mirror
from entrepot.services.objects import Objects
from entrepot.services.patience import Patience
from entrepot.services.pull import Pull
from entrepot.services.remotes import Remotes
from entrepot.services.sync import Syncs
from entrepot.services.sync_schedule import Schedule
from entrepot.services.sync_tags import SyncParts
from entrepot.services.upstream_counts import UpstreamCounts
from entrepot.services.upstream_trials import Trials
from entrepot.services.upstreams import Upstreams
from entrepot.telemetry.metrics import Metrics
from entrepot.upstream.nodes import Nodes


class Caching:
    """What pull-through repositories need in one worker, and the node's cache."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        database: Database,
        store: BlobStore,
        objects: Objects,
        ring: KeyRing,
        metrics: Metrics,
        access: Access,
        addresses: Addresses,
        pull: Pull,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._database = database
        self._store = store
        self._objects = objects
        self._access = access
        self._metrics = metrics.caching
        self._grace = settings.uploads.protect_seconds * SECOND
        self._idle = settings.eviction.idle_seconds * SECOND
        self._denied = settings.mirror.missing_seconds * SECOND
        self._node = node_id(settings.data / "node.id")
        # Without the part that tells of restarts: every upstream hears it.
        self.pseudonym = f"entrepot-{self._node.partition('.')[0]}"
        self._outbound = make_outbound(settings, self.pseudonym)
        self._nodes = Nodes(ca_file=settings.outbound.ca_file)
        self._spools = SpoolFolder(
            settings.data / "spool", low_water_bytes=settings.blobs.low_water_bytes
        )
        self.cache = make_cache(settings, clock, metrics.delivery.observe)
        self._lookups = Lookups(database, clock)

        seal = Seal(ring)
        self.remotes = Remotes(
            database,
            clock,
            self._outbound,
            seal,
            UpstreamCounts(database, clock, metrics.upstreams),
            concurrency=settings.outbound.concurrency,
        )
        trials = Trials(self._outbound, settings.outbound.ambient)
        self.upstreams = Upstreams(database, clock, access, seal, trials, self.remotes)

        means, relays = self._means(), Relays(ring, clock, self._nodes)
        self.fetches = Fetches(means, relays)
        self._fetch_sweep = FetchSweep(means)
        self.relay = RelaySurface(self.fetches, relays)

        checks = self._checks()
        self.mirror = self._mirror(pull, checks)
        self.first_pull = self._first_pull(addresses, checks)
        self.last_access = LastAccess(database, clock)
        self.eviction = self._eviction()
        self.syncs = self._syncs()

    def _first_pull(self, addresses: Addresses, checks: Checks) -> FirstPull:
        """What makes repositories below namespace mirrors."""
        return FirstPull(
            self._database,
            self._clock,
            self._access,
            addresses,
            checks,
            denied=self._denied,
            most=self._settings.mirror.repositories,
        )

    def _means(self) -> Means:
        """What fetches work with."""
        fetch = self._settings.fetch
        limits = FetchLimits(
            grace=min(self._grace, self._idle),
            delay=self._settings.collection.delay_seconds * SECOND,
            finish_bytes=fetch.finish_bytes,
            spool_bytes=fetch.spool_bytes,
            take_over_seconds=fetch.take_over_seconds,
        )
        return Means(
            self._database,
            self._store,
            self._objects,
            self._spools,
            self.remotes,
            self._clock,
            limits,
            leader=secrets.token_hex(8),
            node=self._node,
            node_url=self._settings.node.url,
        )

    def _checks(self) -> Checks:
        """Asking upstreams for manifests."""
        return Checks(
            self._database,
            self._store,
            self.remotes,
            self._clock,
            grace=self._grace,
            manifest_bytes=self._settings.limits.manifest_bytes,
            limits=protocol_limits(self._settings).manifests,
        )

    def _mirror(self, pull: Pull, checks: Checks) -> Mirror:
        """The reads of pull-through repositories."""
        return Mirror(
            self._database,
            pull,
            checks,
            Patience(self._lookups, self.remotes, self._clock),
            self.fetches,
            self.remotes,
            denied=self._denied,
        )

    def _eviction(self) -> Eviction:
        """Letting go of what nobody pulls."""
        limits = EvictionLimits(self._idle, self._settings.eviction.bytes or None)
        return Eviction(self._database, self._clock, limits, self._metrics.evict)

    def _syncs(self) -> Syncs:
        """Following upstreams' tags."""
        concurrency = self._settings.sync.concurrency
        parts = SyncParts(
            self._database,
            self._clock,
            self.mirror,
            self.fetches,
            asyncio.Semaphore(concurrency),
            protocol_limits(self._settings).manifests,
            index_depth=self._settings.limits.index_depth,
            keep_warm=DAY + self._idle,
        )
        return Syncs(
            self._database,
            self._clock,
            self._access,
            parts,
            Schedule(self._settings.sync.cron),
            self._metrics.sync,
            concurrency=concurrency,
        )

    def prepare(self) -> None:
        """Make the folders. Raises StorageFull, StorageFailed."""
        self._spools.prepare()
        self.cache.prepare()

    def jobs(self) -> list[Job]:
        """What comes round."""
        return [
            Job("upstreams.count", 10, self.remotes.flush),
            Job("cache.sweep", 3_600, self.cache.sweep),
            Job("fetches.sweep", 30, self._fetch_sweep.sweep),
            Job("lookups.sweep", 600, self._lookups.sweep),
            Job("repositories.note_accesses", 60, self.last_access.flush),
            Job("repositories.sync", 1, self.syncs.look),
            Job("repositories.evict", 600, self.eviction.sweep),
        ]

    async def close(self) -> None:
        """Stop asking and fetching."""
        await self.syncs.close()
        with contextlib.suppress(EntrepotError):  # counts, and the database may be away
            await self.remotes.flush()
            await self.last_access.flush()
        await self._lookups.close()
        await self.first_pull.close()
        await self.fetches.close()
        await self.cache.close()
        await self._outbound.close()
        await self._nodes.close()
        self._spools.close()
