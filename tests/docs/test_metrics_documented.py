import re
from pathlib import Path

from entrepot.telemetry.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
ROW = re.compile(r"^\| `(entrepot_\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", re.MULTILINE)


def test_every_metric_has_its_line_and_every_line_its_metric():
    documented = set(ROW.findall(PAGE.read_text("utf-8")))

    assert documented == {
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    }
