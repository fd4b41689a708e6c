import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from entrepot.telemetry.metrics import METRICS, Metrics

WORKER = """
import asyncio
from entrepot.telemetry.metrics import Metrics

metrics = Metrics()
metrics.requests.observe("/v2/", "GET", 200, 0.004, 10)
metrics.commit_batch.observe("durable", 3)
async def count(): return 7
metrics.count_open_uploads = count
print(asyncio.run(metrics.render()).decode())
"""


@pytest.fixture
def metrics(monkeypatch) -> Metrics:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    return Metrics()


async def lines(metrics: Metrics) -> set[str]:
    return set((await metrics.render()).decode().splitlines())


async def test_requests_are_counted_by_route_method_and_status(metrics):
    metrics.requests.observe("/v2/{name}/blobs", "GET", 200, 0.004, sent=100)
    metrics.requests.observe("/v2/{name}/blobs", "GET", 200, 0.3, sent=50, received=7)
    metrics.requests.observe("/v2/{name}/blobs", "GET", 404, 0.0001, sent=0)

    shown = await lines(metrics)

    route = 'route="/v2/{name}/blobs"'
    assert f'entrepot_requests_total{{method="GET",{route},status="200"}} 2.0' in shown
    assert f'entrepot_requests_total{{method="GET",{route},status="404"}} 1.0' in shown
    assert f"entrepot_sent_bytes_total{{{route}}} 150.0" in shown
    assert f"entrepot_received_bytes_total{{{route}}} 7.0" in shown
    seconds = "entrepot_request_seconds"
    assert f'{seconds}_bucket{{le="0.0025",method="GET",{route}}} 1.0' in shown
    assert f'{seconds}_bucket{{le="0.005",method="GET",{route}}} 2.0' in shown
    assert f'{seconds}_bucket{{le="+Inf",method="GET",{route}}} 3.0' in shown
    assert f'{seconds}_count{{method="GET",{route}}} 3.0' in shown


async def test_a_value_on_a_boundary_and_one_past_the_last_are_in_the_right_bucket(metrics):
    metrics.commit_batch.observe("durable", 256)
    metrics.commit_batch.observe("durable", 257)

    shown = await lines(metrics)

    assert 'entrepot_commit_batch_size_bucket{le="256.0",operation="durable"} 1.0' in shown
    assert 'entrepot_commit_batch_size_bucket{le="+Inf",operation="durable"} 2.0' in shown
    assert 'entrepot_commit_batch_size_sum{operation="durable"} 513.0' in shown


async def test_publishing_twice_counts_once(metrics):
    metrics.requests.observe("/v2/", "GET", 200, 0.1, 0)
    metrics.publish()

    shown = await lines(metrics)

    assert 'entrepot_requests_total{method="GET",route="/v2/",status="200"} 1.0' in shown


async def test_invented_methods_make_no_series(metrics):
    for number in range(100):
        metrics.requests.observe("none", f"X{number}", 405, 0.001, 0)

    shown = await lines(metrics)

    assert 'entrepot_requests_total{method="other",route="none",status="405"} 100.0' in shown


async def test_threads_lose_no_count(metrics):
    def observe(_: int) -> None:
        for _ in range(5_000):
            metrics.store_seconds.observe("open", 0.001)

    with ThreadPoolExecutor(4) as pool:
        finished = pool.map(observe, range(4))
        for _ in range(50):
            metrics.publish()
        list(finished)

    assert 'entrepot_store_seconds_count{operation="open"} 20000.0' in await lines(metrics)


async def test_every_declared_metric_is_shown(metrics):
    shown = await lines(metrics)

    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}" in shown


def test_a_page_has_the_sums_of_all_workers(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WORKER]

    subprocess.run(command, env=environment, check=True, capture_output=True)
    second = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)

    shown = second.stdout.splitlines()
    assert 'entrepot_requests_total{method="GET",route="/v2/",status="200"} 2.0' in shown
    assert 'entrepot_commit_batch_size_sum{operation="durable"} 6.0' in shown
    assert "entrepot_open_uploads 7.0" in shown
