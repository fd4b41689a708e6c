"""Metrics of quotas."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

from entrepot.telemetry.declared import Declared

_NEAR = Declared(
    "entrepot_organisations_near_quota",
    "gauge",
    "Organisations that use 80 % or more of a quota: of bytes, repositories or tags.",
    ("quota",),
)
USAGE_METRICS = (_NEAR,)


class UsageTally:
    """The last look at quotas."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._near = Gauge(
            _NEAR.name,
            _NEAR.help,
            _NEAR.labels,
            registry=registry,
            multiprocess_mode="mostrecent",  # every worker counts the same organisations
        )

    def near(self, counts: Mapping[str, int]) -> None:
        """So many organisations are near each kind of quota."""
        for quota, count in counts.items():
            self._near.labels(quota).set(count)
