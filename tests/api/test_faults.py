"""Engine faults behind a real server: no wrong answer, no caller waits forever, /health and /ready report the
fault, and the server recovers.
"""

import concurrent.futures
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from server.arrays import Floats, Ids
from server.batching.buckets import Buckets
from server.batching.pending_request import QueueEntry
from server.bundle import Bundle
from server.engines.base import Engine
from server.engines.factory import open_engine
from server.models import model
from server.models.fault_limits import FaultLimits
from tests.conftest import random_texts
from tests.launch.test_signals import until
from tests.serving import predict, predict_body, running

LIMITS = FaultLimits(rebuild_interval=0.05)


@dataclass
class Fault:
    """The fault of the first engine while `kind` is set; with `lasting`, also of engines opened later."""

    kind: str = ""
    lasting: bool = False
    returned: threading.Event = field(default_factory=threading.Event)
    opened: int = 0


class FaultyEngine:
    """A real engine with a fault."""

    def __init__(self, engine: Engine, fault: Fault) -> None:
        self._engine, self._fault = engine, fault
        self.name, self.device, self.degraded = engine.name, engine.device, engine.degraded
        fault.opened += 1
        self._is_first = fault.opened == 1

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        if not (self._is_first or self._fault.lasting):
            return self._engine.run(ids, lengths)
        match self._fault.kind:
            case "raises":
                raise RuntimeError("secret detail")
            case "ends its thread":
                raise SystemExit
            case "returns nan":
                return np.full((len(ids), 2), np.nan, dtype=np.float32)
            case "returns too few rows":
                return self._engine.run(ids, lengths)[1:]
            case "hangs":
                self._fault.returned.wait()
            case "raises for long texts" if ids.shape[1] > 64:
                raise RuntimeError("secret detail")
            case "has memory for three" if len(ids) > 3:
                raise MemoryError
        return self._engine.run(ids, lengths)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    found = Fault()
    monkeypatch.setattr(
        model, "open_engine", lambda *args, **options: FaultyEngine(open_engine(*args, **options), found)
    )
    yield found
    found.returned.set()


def status_of(client: httpx.Client, path: str) -> int:
    return client.get(path).status_code


def fail(client: httpx.Client, texts: Any = ("good",)) -> httpx.Response:
    answer = client.post("/predict", json=predict_body(texts))
    assert answer.status_code == 500
    assert answer.json()["error"] == "EngineFailed"
    assert "secret" not in answer.text
    return answer


def test_an_inference_request_gets_all_results_or_an_error(bundle: Bundle, fault: Fault) -> None:
    """Some model calls of the request succeed, because the engine is rebuilt meanwhile."""
    texts = random_texts(600)
    body = {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
    with running(bundle, batch_tokens=1024, bucket_lengths=(64, 128, 256, 512)) as client:
        fault.kind = "raises"
        answer = client.post("/v2/models/tiny/infer", json=body)
        assert (answer.status_code, answer.json().keys()) == (500, {"error"})
        assert "secret" not in answer.text
        assert client.get("/health").json()["waiting_rows"] == 0
        fault.kind = ""
        assert client.post("/v2/models/tiny/infer", json=body).is_success


FAULTS = ("raises", "ends its thread", "returns nan", "returns too few rows", "hangs")


@pytest.mark.parametrize("kind", FAULTS)
def test_an_engine_that_fails_repeatedly_is_rebuilt(bundle: Bundle, fault: Fault, kind: str) -> None:
    with running(bundle, limits=LIMITS, call_timeout=0.3) as client:
        right = predict(client, ["good film"])
        fault.kind = kind
        fail(client)
        fail(client)
        assert (status_of(client, "/health"), fault.opened) == (200, 1)
        fail(client)
        until(lambda: status_of(client, "/ready") == 200)
        assert fault.opened == 2
        assert predict(client, ["good film"]) == right


@pytest.mark.parametrize("kind", FAULTS)
def test_one_failure_affects_one_request(bundle: Bundle, fault: Fault, kind: str) -> None:
    with running(bundle, limits=LIMITS, call_timeout=0.3) as client:
        right = predict(client, ["good film"])
        for _ in range(5):
            fault.kind = kind
            fail(client)
            fault.kind = ""
            assert predict(client, ["good film"]) == right
        assert (status_of(client, "/health"), fault.opened) == (200, 1)


def test_failed_tasks_of_a_request_are_counted_as_failed_and_not_as_predictions(
    bundle: Bundle, fault: Fault
) -> None:
    with running(bundle) as client:
        fault.kind = "raises for long texts"
        answers = predict(client, ["good film", "film " * 100, None, "bad"])
        metrics = {
            name: float(number)
            for name, number in (
                line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#"
            )
        }
    assert [bool(each) for each in answers] == [True, False, True, True]
    model = f'model="{bundle.path.name}"'
    assert [
        metrics[f'prelabel_tasks_total{{{model},outcome="{outcome}"}}']
        for outcome in ("predicted", "empty", "failed")
    ] == [2, 1, 1]
    assert sum(count for name, count in metrics.items() if name.startswith("prelabel_predictions_total")) == 2
    assert metrics[f'prelabel_prediction_score_count{{version="{bundle.version}"}}'] == 2
    assert metrics[f'prelabel_engine_failures_total{{bundle="{bundle.path.name}"}}'] == 1


def test_the_server_reports_an_engine_that_cannot_be_rebuilt_and_recovers_by_itself(
    bundle: Bundle, fault: Fault
) -> None:
    with running(bundle, limits=LIMITS, call_timeout=0.3) as client:
        right = predict(client, ["good film"])
        fault.kind, fault.lasting = "raises", True
        for _ in range(LIMITS.failed_calls):
            fail(client)
        until(lambda: fault.opened > 3)
        health = client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "DOWN")
        assert status_of(client, "/ready") == 503
        assert client.get("/live").json() == {"status": "live"}
        for path in ("/v2/health/ready", "/v2/models/tiny/ready"):
            answer = client.get(path)
            assert (
                answer.status_code,
                answer.json()["ready"],
                "model calls fail" in answer.json()["error"],
            ) == (503, False, True)
        assert client.get("/v2/health/live").json() == {"live": True}
        metrics = client.get("/metrics").text
        assert f'prelabel_ready_workers{{model="{bundle.path.name}"}} 0.0' in metrics
        assert f'prelabel_engine_failures_total{{bundle="{bundle.path.name}"}} 0.0' not in metrics
        fault.kind = ""
        until(lambda: status_of(client, "/ready") == 200)
        assert client.get("/health").json()["status"] == "UP"
        assert predict(client, ["good film"]) == right


def test_a_hung_call_delays_no_other_request(bundle: Bundle, fault: Fault) -> None:
    with (
        running(bundle, call_timeout=30, engine_threads=1) as client,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        right = predict(client, ["good film"])
        fault.kind = "hangs"
        hanging = pool.submit(predict, client, ["bad", "film"])
        until(lambda: client.get("/health").json()["waiting_rows"] == 2)
        fault.kind = ""
        # single tasks have a reserved thread
        assert predict(client, ["good film"]) == right
        fault.returned.set()
        assert len(hanging.result()) == 2


def test_the_server_stops_although_calls_hang(bundle: Bundle, fault: Fault) -> None:
    with running(bundle, limits=LIMITS, call_timeout=0.3) as client:
        fault.kind, fault.lasting = "hangs", False
        fail(client)
    assert not fault.returned.is_set()


def test_too_many_hung_calls_are_reported_and_the_server_recovers(bundle: Bundle, fault: Fault) -> None:
    with running(bundle, limits=FaultLimits(hung_calls=1, failed_calls=1000), call_timeout=0.2) as client:
        right = predict(client, ["good film"])
        fault.kind = "hangs"
        fail(client)
        fail(client)
        refused = client.post("/predict", json=predict_body(["good"]))
        assert (refused.status_code, "hang" in refused.text) == (503, True)
        assert status_of(client, "/ready") == 503
        fault.kind = ""
        fault.returned.set()
        until(lambda: status_of(client, "/ready") == 200)
        assert predict(client, ["good film"]) == right


def test_a_crashed_batcher_fails_every_probe_and_every_request(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = threading.Event()

    def pop_with_a_bug(buckets: Buckets[QueueEntry], now: float) -> None:
        raise ZeroDivisionError

    with running(bundle, on_crash=crashed.set) as client:
        predict(client, ["good film"])
        assert {status_of(client, path) for path in ("/live", "/v2/health/live", "/ready")} == {200}
        monkeypatch.setattr(Buckets, "pop", pop_with_a_bug)
        for _ in range(2):
            answer = client.post("/predict", json=predict_body(["good"]))
            assert (answer.status_code, answer.json()["error"]) == (503, "Unavailable")
            assert "has failed and restarts" in answer.text
        for path in ("/live", "/v2/health/live", "/ready", "/health"):
            assert status_of(client, path) == 503
            assert "has failed and restarts" in client.get(path).text
        assert crashed.is_set()


def test_a_batch_that_does_not_fit_into_memory_is_split_in_half(bundle: Bundle, fault: Fault) -> None:
    texts = random_texts(100)
    with running(bundle) as client:
        right = predict(client, texts)
        fault.kind = "has memory for three"
        assert predict(client, texts) == right


def test_a_bundle_damaged_on_disk_continues_to_serve_and_is_not_reloaded(
    bundle: Bundle, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle.path, tmp_path / "live"))
    served = Bundle(folder, bundle.manifest, bundle.encoders)
    with running(served, admin_token="t") as client:
        right = predict(client, ["good film"])
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-100])
        (folder / "vocab.txt").unlink()
        assert predict(client, ["good film"]) == right
        refused = client.post("/admin/reload", headers={"Authorization": "Bearer t"})
        assert (refused.status_code, "export the bundle again" in refused.text) == (409, True)
        assert predict(client, ["good film"]) == right
        assert status_of(client, "/ready") == 200
