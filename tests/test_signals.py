"""`prelabel serve` as a process: what signals do."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from export.publish import export_bundle
from server.bundle import Bundle
from tests.conftest import ROOT, tiny_network

PATIENCE = 100.0
"""Seconds until a state that does not come is a failure. More than WORKER_TIMEOUT: a worker that dies while its parent asks it is missed only then."""


def until(state: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_hangup_takes_the_bundle_anew_and_terminate_ends_in_good_order(bundle: Bundle, tmp_path: Path) -> None:
    other = export_bundle(tiny_network(seed=1), tmp_path / "other", torchscript=False)
    shutil.copytree(bundle.path, tmp_path / "live")
    port = free_port()
    command = [sys.executable, "prelabel.py", "serve", "--bundle", str(tmp_path / "live"), "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as process:

        def version() -> str:
            try:
                return str(httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).json()["model_version"])
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
    assert process.returncode in (0, -signal.SIGTERM)
    assert f"{other.version} serves now, {bundle.version} is kept for a rollback" in log
    assert "Application shutdown complete" in log
