"""Metrics of what pull-through repositories bring by themselves, and let go."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from entrepot.telemetry.declared import Declared

_SYNC_SECONDS = Declared(
    "entrepot_sync_seconds",
    "histogram",
    "Time of one sync with an upstream; the outcome is ok, or failed if any tag did.",
    ("outcome",),
    (1, 5, 15, 60, 300, 900, 3_600),
)
_EVICTED = Declared(
    "entrepot_evicted_blobs_total", "counter", "Blobs that left pull-through repositories."
)
CACHING_METRICS = (_SYNC_SECONDS, _EVICTED)


class CachingTally:
    """Counts of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            _SYNC_SECONDS.name,
            _SYNC_SECONDS.help,
            _SYNC_SECONDS.labels,
            buckets=_SYNC_SECONDS.buckets,
            registry=registry,
        )
        self._evicted = Counter(_EVICTED.name, _EVICTED.help, registry=registry)

    def sync(self, outcome: str, seconds: float) -> None:
        """Count a sync that ended."""
        self._seconds.labels(outcome).observe(seconds)

    def evict(self, _operation: str, blobs: float) -> None:
        """Count blobs that left."""
        self._evicted.inc(blobs)
