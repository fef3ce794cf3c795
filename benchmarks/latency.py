"""What a single task waits when tasks come at random, at rising shares of what the server can do.

    .venv/dev/bin/python -m benchmarks.latency [REVIEWS.csv] [--rounds 3] [--seconds 3] [--shares 10,25,50,75,90,95]

Starts a real `prelabel serve`. Each round first measures its capacity, requests a second with 16 clients that
never pause, and then sends single tasks at random times (Poisson) at shares of just that. A latency counts
from when its request was due, so that a queue is not hidden by a client that waits for it; the client's own
waking is part of it. Medians of the rounds; the longest is of all rounds. Refusals (429, 503) are counted,
anything else ends the run.
"""

import os
import statistics
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import client, results
from benchmarks.label_studio import body_of
from benchmarks.load_result import LoadResult
from benchmarks.served import served
from benchmarks.texts import arguments, numbers_of, texts_of

CLIENTS = 16
"""Enough to keep every core of a small machine at work."""

TEXTS = 500
"""Different texts that the tasks have."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--shares", type=numbers_of, default="10,25,50,75,90,95", help="per cent of the capacity"
    )
    asked = parser.parse_args()
    bodies = [body_of([text]) for text in texts_of(asked.reviews, TEXTS)]
    capacities: list[float] = []
    loads: dict[int, list[LoadResult]] = {share: [] for share in asked.shares}
    with served(asked.bundle) as server, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=asked.rounds * (1 + len(loads)))
        for number in range(asked.rounds):
            capacities.append(
                client.run(server.url(), bodies, clients=CLIENTS, seconds=asked.seconds)
                .checked()
                .requests_per_s
            )
            progress.advance(bar)
            for share, rounds in loads.items():
                rate = capacities[-1] * share / 100
                rounds.append(
                    client.run(
                        server.url(), bodies, rate=rate, seconds=asked.seconds, seed=number + 1
                    ).checked(may_refuse=True)
                )
                progress.advance(bar)
    figures = {
        "capacity_per_s": statistics.median(capacities),
        "loads": [{"share": share / 100, **told(rounds)} for share, rounds in loads.items()],
    }
    report(figures, Console(width=100))
    results.write("latency", figures)


def told(rounds: list[LoadResult]) -> dict[str, float]:
    return {
        "per_s": statistics.median(each.requests_per_s for each in rounds),
        "p50_ms": statistics.median(each.ms(0.5) for each in rounds),
        "p99_ms": statistics.median(each.ms(0.99) for each in rounds),
        "longest_ms": max(each.ms(1) for each in rounds),
        "refused": sum(each.refused for each in rounds),
    }


def report(figures: dict[str, Any], console: Console) -> None:
    title = f"Capacity: {figures['capacity_per_s']:,.0f} single tasks a second, {os.cpu_count()} cores"
    table = Table("of the capacity", "tasks/s", "p50 ms", "p99 ms", "longest ms", "refused", title=title)
    for load in figures["loads"]:
        waits = (f"{load[each]:.2f}" for each in ("p50_ms", "p99_ms", "longest_ms"))
        table.add_row(f"{load['share']:.0%}", f"{load['per_s']:,.0f}", *waits, str(load["refused"]))
    console.print(table)


if __name__ == "__main__":
    main()
