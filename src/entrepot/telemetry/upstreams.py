"""Metrics of upstream registries, by preset: their number does not grow with what people add."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from entrepot.telemetry.declared import Declared

_SUMS: dict[str, Declared] = {
    "requests": Declared(
        "entrepot_upstream_requests_total",
        "counter",
        "Answers of upstream registries, those of their token services included.",
        ("preset",),
    ),
    "bytes": Declared(
        "entrepot_upstream_bytes_total",
        "counter",
        "Bytes of content that came from upstream registries.",
        ("preset",),
    ),
    "hits": Declared(
        "entrepot_upstream_hits_total",
        "counter",
        "What was served without asking the upstream.",
        ("preset",),
    ),
    "misses": Declared(
        "entrepot_upstream_misses_total", "counter", "What had to be fetched.", ("preset",)
    ),
    "coalesced": Declared(
        "entrepot_upstream_coalesced_total",
        "counter",
        "Callers that got what was being fetched for another.",
        ("preset",),
    ),
    "stale": Declared(
        "entrepot_upstream_stale_total",
        "counter",
        "What was served although the upstream could not be asked whether it still holds.",
        ("preset",),
    ),
}
_ERRORS = Declared(
    "entrepot_upstream_errors_total",
    "counter",
    "Calls to upstream registries that failed.",
    ("preset", "reason"),
)
_REMAINING = Declared(
    "entrepot_upstream_rate_limit_remaining",
    "gauge",
    "Requests that the upstream said last it would still allow.",
    ("preset",),
)
UPSTREAM_METRICS = (*_SUMS.values(), _ERRORS, _REMAINING)


class UpstreamTally:
    """Counts of this process; touched every ten seconds, by whoever writes them down."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sums = {
            name: Counter(metric.name, metric.help, metric.labels, registry=registry)
            for name, metric in _SUMS.items()
        }
        self._errors = Counter(_ERRORS.name, _ERRORS.help, _ERRORS.labels, registry=registry)
        self._remaining = Gauge(
            _REMAINING.name,
            _REMAINING.help,
            _REMAINING.labels,
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def add(self, name: str, preset: str, number: int) -> None:
        """Add to one of the sums: requests, bytes, hits, misses, coalesced, stale."""
        self._sums[name].labels(preset).inc(number)

    def fail(self, preset: str, reason: str, number: int) -> None:
        """Count failures of one kind."""
        self._errors.labels(preset, reason).inc(number)

    def remaining(self, preset: str, number: int) -> None:
        """Keep what an upstream said last."""
        self._remaining.labels(preset).set(number)
