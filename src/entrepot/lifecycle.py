"""The parts of the lifecycle, put together: retention, collection, usage, scrub."""

from entrepot.blobs.disk import DiskStore
from entrepot.config import Settings
from entrepot.db.database import Database
from entrepot.jobs.schedule import Job
from entrepot.model.clock import Clock
from entrepot.services.access import Access
from entrepot.telemetry.metrics import Metrics


class Lifecycle:
    """What keeps storage in order in one worker."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        database: Database,
        store: DiskStore,
        metrics: Metrics,
        access: Access,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._database = database
        self._store = store
        self._metrics = metrics
        self._access = access

    def jobs(self) -> list[Job]:
        """What comes round."""
        return []
