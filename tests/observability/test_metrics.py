"""/metrics: values, names and labels, and the table in docs/metrics.md."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import httpx
import numpy as np
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as families_of

from server.batching.buckets import Priority
from server.batching.observer import BatchRecord
from server.batching.queue_stats import PriorityStats, QueueStats
from server.bundle import Bundle
from server.encoders.cnn.encoder import cnn_of
from server.learning.annotations import Annotation
from server.learning.store import STORE, LearningProject, LearningStore
from server.observability.gpu_memory import GpuMemory, NvmlReader, gpu_metrics
from server.observability.learning_metrics import learning_metrics
from server.observability.metrics import Metrics
from server.observability.metrics_page import MetricsPage
from server.observability.prediction_stats import SCORE_BOUNDS, PredictionStats
from tests.batching.test_batcher import echo
from tests.conftest import ROOT
from tests.serving import predict, running, set_up

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    with running(bundle, path_prefix="/p", max_tasks=200) as client:
        yield client


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families_of(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((f"prelabel_{name}", frozenset(labels.items())), 0.0)


def scraped(client: httpx.Client, path: str = "/metrics") -> Samples:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def test_requests_are_counted_by_model_route_and_status(client: httpx.Client, bundle: Bundle) -> None:
    before, name = scraped(client), bundle.path.name
    predict(client, ["good film"])
    predict(client, ["bad"], path=f"/p/{name}")
    client.post("/predict", json={})
    client.get("/a/secretive/path")
    client.get(f"/{name}/nowhere")
    after = scraped(client, "/p/metrics")

    def rise(metric: str, **labels: str) -> float:
        return value(after, metric, **labels) - value(before, metric, **labels)

    assert rise("requests_total", model=name, route="/predict", status="200") == 2
    assert rise("requests_total", model=name, route="/predict", status="400") == 1
    assert rise("requests_total", model="none", route="none", status="404") == 2
    assert rise("refusals_total", model=name, reason="BadRequest") == 1
    assert rise("request_seconds_count", model=name, route="/predict") == 3
    assert (
        rise("request_seconds_sum", model=name, route="/predict")
        > rise("stage_seconds_sum", model=name, stage="engine")
        > 0
    )
    for stage in ("tokenize", "queue", "engine", "results"):
        assert rise("stage_seconds_count", model=name, stage=stage) == 2
    assert "secretive" not in client.get("/metrics").text


def test_tasks_predictions_and_batches_are_counted(client: httpx.Client, bundle: Bundle) -> None:
    before, name = scraped(client), bundle.path.name
    texts = ["good film", None, *["the plot"] * 150]
    set_up(client, extra={"score": "margin"})
    answers = predict(client, texts)
    after = scraped(client)

    def rise(metric: str, **labels: str) -> float:
        return value(after, metric, **labels) - value(before, metric, **labels)

    assert rise("tasks_total", model=name, outcome="predicted") == 151
    assert rise("tasks_total", model=name, outcome="empty") == 1
    version = f"{bundle.version}-margin"
    chosen = [each["result"][0]["value"]["choices"][0] for each in answers if each["result"]]
    for label in bundle.labels:
        assert rise("predictions_total", version=version, label=label) == chosen.count(label)
    scores = [each["score"] for each in answers if each["result"]]
    assert rise("prediction_score_count", version=version) == 151
    assert rise("prediction_score_sum", version=version) == pytest.approx(sum(scores), abs=1e-6)
    for bound in SCORE_BOUNDS:
        assert rise("prediction_score_bucket", version=version, le=str(bound)) == sum(
            score <= bound for score in scores
        )
    priority = {"bundle": name, "lane": "bulk"}
    assert rise("batch_rows_sum", **priority) == 151
    assert rise("batch_tokens_total", **priority) == 151 * cnn_of(bundle.encoders).spec.min_length
    assert rise("batch_padded_tokens_total", **priority) == 151 * 64
    assert rise("engine_seconds_total", bundle=name) > 0
    assert (
        value(after, "ready_workers", model=name)
        == value(after, "workers")
        == value(after, "worker_starts_total")
        == 1
    )


def test_texts_of_the_inference_protocol_are_counted(client: httpx.Client, bundle: Bundle) -> None:
    before, name = scraped(client), bundle.path.name
    tensor = {"name": "text", "shape": [3], "datatype": "BYTES", "data": ["good film", "bad", ""]}
    assert client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor]}).status_code == 200
    after = scraped(client)

    def rise(metric: str, **labels: str) -> float:
        return value(after, metric, **labels) - value(before, metric, **labels)

    assert rise("requests_total", model=name, route="/v2/models/{name}/infer", status="200") == 1
    assert rise("tasks_total", model=name, outcome="predicted") == 3
    assert rise("prediction_score_count", version=bundle.version) == 3
    assert sum(rise("predictions_total", version=bundle.version, label=label) for label in bundle.labels) == 3
    assert rise("stage_seconds_count", model=name, stage="engine") == 1


def test_metrics_need_the_credentials_of_health(bundle: Bundle) -> None:
    with running(bundle, basic_auth_user="u", basic_auth_pass="p") as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", auth=("u", "wrong")).status_code == 401


def test_the_age_is_computed_at_the_scrape() -> None:
    metrics, now = Metrics(), 100.0
    page = MetricsPage(metrics.registry, None, [], clock=lambda: now)
    metrics.started(2, ["a"], ["a"])

    def current(metric: str, priority: str) -> float:
        return value(samples(page.text().decode()), metric, lane=priority)

    assert current("queue_age_seconds", "bulk") == current("queue_rows", "bulk") == 0
    metrics.on_queue_changed(Priority.BULK, PriorityStats(7, 90.0))
    assert (
        current("queue_age_seconds", "bulk"),
        current("queue_rows", "bulk"),
        current("queue_age_seconds", "interactive"),
    ) == (10.0, 7, 0)
    now = 101.5
    assert current("queue_age_seconds", "bulk") == 11.5
    metrics.on_queue_changed(Priority.BULK, PriorityStats(3, 101.0))
    assert (current("queue_age_seconds", "bulk"), current("queue_rows", "bulk")) == (0.5, 3)
    metrics.on_queue_changed(Priority.BULK, PriorityStats())
    assert current("queue_age_seconds", "bulk") == 0


def test_the_oldest_request_is_the_first_that_has_not_left() -> None:
    inside = QueueStats()
    assert inside.enter("a", Priority.BULK, 5, 1.0) == PriorityStats(5, 1.0)
    assert inside.enter("b", Priority.BULK, 3, 2.0) == PriorityStats(8, 1.0)
    assert inside.enter("c", Priority.INTERACTIVE, 1, 3.0) == PriorityStats(1, 3.0)
    assert inside.leave("a", Priority.BULK, 5) == PriorityStats(3, 2.0)
    assert (
        inside.leave("b", Priority.BULK, 3) == inside.leave("c", Priority.INTERACTIVE, 1) == PriorityStats()
    )


def test_failures_and_abandoned_rows() -> None:
    metrics = Metrics()
    metrics.on_batch_done("a", BatchRecord(echo, Priority.BULK, 3, 64, 90, None))
    metrics.on_abandoned(Priority.BULK, 5)
    metrics.set_ready("a", ready=False)
    found = samples(generate_latest(metrics.registry).decode())
    assert value(found, "engine_failures_total", bundle="a") == 1
    assert value(found, "batch_rows_count", bundle="a", lane="bulk") == 0
    assert value(found, "abandoned_rows_total", lane="bulk") == 5
    assert found["prelabel_ready_workers", frozenset({("model", "a")})] == 0


def test_prediction_stats_of_no_rows_and_at_bucket_bounds() -> None:
    prediction_stats = PredictionStats("v", ("a", "b"))
    prediction_stats.add(np.zeros((0, 2), dtype=np.float32), np.zeros(0))
    prediction_stats.add(
        np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], dtype=np.float32), np.array([0.0, 0.1, 1.0])
    )
    assert prediction_stats.by_label == [2, 1]
    assert prediction_stats.by_score == [2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert prediction_stats.score_sum == pytest.approx(1.1)


def test_memory_of_each_gpu() -> None:
    assert list(gpu_metrics(list)) == []
    samples_by_gpu = {
        metric.name: {sample.labels["gpu"]: sample.value for sample in metric.samples}
        for metric in gpu_metrics(two_gpus)
    }
    assert samples_by_gpu == {
        "prelabel_gpu_memory_used_bytes": {"0": 1, "1": 3},
        "prelabel_gpu_memory_total_bytes": {"0": 2, "1": 4},
    }
    assert all(0 < gpu.used <= gpu.total for gpu in NvmlReader()())


def fake_nvml(opened: list[str]) -> ModuleType:
    """Three GPUs, of which the second has failed."""

    def memory(handle: int) -> SimpleNamespace:
        if handle == 1:
            raise OSError
        return SimpleNamespace(used=handle, total=8)

    module = ModuleType("pynvml")
    vars(module).update(
        NVMLError=OSError,
        nvmlInit=lambda: opened.append("nvml"),
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=memory,
    )
    return module


def test_nvml_is_opened_once_at_the_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(opened))
    read = NvmlReader()
    assert opened == []
    assert read() == read() == [GpuMemory("0", 0, 8), GpuMemory("2", 2, 8)]
    assert opened == ["nvml"]


def two_gpus() -> list[GpuMemory]:
    return [GpuMemory("0", 1, 2), GpuMemory("1", 3, 4)]


def test_every_metric_is_documented_and_no_other(client: httpx.Client, tmp_path: Path) -> None:
    predict(client, ["good film"])
    client.post("/predict", json={})
    with LearningStore(tmp_path / STORE) as store:
        store.set_up(LearningProject(7, "films", "7.1", "<View/>"))
        store.receive(7, [Annotation(1, 1, 1, "a text", ("web",), "2026-01-01T10:00:00")])
        store.set_predicted(7, {1: ["web"]})
        store.add_round(7, {"decision": "accepted"})
        learning = learning_metrics(store)
    metrics = [*families_of(client.get("/metrics").text), *gpu_metrics(two_gpus), *learning]
    documented = re.findall(
        r"^\| `(prelabel_\w+)` \| (\w+) \| ?([^|]*)\|",
        (ROOT / "docs/metrics.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert sorted((name, kind) for name, kind, _ in documented) == sorted(
        (full_name(metric), metric.type) for metric in metrics
    )
    labels = {name: {each for each in written.strip().split(", ") if each} for name, _, written in documented}
    assert all(metric.samples for metric in metrics)
    for metric in metrics:
        for sample in metric.samples:
            assert set(sample.labels) - {"le"} == labels[full_name(metric)], metric.name


def full_name(metric: Metric) -> str:
    """As the page has it."""
    return metric.name + "_total" if metric.type == "counter" else metric.name


def test_bulk_commands_do_not_load_prometheus_client() -> None:
    code = (
        "import sys, prelabel, server.offline.predict_file, server.annotate.run; "
        "sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
