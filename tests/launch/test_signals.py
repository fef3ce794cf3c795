"""`prelabel serve` as a process: what signals do."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from export.publish_checkpoint import export_bundle
from server.bundle import Bundle
from tests.conftest import ROOT, tiny_network
from tests.ports import PLAIN_HTTP, reserved_port
from tests.serving import predict_body

PATIENCE = 300.0
"""Seconds until a state that does not come is a failure. More than WORKER_TIMEOUT: a worker that dies while
its parent asks it is missed only then.
"""


def until(state: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sighup_reloads_the_bundle_and_sigterm_exits_cleanly(bundle: Bundle, tmp_path: Path) -> None:
    other = export_bundle(tiny_network(seed=1), tmp_path / "other", torchscript=False)
    shutil.copytree(bundle.path, tmp_path / "live")
    port = reserved_port()
    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--bundle",
        str(tmp_path / "live"),
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True
    ) as process:

        def version() -> str:
            try:
                return str(
                    httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, verify=PLAIN_HTTP).json()[
                        "model_version"
                    ]
                )
            except httpx.TransportError:
                assert process.poll() is None
                return ""

        try:
            until(lambda: version() == bundle.version)
            shutil.rmtree(tmp_path / "live")
            shutil.copytree(other.path, tmp_path / "live")
            process.send_signal(signal.SIGHUP)
            until(lambda: version() == other.version)
            process.send_signal(signal.SIGTERM)
            log = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
    assert process.returncode == 0
    assert f"{other.version} serves now, {bundle.version} is kept for a rollback" in log
    assert "Application shutdown complete" in log


def test_sigterm_finishes_requests_in_flight_and_accepts_no_new_ones(bundle: Bundle, tmp_path: Path) -> None:
    port = reserved_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--bundle",
        str(bundle.path),
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    body = predict_body([f"good film {i} " * 100 for i in range(20_000)])
    with (
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process,
        ThreadPoolExecutor() as pool,
    ):

        def waiting() -> int:
            try:
                return int(httpx.get(f"{url}/health", timeout=30, verify=PLAIN_HTTP).json()["waiting_rows"])
            except httpx.TransportError:
                assert process.poll() is None
                return 0

        def is_refused() -> bool:
            try:
                return httpx.get(f"{url}/health", timeout=30, verify=PLAIN_HTTP).status_code == 0
            except httpx.ConnectError:
                return True
            except httpx.TransportError:
                return False

        try:
            until(lambda: is_refused() is False)
            begun = pool.submit(httpx.post, f"{url}/predict", json=body, timeout=PATIENCE)
            until(lambda: waiting() > 0)
            process.send_signal(signal.SIGTERM)
            until(is_refused)
            answer = begun.result()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert len(answer.json()["results"]) == 20_000
    assert all(each["result"] for each in answer.json()["results"])


def test_the_server_is_not_ready_while_it_drains(bundle: Bundle) -> None:
    """It drains for as long as a request is inside whose body is not complete."""
    port = reserved_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "prelabel.py",
        "serve",
        "--bundle",
        str(bundle.path),
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    body = json.dumps(predict_body(["good film"])).encode()
    with (
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PRELABEL_MAX_REQUESTS": "1"}, stderr=subprocess.DEVNULL
        ) as process,
        ExitStack() as stack,
    ):
        probes = stack.enter_context(httpx.Client(timeout=30, verify=PLAIN_HTTP))

        def is_ready() -> bool:
            """On a connection that is kept, or on a new one where it is not."""
            try:
                return all(probes.get(f"{url}{path}").is_success for path in ("/ready", "/v2/health/ready"))
            except httpx.TransportError:
                return False

        try:
            until(is_ready)
            begun = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            begun.sendall(
                f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body[:-1]
            )
            until(
                lambda: (
                    httpx.post(f"{url}/predict", content=body, timeout=30, verify=PLAIN_HTTP).status_code
                    == 429
                )
            )
            process.send_signal(signal.SIGTERM)
            until(lambda: not is_ready())
            assert not any(is_ready() for _ in range(3))
            assert process.poll() is None
            begun.sendall(body[-1:])
            assert b" 200 " in begun.recv(65536)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_kill_during_a_reload_leaves_a_usable_bundle(bundle: Bundle, tmp_path: Path) -> None:
    live = Path(shutil.copytree(bundle.path, tmp_path / "live"))
    before = {path.name: path.read_bytes() for path in live.iterdir()}
    for _ in range(2):
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
        ]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:

            def version(port: int = port) -> str:
                try:
                    return str(
                        httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, verify=PLAIN_HTTP).json()[
                            "model_version"
                        ]
                    )
                except httpx.TransportError:
                    return ""

            try:
                until(lambda: version() == bundle.version)
                process.send_signal(signal.SIGHUP)
            finally:
                process.kill()
    assert {path.name: path.read_bytes() for path in live.iterdir()} == before
