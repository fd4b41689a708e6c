"""Metrics of how blobs leave an object store: redirects, and a node's copies."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

from entrepot.telemetry.declared import Declared

_COUNTS: Mapping[str, Declared] = {
    "redirects": Declared(
        "entrepot_redirects_total", "counter", "Blobs that a client was sent to the store for."
    ),
    "hits": Declared(
        "entrepot_cache_hits_total",
        "counter",
        "Blobs that came from this node's copy, or with the bytes that it was being made of.",
    ),
    "misses": Declared(
        "entrepot_cache_misses_total", "counter", "Blobs that were asked of the object store."
    ),
    "filled": Declared(
        "entrepot_cache_filled_bytes_total", "counter", "Bytes of copies that were made."
    ),
    "evicted": Declared(
        "entrepot_cache_evicted_total", "counter", "Copies that made room for others."
    ),
    "failures": Declared(
        "entrepot_cache_failures_total",
        "counter",
        "Copies that could not be made, or were not any more what they had been.",
    ),
}
DELIVERY_METRICS = tuple(_COUNTS.values())


class DeliveryTally:
    """Counts of this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = {
            name: Counter(metric.name, metric.help, registry=registry)
            for name, metric in _COUNTS.items()
        }

    def observe(self, what: str, number: float) -> None:
        """Count it."""
        self._counts[what].inc(number)
