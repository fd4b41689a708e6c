"""Metrics of scrub: what was read again, and what it was."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from entrepot.telemetry.declared import Declared

_COUNTS: Mapping[str, Declared] = {
    "objects": Declared(
        "entrepot_scrubbed_objects_total", "counter", "Stored objects that were read again."
    ),
    "bytes": Declared("entrepot_scrubbed_bytes_total", "counter", "Their bytes."),
    "manifests": Declared(
        "entrepot_scrubbed_manifests_total", "counter", "Manifests whose bytes were hashed again."
    ),
    "failures": Declared(
        "entrepot_scrub_store_failures_total",
        "counter",
        "Objects that the store could not read; each is tried again.",
    ),
    "damaged": Declared(
        "entrepot_damage_found_total", "counter", "Blobs and manifests that were found damaged."
    ),
}
_DAMAGED = Declared(
    "entrepot_damaged_blobs",
    "gauge",
    "Blobs that are damaged now: `entrepot admin scrub` names them.",
)
SCRUB_METRICS = (*_COUNTS.values(), _DAMAGED)


class ScrubTally:
    """Counts of this process, and the last look at what is damaged."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = {
            name: Counter(metric.name, metric.help, registry=registry)
            for name, metric in _COUNTS.items()
        }
        self._damaged = Gauge(
            _DAMAGED.name, _DAMAGED.help, registry=registry, multiprocess_mode="mostrecent"
        )

    def observe(self, what: str, number: float) -> None:
        """Count what was read, and what was found."""
        self._counts[what].inc(number)

    def is_damaged(self, number: int) -> None:
        """Keep how many blobs are damaged now."""
        self._damaged.set(number)
