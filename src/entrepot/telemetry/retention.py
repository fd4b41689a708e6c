"""Metrics of retention: what it looked at, what it removed, and how long that took."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from entrepot.telemetry.declared import Declared

_COUNTS: Mapping[str, Declared] = {
    "repositories": Declared(
        "entrepot_retention_repositories_total",
        "counter",
        "Repositories that retention looked at.",
    ),
    "tags": Declared("entrepot_retention_tags_total", "counter", "Tags that it removed."),
    "manifests": Declared(
        "entrepot_retention_manifests_total", "counter", "Manifests without a tag that it let go."
    ),
}
_SECONDS = Declared(
    "entrepot_retention_batch_seconds",
    "histogram",
    "Time of one batch of at most 100 tags or manifests, in one transaction.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
RETENTION_METRICS = (*_COUNTS.values(), _SECONDS)


class RetentionTally:
    """Counts of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = {
            name: Counter(metric.name, metric.help, registry=registry)
            for name, metric in _COUNTS.items()
        }
        self._seconds = Histogram(
            _SECONDS.name, _SECONDS.help, buckets=_SECONDS.buckets, registry=registry
        )

    def observe(self, what: str, number: float) -> None:
        """Count what went, or note how long a batch took."""
        if what == "seconds":
            self._seconds.observe(number)
        else:
            self._counts[what].inc(number)
