"""One POST of 20,000 tasks, as "Retrieve predictions" sends them, and what single tasks wait meanwhile.

    .venv/dev/bin/python -m benchmarks.large_request [REVIEWS.csv] [--tasks 20000] [--rounds 3] [--engine auto]

Starts a real `prelabel serve` and sends it tasks as Label Studio writes them (made-up reviews where no file is given). Single
tasks are asked for one after another from a process of its own, idle first and then beside each large request.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.texts import arguments, texts_of
from server.label_studio.config import TUTORIAL_CONFIG
from tests.e2e.conftest import serving

REST: dict[str, Any] = {
    "meta": {}, "created_at": "2026-01-02T03:04:05.678901Z", "updated_at": "2026-01-02T03:04:05.678901Z", "is_labeled": False, "overlap": 1,
    "total_annotations": 0, "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0, "unresolved_comment_count": 0,
    "last_comment_updated_at": None, "project": 1, "updated_by": None, "file_upload": None, "comment_authors": [], "annotations": [], "predictions": [],
}  # fmt: skip
"""What Label Studio sends with each task."""

SINGLES = """
import sys, time, httpx
url, body = sys.argv[1], sys.stdin.buffer.read()
with httpx.Client() as client:
    while True:
        begun = time.perf_counter()
        client.post(url, content=body).raise_for_status()
        print(time.perf_counter() - begun, flush=True)
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    asked = parser.parse_args()
    texts = texts_of(asked.reviews, asked.tasks)
    large = body_of(texts)
    with TemporaryDirectory() as folder, serving(asked.bundle, Path(folder) / "serve.log", "--engine", asked.engine) as server:
        memory = psutil.Process(next(each.pid for each in psutil.Process().children() if "serve" in each.cmdline())).memory_info
        title = f"{len(texts):,} tasks, {len(large) / 1e6:.1f} MB, {os.cpu_count()} cores"
        table = Table("", "seconds", "singles", "p50 ms", "p99 ms", "longest ms", "memory MB", title=title)
        table.add_row("idle", "", *told(beside(server, texts, lambda: time.sleep(3))[1]), f"{memory().rss / 1e6:.0f}")
        for number in range(asked.rounds):
            seconds, waits = beside(server, texts, lambda: server.post("/predict", content=large).raise_for_status())
            table.add_row(f"round {number + 1}", f"{seconds:.2f}", *told(waits), f"{memory().rss / 1e6:.0f}")
    Console(width=110).print(table)


def body_of(texts: list[str]) -> bytes:
    tasks = [{"id": i, "inner_id": i, "data": {"review": text, "uid": i}, **REST} for i, text in enumerate(texts)]
    return json.dumps({"tasks": tasks, "project": "1.1", "label_config": TUTORIAL_CONFIG, "params": {"context": None}}).encode()


def beside(server: httpx.Client, texts: list[str], work: Any) -> tuple[float, list[float]]:
    """Seconds that `work` took, and the seconds that each single task took meanwhile."""
    command = [sys.executable, "-c", SINGLES, f"{server.base_url}predict" if str(server.base_url).endswith("/") else f"{server.base_url}/predict"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as singles:  # noqa: S603 - this very program
        assert singles.stdin is not None  # noqa: S101 - it is a pipe
        assert singles.stdout is not None  # noqa: S101
        singles.stdin.write(body_of(texts[:1]))
        singles.stdin.close()
        singles.stdout.readline()
        begun = time.perf_counter()
        work()
        seconds = time.perf_counter() - begun
        singles.terminate()
        return seconds, [float(line) for line in singles.stdout.read().split()]


def told(waits: list[float]) -> tuple[str, ...]:
    ordered = sorted(waits)
    figures = statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]
    return (f"{len(ordered):,}", *(f"{figure * 1000:.1f}" for figure in figures))


if __name__ == "__main__":
    main()
