"""A crash of the batcher: callers get an error, the process ends with a failure, a supervisor restarts it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from server.bundle import Bundle
from tests.conftest import ROOT
from tests.launch.test_signals import PATIENCE, until
from tests.ports import PLAIN_HTTP, reserved_port
from tests.serving import predict_body
from tests.transport.test_admission import head

PROGRAM = """
import sys
from pathlib import Path
from server.batching.buckets import Buckets
from server.launch.launcher import serve
from server.settings import load_settings

bug, pop = Path(sys.argv[1]), Buckets.pop

def pop_with_a_bug(self, now):
    if bug.exists():
        bug.unlink()
        raise ZeroDivisionError
    return pop(self, now)

Buckets.pop = pop_with_a_bug
if __name__ == "__main__":
    bundle, port, workers = sys.argv[2:]
    serve(
        load_settings(bundle=(Path(bundle),), port=int(port), workers=int(workers), device="cpu"),
        lambda *_: None,
    )
"""
"""`prelabel serve` with a bug in the batching policy: it raises in one process when the file `bug` exists."""


class Server:
    def __init__(self, process: subprocess.Popen[str], port: int, bug: Path) -> None:
        self.process, self.bug = process, bug
        self.url = f"http://127.0.0.1:{port}"

    def worker(self) -> int | None:
        """The id of a process that answers."""
        try:
            worker: int = httpx.get(f"{self.url}/health", timeout=PATIENCE, verify=PLAIN_HTTP).json()[
                "worker"
            ]["process"]
        except httpx.TransportError:
            return None
        return worker

    def crash(self) -> httpx.Response:
        self.bug.touch()
        return httpx.post(
            f"{self.url}/predict", json=predict_body(["good film"]), timeout=PATIENCE, verify=PLAIN_HTTP
        )


@contextmanager
def serving(bundle: Bundle, folder: Path, workers: int, **settings: str) -> Iterator[Server]:
    program, bug, port = folder / "program.py", folder / "bug", reserved_port()
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program), str(bug), str(bundle.path), str(port), str(workers)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Server(process, port, bug)
        finally:
            process.kill()


def test_a_process_whose_batcher_crashed_answers_its_callers_and_ends_with_a_failure(
    bundle: Bundle, tmp_path: Path
) -> None:
    with serving(bundle, tmp_path, workers=1) as server:
        until(lambda: server.worker() is not None)
        answer = server.crash()
        _, log = server.process.communicate(timeout=PATIENCE)
    assert (answer.status_code, answer.json()["error"]) == (503, "Unavailable")
    assert "has failed and restarts" in answer.text
    assert server.process.returncode == 1
    assert "the batcher crashed" in log
    assert "ZeroDivisionError" in log


def test_a_slow_client_does_not_delay_the_end_of_a_crashed_process(bundle: Bundle, tmp_path: Path) -> None:
    timeouts = {"PRELABEL_BODY_TIMEOUT": "600", "PRELABEL_DRAIN_TIMEOUT": "600"}
    with serving(bundle, tmp_path, workers=1, **timeouts) as server:
        until(lambda: server.worker() is not None)
        address = httpx.URL(server.url)
        with socket.create_connection((address.host, address.port or 0)) as slow:
            slow.sendall(head(10) + b"{")
            server.crash()
            server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == 1


def test_a_worker_whose_batcher_crashed_is_replaced(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, workers=2) as server:
        before: set[int] = set()

        def both_answer() -> bool:
            before.add(server.worker() or 0)
            return len(before - {0}) == 2

        until(both_answer)
        assert server.crash().status_code == 503
        until(lambda: server.worker() not in {None, *before})
        assert httpx.post(
            f"{server.url}/predict", json=predict_body(["good"]), timeout=PATIENCE, verify=PLAIN_HTTP
        ).is_success
        server.process.send_signal(signal.SIGTERM)
        _, log = server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == 0
    assert log.count("the batcher crashed") == 1
