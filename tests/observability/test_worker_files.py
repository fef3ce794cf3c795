"""Metric files of several real processes, which end in different ways."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from server.observability.metrics_page import MetricsPage
from tests.conftest import ROOT
from tests.observability.test_metrics import Samples, samples, value

PROCESS = """
import os, sys, time
from pathlib import Path
from server.batching.buckets import Priority
from server.batching.queue_stats import PriorityStats
from server.observability.metrics import Metrics
from server.observability.worker_files import hold_alive_lock
from server.observability.access_log import RequestContext, HttpStats

lock = hold_alive_lock(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
metrics = Metrics()
metrics.started(3, ["a"], ["a"])
metrics.set_ready("a", ready=sys.argv[1] == "ready")
http_stats = HttpStats("GET", None, route="/health", model="a", status=200, seconds=0.2)
metrics.on_request_done(RequestContext("1"), http_stats)
metrics.on_queue_changed(Priority.BULK, PriorityStats(5, time.monotonic() - float(sys.argv[2])))
print("counted", flush=True)
sys.stdin.read()
"""


@contextmanager
def process(folder: Path, ready: str = "ready", age: float = 10.0) -> Iterator[subprocess.Popen[str]]:
    """A process with some metric values. It lives until the block ends or a test kills it."""
    command = [sys.executable, "-c", PROCESS, ready, str(age)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "counted\n"
        yield started


def scrape(folder: Path) -> Samples:
    return samples(MetricsPage(CollectorRegistry(), folder, []).text().decode())


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.db")}


def test_values_of_living_processes_are_added_and_counters_of_ended_ones_stay(tmp_path: Path) -> None:
    requests = {"model": "a", "route": "/health", "status": "200"}
    with process(tmp_path) as first:
        with process(tmp_path, "not ready", age=500) as second:
            found = scrape(tmp_path)
            assert [value(found, name) for name in ("workers", "engine_threads", "worker_starts_total")] == [
                2,
                6,
                2,
            ]
            assert value(found, "ready_workers", model="a") == 1
            assert (
                value(found, "requests_total", **requests),
                value(found, "queue_rows", lane="bulk"),
            ) == (
                2,
                10,
            )
            assert 500 <= value(found, "queue_age_seconds", lane="bulk") < 1000
            assert value(found, "queue_age_seconds", lane="interactive") == 0
            second.kill()
            second.wait()
            found = scrape(tmp_path)
            assert [value(found, name) for name in ("workers", "engine_threads", "worker_starts_total")] == [
                1,
                3,
                2,
            ]
            assert value(found, "ready_workers", model="a") == 1
            assert (
                value(found, "requests_total", **requests),
                value(found, "queue_rows", lane="bulk"),
            ) == (
                2,
                5,
            )
            assert 10 <= value(found, "queue_age_seconds", lane="bulk") < 500
            assert not any(f"_{second.pid}." in name for name in files(tmp_path))
        with process(tmp_path) as third:
            third.kill()
            third.wait()
        first.kill()
        first.wait()
    found = scrape(tmp_path)
    assert files(tmp_path) == {"counter_ended.db", "histogram_ended.db"}
    assert value(found, "requests_total", **requests) == value(found, "worker_starts_total") == 3
    assert value(found, "request_seconds_bucket", model="a", route="/health", le="0.25") == 3
    assert value(found, "request_seconds_bucket", model="a", route="/health", le="0.1") == 0
    assert value(found, "request_seconds_count", model="a", route="/health") == 3
    assert ("prelabel_workers", frozenset()) not in found
    assert scrape(tmp_path) == found
