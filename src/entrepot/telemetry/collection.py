"""Metrics of collection: what went, what waits, and whether it works at all."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from entrepot.telemetry.declared import Declared

_COLLECTED = Declared(
    "entrepot_collected_total",
    "counter",
    "What collection removed: manifests, links (a blob of one repository), blobs, objects.",
    ("kind",),
)
_FREED = Declared("entrepot_freed_bytes_total", "counter", "Bytes of objects that were deleted.")
_REFUSED = Declared(
    "entrepot_collection_store_failures_total",
    "counter",
    "Objects that the store did not delete; each is tried again.",
)
_GAUGES = {
    "due": Declared("entrepot_collection_due", "gauge", "Reviews that are due."),
    "oldest_due_seconds": Declared(
        "entrepot_collection_oldest_due_seconds",
        "gauge",
        "How long the oldest of them has been due.",
    ),
    "waiting_bytes": Declared(
        "entrepot_collection_waiting_bytes",
        "gauge",
        "Bytes of objects that nothing points at any more and that are still there.",
    ),
    "is_stopped": Declared(
        "entrepot_collection_stopped",
        "gauge",
        "1 while collection waits for a check of database and store.",
    ),
}
COLLECTION_METRICS = (_COLLECTED, _FREED, _REFUSED, *_GAUGES.values())


class CollectionTally:
    """Counts of this process, and the last look at what all processes share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._collected = Counter(
            _COLLECTED.name, _COLLECTED.help, _COLLECTED.labels, registry=registry
        )
        self._freed = Counter(_FREED.name, _FREED.help, registry=registry)
        self._refused = Counter(_REFUSED.name, _REFUSED.help, registry=registry)
        self._gauges = {
            name: Gauge(metric.name, metric.help, registry=registry, multiprocess_mode="mostrecent")
            for name, metric in _GAUGES.items()
        }

    def collected(self, kind: str, count: int) -> None:
        """Count what went."""
        if count:
            self._collected.labels(kind).inc(count)

    def freed(self, bytes_count: int) -> None:
        """Count bytes that are free."""
        self._freed.inc(bytes_count)

    def refused(self, count: int) -> None:
        """Count objects that the store did not delete."""
        self._refused.inc(count)

    def waits(
        self, *, due: int, oldest_due_seconds: float, waiting_bytes: int, is_stopped: bool
    ) -> None:
        """Keep what waits now."""
        self._gauges["due"].set(due)
        self._gauges["oldest_due_seconds"].set(oldest_due_seconds)
        self._gauges["waiting_bytes"].set(waiting_bytes)
        self._gauges["is_stopped"].set(int(is_stopped))
