"""Several worker processes behind one port: one set of tables, one memory of projects, no request lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from export.publish_checkpoint import export_bundle
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import pad
from server.engines.cpu_tables import read_tables
from server.engines.factory import open_engine
from server.engines.shared_tables import shared_tables
from server.errors import BadSetting
from server.launch.launcher import check_startup, serve, warn_of_labels
from server.launch.uvicorn_protocol import bind, listen
from server.models.model import Model
from server.models.registry import Registry
from server.models.tokenizer import Tokenizer
from server.settings import Settings, load_settings
from tests.conftest import ROOT, random_texts, tiny_network
from tests.launch.test_signals import PATIENCE, until
from tests.ports import PLAIN_HTTP, reserved_port
from tests.serving import predict, set_up

TEXTS = random_texts(3)


class Workers:
    """A parent and its workers, asked over a new connection each time, so that any of them may answer."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.address = f"http://127.0.0.1:{port}"

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.address, timeout=PATIENCE, verify=PLAIN_HTTP) as client:
            yield client

    def health(self) -> dict[str, Any]:
        """Empty while no worker answers."""
        try:
            with self.client() as client:
                health: dict[str, Any] = client.get("/health").json()
                return health
        except httpx.TransportError:
            assert self.process.poll() is None
            return {}

    def metric(self, line: str) -> float:
        """The value of a line of /metrics, as some worker tells it; 0 where it is not there."""
        with self.client() as client:
            found = client.get("/metrics").text
        return next(
            (float(each.rsplit(" ", 1)[1]) for each in found.splitlines() if each.startswith(f"{line} ")), 0.0
        )

    def answering(self) -> set[int]:
        """The processes that answered several requests."""
        answers = [health for _ in range(10) if (health := self.health())]
        return {health["worker"]["process"] for health in answers}

    def both(self, gone: Collection[int] = ()) -> set[int]:
        """The two processes that answer. Waits for them, and until none answers that is `gone`."""
        found: set[int] = set()

        def are_two() -> bool:
            found.clear()
            found.update(self.answering())
            return len(found) == 2 and not found & set(gone)

        until(are_two)
        return found


@pytest.fixture(scope="module")
def live(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path_factory.mktemp("workers") / "live"))


@pytest.fixture(scope="module")
def workers(live: Path) -> Iterator[Workers]:
    port = reserved_port()
    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--bundle",
        str(live),
        "--port",
        str(port),
        "--device",
        "cpu",
        "--workers",
        "2",
    ]
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = os.environ | {"PRELABEL_ADMIN_TOKEN": "t", "TMPDIR": str(live.parent)} | one_thread
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            found = Workers(process, port)
            found.both()
            yield found
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0
    assert not list(live.parent.glob("prelabel-*"))


def test_the_scoring_set_in_one_worker_applies_in_all(workers: Workers) -> None:
    served = workers.health()["model_version"]
    with workers.client() as client:
        version = set_up(client, extra={"score": "margin"}).json()["model_version"]
    assert version == f"{served}-margin"
    answers = []
    for _ in range(20):
        with workers.client() as client:
            answers.append(predict(client, TEXTS))
    assert {each["model_version"] for answer in answers for each in answer} == {version}
    assert all(answer == answers[0] for answer in answers)


def test_the_parent_runs_no_engine_threads(workers: Workers) -> None:
    assert psutil.Process(workers.process.pid).num_threads() == 1


def test_sighup_reloads_the_bundle_in_all_workers(workers: Workers, live: Path) -> None:
    other = export_bundle(tiny_network(seed=1), live.parent / "other", torchscript=False)
    assert workers.health()["model_version"] != other.version
    with workers.client() as client:
        refused = client.post("/admin/reload", headers={"Authorization": "Bearer t"})
    assert (
        refused.status_code,
        f"SIGHUP to the parent, process {workers.process.pid}" in refused.text,
    ) == (400, True)
    before = workers.both()
    shutil.rmtree(live)
    other.path.rename(live)
    workers.process.send_signal(signal.SIGHUP)
    until(lambda: not any(map(psutil.pid_exists, before)))
    assert {workers.health().get("model_version") for _ in range(20)} == {other.version}


class FakeEngine:
    """Knows only whether it is open."""

    name = device = "fake"
    degraded: str | None = None
    is_open = True

    def run(self, ids: Ids, lengths: Ids) -> Floats:
        raise NotImplementedError

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("fails", [False, True])
def test_the_parent_loads_each_bundle_once_and_closes_it(
    bundle: Bundle, tmp_path: Path, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine, loaded, open_at_check = FakeEngine(), list[tuple[Path, Path]](), list[bool]()

    def load(path: Path, _: Settings, shared: Path) -> Model:
        loaded.append((path, shared))
        return Model(bundle, engine, Tokenizer.of(bundle))

    def on_checked(registry: Registry) -> None:
        warn_of_labels(load_settings(label_map="Negativ=bad"), registry)
        open_at_check.append(engine.is_open)
        if fails:
            raise BadSetting("no")

    settings = load_settings(bundle=(bundle.path,), device="cpu", workers=2)
    with pytest.raises(BadSetting) if fails else nullcontext():
        check_startup(settings, tmp_path, on_checked, load)
    assert loaded == [(bundle.path, tmp_path)]
    assert open_at_check == [True]
    assert "no model has the label Negativ (did you mean Negative?)" in caplog.text
    assert not engine.is_open


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("logging_as_before")
def test_a_port_that_is_taken_is_refused_before_anything_is_loaded(tmp_path: Path, workers: int) -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        settings = load_settings(bundle=(tmp_path / "none",), port=port, workers=workers)
        with pytest.raises(BadSetting, match=rf"port .PRELABEL_PORT. = {port}: another program .*--port"):
            serve(settings, lambda *_: pytest.fail("the banner is shown"))


def test_a_port_that_is_taken_meanwhile_is_refused() -> None:
    with bind("127.0.0.1", 0) as slow, bind("127.0.0.1", slow.getsockname()[1]) as fast:
        fast.listen()
        with pytest.raises(BadSetting, match="PRELABEL_PORT"):
            listen(slow)


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.7", "x" * 70, "2001:db8::7", "not a host"])
def test_a_host_that_is_not_this_machine_is_refused_with_the_remedy(host: str) -> None:
    with pytest.raises(BadSetting, match=rf"host .PRELABEL_HOST. = '{host}': .*--host 0.0.0.0"):
        bind(host, 0)


def test_the_banner_is_shown_once_the_port_is_open_and_has_its_number(bundle: Bundle) -> None:
    command = [sys.executable, "prelabel.py", "serve", "--bundle", str(bundle.path), "--device", "cpu"]
    with subprocess.Popen(
        [*command, "--port", "0", "--log-format", "json"],
        cwd=ROOT,
        env=os.environ | {"PRELABEL_WORKER": "2"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            warning = json.loads(process.stderr.readline())
            assert (warning["level"], "PRELABEL_WORKERS?" in warning["message"]) == ("warning", True)
            banner = next(line for line in map(json.loads, process.stderr) if line["message"] == "serving")
            [url] = [model["url"] for model in banner["models"]]
            assert httpx.get(f"{url}/ready", timeout=PATIENCE, verify=PLAIN_HTTP).is_success
        finally:
            process.kill()


def test_mapped_tables_are_those_that_were_read(bundle: Bundle, tmp_path: Path) -> None:
    (mapped,), mapped_bias = shared_tables(bundle, tmp_path)
    (read,), bias = read_tables(bundle)
    assert all(np.array_equal(getattr(mapped, name), getattr(read, name)) for name in vars(read))
    assert np.array_equal(mapped_bias, bias)
    assert [each.name for each in tmp_path.iterdir()] == [bundle.version]
    again = open_engine(bundle, shared=tmp_path, device="cpu")
    rows: list[Ids] = [np.arange(9, dtype=np.int32)]
    assert np.array_equal(again.run(*pad(rows, 9)), open_engine(bundle, device="cpu").run(*pad(rows, 9)))


def test_a_worker_that_died_is_replaced_and_any_tells_what_all_counted(workers: Workers, live: Path) -> None:
    predicted = f'prelabel_requests_total{{model="{live.name}",route="/predict",status="200"}}'
    ready = f'prelabel_ready_workers{{model="{live.name}"}}'
    starts = "prelabel_worker_starts_total"
    before = workers.both()
    requests_before, starts_before = workers.metric(predicted), workers.metric(starts)
    for _ in range(20):
        with workers.client() as client:
            predict(client, TEXTS)
    until(lambda: workers.metric(predicted) == requests_before + 20)  # counted after the response is sent
    assert {workers.metric(predicted) for _ in range(20)} == {requests_before + 20}
    assert [workers.metric(line) for line in ("prelabel_workers", starts, ready)] == [2, starts_before, 2]
    os.kill(min(before), signal.SIGKILL)
    workers.both(gone={min(before)})
    assert {workers.metric(predicted) for _ in range(20)} == {requests_before + 20}
    assert [workers.metric(line) for line in ("prelabel_workers", starts, ready)] == [2, starts_before + 1, 2]
    assert workers.metric('prelabel_queue_age_seconds{lane="bulk"}') == 0
