"""Metrics: every one declared once, counted in plain memory, published once a second.

prometheus-client keeps the sums of all workers in mapped files (`PROMETHEUS_MULTIPROC_DIR`, set by
whoever starts the workers), at some microseconds per touch. So the busy paths add to a `Tally`, and
`Metrics.publish` carries the differences over.
"""

import asyncio
import os
import threading
from bisect import bisect_left
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from entrepot.telemetry.caching import CACHING_METRICS, CachingTally
from entrepot.telemetry.collection import COLLECTION_METRICS, CollectionTally
from entrepot.telemetry.declared import Declared
from entrepot.telemetry.delivery import DELIVERY_METRICS, DeliveryTally
from entrepot.telemetry.joining import JOINING_METRICS, JoiningTally
from entrepot.telemetry.retention import RETENTION_METRICS, RetentionTally
from entrepot.telemetry.scrub import SCRUB_METRICS, ScrubTally
from entrepot.telemetry.upstreams import UPSTREAM_METRICS, UpstreamTally
from entrepot.telemetry.usage import USAGE_METRICS, UsageTally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PUBLISH_SECONDS = 1.0


REQUESTS = Declared(
    "entrepot_requests_total", "counter", "Requests answered.", ("route", "method", "status")
)
REQUEST_SECONDS = Declared(
    "entrepot_request_seconds",
    "histogram",
    "From the request's headers to the last byte of the answer.",
    ("route", "method"),
    _SECONDS,
)
SENT_BYTES = Declared(
    "entrepot_sent_bytes_total", "counter", "Bytes of answers' bodies.", ("route",)
)
RECEIVED_BYTES = Declared(
    "entrepot_received_bytes_total", "counter", "Bytes of requests' bodies.", ("route",)
)
OPEN_UPLOADS = Declared("entrepot_open_uploads", "gauge", "Upload sessions that are open.")
DATABASE_SECONDS = Declared(
    "entrepot_database_seconds",
    "histogram",
    "Time of one write, waiting included.",
    ("operation",),
    _SECONDS,
)
STORE_SECONDS = Declared(
    "entrepot_store_seconds",
    "histogram",
    "Time of one call to the store.",
    ("operation",),
    _SECONDS,
)
COMMIT_BATCH = Declared(
    "entrepot_commit_batch_size",
    "histogram",
    "Writes that shared one commit.",
    ("operation",),
    _COUNTS,
)

METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    SENT_BYTES,
    RECEIVED_BYTES,
    OPEN_UPLOADS,
    DATABASE_SECONDS,
    STORE_SECONDS,
    COMMIT_BATCH,
    *UPSTREAM_METRICS,
    *CACHING_METRICS,
    *DELIVERY_METRICS,
    *USAGE_METRICS,
    *SCRUB_METRICS,
    *JOINING_METRICS,
    *COLLECTION_METRICS,
    *RETENTION_METRICS,
)


class Requests:
    """What was asked and answered; for the event loop's thread only."""

    def __init__(self) -> None:
        # [seconds, sent, received, count per bucket …] by (route, method, status)
        self._cells: dict[tuple[str, str, int], list[float]] = {}

    def observe(
        self, route: str, method: str, status: int, seconds: float, sent: int, received: int = 0
    ) -> None:
        """Count one answered request; `route` is the pattern, never the path."""
        key = (route, method, status)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = [0.0] * (4 + len(_SECONDS))
        cell[0] += seconds
        cell[1] += sent
        cell[2] += received
        cell[3 + bisect_left(_SECONDS, seconds)] += 1

    def take(self) -> dict[tuple[str, str, int], list[float]]:
        """What came since the last call."""
        taken, self._cells = self._cells, {}
        return taken


class Tally:
    """A distribution by operation; for any thread."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._buckets = buckets
        self._lock = threading.Lock()
        self._cells: dict[str, list[float]] = {}  # [sum, count per bucket …]

    def observe(self, operation: str, value: float) -> None:
        """Count one `value`; `operation` is one of a few fixed words."""
        with self._lock:
            cell = self._cells.get(operation)
            if cell is None:
                cell = self._cells[operation] = [0.0] * (2 + len(self._buckets))
            cell[0] += value
            cell[1 + bisect_left(self._buckets, value)] += 1

    def take(self) -> dict[str, list[float]]:
        """What came since the last call."""
        with self._lock:
            taken, self._cells = self._cells, {}
        return taken


class Metrics:
    """The metrics of this process, and the page that shows those of all workers."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.database_seconds = Tally(_SECONDS)
        self.store_seconds = Tally(_SECONDS)
        self.commit_batch = Tally(_COUNTS)
        # Counts the open uploads when somebody looks; set by the composition root.
        self.count_open_uploads: Callable[[], Awaitable[int]] | None = None

        self._registry = CollectorRegistry()
        self._requests_total = self._counter(REQUESTS)
        self._request_seconds = self._histogram(REQUEST_SECONDS)
        self._sent = self._counter(SENT_BYTES)
        self._received = self._counter(RECEIVED_BYTES)
        self._tallies = (
            (self.database_seconds, self._histogram(DATABASE_SECONDS)),
            (self.store_seconds, self._histogram(STORE_SECONDS)),
            (self.commit_batch, self._histogram(COMMIT_BATCH)),
        )
        self.upstreams = UpstreamTally(self._registry)
        self.caching = CachingTally(self._registry)
        self.delivery = DeliveryTally(self._registry)
        self.usage = UsageTally(self._registry)
        self.scrub = ScrubTally(self._registry)
        self.joining = JoiningTally(self._registry)
        self.collection = CollectionTally(self._registry)
        self.retention = RetentionTally(self._registry)
        self._open_uploads = Gauge(
            OPEN_UPLOADS.name,
            OPEN_UPLOADS.help,
            registry=self._registry,
            multiprocess_mode="mostrecent",  # every worker would count the same uploads
        )

    async def run(self) -> None:
        """Publish once a second, until cancelled; the last second is not lost."""
        try:
            while True:
                await asyncio.sleep(_PUBLISH_SECONDS)
                self.publish()
        finally:
            self.publish()

    def publish(self) -> None:
        """Carry over what was counted since the last time."""
        for (route, asked, status), cell in self.requests.take().items():
            # A client may invent methods; a label must not grow with them.
            method = asked if asked in _METHODS else "other"
            seconds, sent, received, *counts = cell
            self._requests_total.labels(route, method, str(status)).inc(sum(counts))
            self._sent.labels(route).inc(sent)
            self._received.labels(route).inc(received)
            _add(self._request_seconds.labels(route, method), seconds, counts)
        for tally, histogram in self._tallies:
            for operation, (total, *counts) in tally.take().items():
                _add(histogram.labels(operation), total, counts)

    async def render(self) -> bytes:
        """The page of `GET /metrics`."""
        self.publish()
        if self.count_open_uploads is not None:
            self._open_uploads.set(await self.count_open_uploads())
        return await asyncio.to_thread(generate_latest, self._all_workers())

    def _all_workers(self) -> CollectorRegistry:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._registry
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus-client's
        return registry

    def _counter(self, metric: Declared) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, metric: Declared) -> Histogram:
        return Histogram(
            metric.name,
            metric.help,
            metric.labels,
            buckets=metric.buckets,
            registry=self._registry,
        )


def _add(histogram: Histogram, total: float, counts: list[float]) -> None:
    # prometheus-client has no way to observe many values at once; a test holds these two names.
    histogram._sum.inc(total)  # noqa: SLF001
    for bucket, count in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001
        if count:
            bucket.inc(count)
