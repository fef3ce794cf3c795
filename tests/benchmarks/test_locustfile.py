"""The locustfile, run by Locust in another process (it patches the standard library) against `prelabel
serve`.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.bundle import Bundle
from tests.conftest import ROOT
from tests.e2e.conftest import serving
from tests.launch.test_signals import until
from tests.serving import running
from tests.transport.test_admission import connected, head

pytestmark = pytest.mark.slow

MAX_TASKS = 30

Stats = dict[str, dict[str, Any]]
"""Locust's statistics by method and name."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("locust") / "serve.log"


@pytest.fixture(scope="module")
def server(bundle: Bundle, log: Path) -> Iterator[httpx.Client]:
    with serving(
        bundle.path,
        log,
        "--device",
        "cpu",
        settings={"PRELABEL_MAX_TASKS": str(MAX_TASKS)},
    ) as client:
        yield client


def locust(server: httpx.Client, *options: str) -> tuple[int, Stats]:
    """Its status and its statistics."""
    address = str(server.base_url).rstrip("/")
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        "benchmarks/locustfile.py",
        "--host",
        address,
        "--headless",
        "--json",
        "--skip-log-setup",
        *options,
    ]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout, done.stderr
    return done.returncode, {f"{each['method']} {each['name']}": each for each in json.loads(done.stdout)}


def test_annotators_and_retrieve_with_the_stages_of_the_server(server: httpx.Client) -> None:
    status, stats = locust(server, "-u", "10", "-r", "10", "-t", "2s", "--sizes", "2,5")
    assert status == 0
    single = stats["POST /predict 1 task"]
    assert single["num_requests"] > 0
    assert {
        stats[f"timing /predict 1 task: {stage}"]["num_requests"] for stage in ("parse", "engine", "total")
    } == {single["num_requests"]}
    assert {"GET /health", "POST /setup", "POST /predict 2 tasks", "POST /predict 5 tasks"} <= set(stats)
    assert sum(each["num_failures"] for each in stats.values()) == 0


def test_a_ramp_names_its_steps(server: httpx.Client) -> None:
    status, stats = locust(server, "-u", "2", "--shape", "ramp", "--step", "1", "Annotator")
    assert status == 0
    assert {"POST /predict 1 task, 1 user", "POST /predict 1 task, 2 users"} <= set(stats)


def test_a_429_has_its_own_name_and_a_failure_is_a_failure(server: httpx.Client, bundle: Bundle) -> None:
    with running(bundle, max_requests=1) as full, connected(full) as first:
        first.sendall(head(10))
        until(lambda: full.post("/predict", content=b"").status_code == 429)
        status, stats = locust(full, "-u", "1", "-t", "1s", "--sizes", "2", "Retrieve")
    refused = stats["POST /predict 2 tasks, refused with 429"]
    assert (status, refused["num_failures"]) == (0, 0)
    assert refused["num_requests"] > 0
    assert "POST /predict 2 tasks" not in stats
    status, stats = locust(server, "-u", "1", "-t", "1s", "--sizes", str(MAX_TASKS + 1), "Retrieve")
    failed = stats[f"POST /predict {MAX_TASKS + 1} tasks"]
    assert status == 1
    assert 0 < failed["num_failures"] == failed["num_requests"]


def test_a_ramp_doubles_its_users_up_to_the_maximum() -> None:
    # importing the module would import Locust, which patches this process
    code = (
        "from benchmarks.locustfile import users_at; print([users_at(second / 2, 1, 5) for second in "
        "range(9)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1, 1, 2, 2, 4, 4, 5, 5, None]"


def test_each_request_uses_a_new_connection() -> None:
    connections: list[tuple[str, int]] = []

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            connections.append(self.client_address)
            answer = b'{"status": "UP", "model_version": "v", "results": [{}]}'
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET  # noqa: N815 - the handler's own names

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as backend:
        thread = threading.Thread(target=backend.serve_forever)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{backend.server_port}") as client:
            locust(client, "-u", "2", "-r", "2", "-t", "1s", "Annotator")
        backend.shutdown()
        thread.join()
    # a few ports are used again
    assert len(set(connections)) > len(connections) / 2 > 1
