"""Start-up time of `prelabel serve`: seconds to the first 200 of /health and to the first predicted task.

    .venv/dev/bin/python -m benchmarks.ready [REVIEWS.csv] [--rounds 5]

Each round starts a new process and polls /health every 10 ms. Caches of the system and of numba are warm, as
after a first start. Figures are medians over rounds.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import results
from benchmarks.label_studio import body_of
from benchmarks.results import ROOT
from benchmarks.served import memory_mb
from benchmarks.texts import arguments, texts_of
from tests.ports import reserved_port

PERIOD = 0.01
"""Seconds between two requests of /health."""

PATIENCE = 120.0
"""Seconds after which a server that does not respond counts as failed."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    body = body_of(texts_of(args.reviews, 1))
    measure_start(args.bundle, body)  # warms the caches
    rounds = [
        measure_start(args.bundle, body)
        for _ in track(range(args.rounds), "starts", console=Console(stderr=True))
    ]
    health, answer, memory = (statistics.median(each) for each in zip(*rounds, strict=True))
    table = Table(
        "", "seconds", title=f"From starting the process, {args.rounds} rounds, {os.cpu_count()} cores"
    )
    table.add_row("first /health", f"{health:.2f}")
    table.add_row("first predicted task", f"{answer:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"{memory:.0f} MB when ready", highlight=False)
    results.write(
        "ready",
        {
            "seconds_to_health": health,
            "seconds_to_first_answer": answer,
            "rounds": args.rounds,
            "memory_mb": memory,
        },
    )


def measure_start(bundle: Path, body: bytes) -> tuple[float, float, float]:
    """A new process: seconds to the first /health and to the first predicted task, and its memory in MB."""
    url = f"http://127.0.0.1:{(port := reserved_port())}"
    command = [sys.executable, "prelabel.py", "serve", "--bundle", str(bundle), "--port", str(port)]
    with (
        TemporaryDirectory() as folder,
        (Path(folder) / "log").open("w+b") as log,
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client,
    ):
        start = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:  # noqa: S603 - this very program
            try:
                while not is_up(client):
                    if process.poll() is not None or time.perf_counter() - start > PATIENCE:
                        log.seek(0)
                        raise SystemExit(
                            f"The server did not start:\n{log.read().decode(errors='replace')[-2000:]}"
                        )
                    time.sleep(PERIOD)
                healthy = time.perf_counter() - start
                answer = client.post("/predict", content=body).raise_for_status().json()
                answered = time.perf_counter() - start
                if [bool(each.get("result")) for each in answer["results"]] != [True]:
                    raise SystemExit(f"The first task was not predicted: {answer}")
                return healthy, answered, memory_mb(psutil.Process(process.pid))
            finally:
                process.terminate()


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
