"""`prelabel predict` of a file of reviews: seconds of the whole process, and its peak memory.

    .venv/dev/bin/python -m benchmarks.bulk [REVIEWS.csv] [--made-up 25000] [--rounds 3]

Predicts the whole file; without one, a CSV of made-up reviews. Figures are medians over rounds and include
the start of Python.
"""

import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import results
from benchmarks.results import ROOT
from benchmarks.texts import arguments, made_up_texts

PERIOD = 0.005
"""Seconds between two samples of the memory, and the resolution of the end."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--made-up", type=int, default=25_000, help="number of reviews without a file")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        source = args.reviews or made_up_file(Path(folder) / "reviews.csv", args.made_up)
        out = Path(folder) / "tasks.json"
        rounds = [
            predict(source.resolve(), out, args.bundle)
            for _ in track(range(args.rounds), "rounds", console=Console(stderr=True))
        ]
        reviews = len(msgspec.json.decode(out.read_bytes()))
    seconds, peak = (statistics.median(each) for each in zip(*rounds, strict=True))
    table = Table(
        "reviews",
        "seconds",
        "reviews/s",
        "peak MB",
        title=f"prelabel predict, {args.rounds} rounds, {os.cpu_count()} cores",
    )
    table.add_row(f"{reviews:,}", f"{seconds:.2f}", f"{reviews / seconds:,.0f}", f"{peak:.0f}")
    Console(width=100).print(table)
    figures = {
        "reviews": reviews,
        "seconds": seconds,
        "rounds": args.rounds,
        "reviews_per_s": reviews / seconds,
        "peak_memory_mb": peak,
    }
    results.write("bulk", figures)


def made_up_file(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review"])
        writer.writerows([text] for text in made_up_texts(count))
    return path


def predict(source: Path, out: Path, bundle: Path) -> tuple[float, float]:
    """Seconds of `prelabel predict`, and the peak memory of the process in MB."""
    command = [sys.executable, "prelabel.py", "predict", str(source), str(out), "--bundle", str(bundle)]
    with (out.parent / "log").open("w+b") as log:
        start = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:  # noqa: S603 - this very program
            # the kernel's peak (ru_maxrss) would include the memory of this process, from which it forks
            watched, peak = psutil.Process(process.pid), 0
            while process.poll() is None:
                peak = max(peak, watched.memory_info().rss)
                time.sleep(PERIOD)
            seconds = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            raise SystemExit(
                "prelabel predict ended with status "
                f"{process.returncode}:\n{log.read().decode(errors='replace')[-2000:]}"
            )
    return seconds, peak / 1e6


if __name__ == "__main__":
    main()
