"""Metrics of joining: what was in segments and is one object now, and what still is."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from entrepot.telemetry.declared import Declared

_COUNTS: Mapping[str, Declared] = {
    "blobs": Declared(
        "entrepot_joined_blobs_total",
        "counter",
        "Blobs that were in segments and are one object now.",
    ),
    "bytes": Declared("entrepot_joined_bytes_total", "counter", "Their bytes."),
    "failures": Declared(
        "entrepot_join_failures_total",
        "counter",
        "Blobs that could not be joined; each is tried again.",
    ),
}
_UNJOINED = Declared(
    "entrepot_unjoined_blobs",
    "gauge",
    "Blobs that wait to be joined: not those that are damaged, or too large for it.",
)
JOINING_METRICS = (*_COUNTS.values(), _UNJOINED)


class JoiningTally:
    """Counts of this process, and the last look at what is in segments."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = {
            name: Counter(metric.name, metric.help, registry=registry)
            for name, metric in _COUNTS.items()
        }
        self._unjoined = Gauge(
            _UNJOINED.name, _UNJOINED.help, registry=registry, multiprocess_mode="mostrecent"
        )

    def observe(self, what: str, number: float) -> None:
        """Count what was joined, and what could not be."""
        self._counts[what].inc(number)

    def are_unjoined(self, number: int) -> None:
        """Keep how many blobs wait to be joined."""
        self._unjoined.set(number)
