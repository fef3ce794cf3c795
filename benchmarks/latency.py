"""Latency of single tasks under load: arrivals at random times, at rising shares of the capacity.

    .venv/dev/bin/python -m benchmarks.latency [REVIEWS.csv] [--rounds 3] [--seconds 3]
                                               [--shares 10,25,50,75,90,95]

Starts a real `prelabel serve`. Each round first measures the capacity, in requests per second with 16 clients
in a closed loop, and then sends single tasks at random times (Poisson) at shares of it. A latency counts from
when its request was due, so a client that waits for the server cannot hide a queue; the client's own wake-up
is included. Figures are medians over rounds, the maximum is over all rounds. Status 429 and 503 are counted;
any other failure ends the run.
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
"""Enough to keep every core of a small machine busy."""

TEXTS = 500
"""Number of different tasks."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--shares", type=numbers_of, default="10,25,50,75,90,95", help="percent of the capacity"
    )
    args = parser.parse_args()
    bodies = [body_of([text]) for text in texts_of(args.reviews, TEXTS)]
    capacities: list[float] = []
    loads: dict[int, list[LoadResult]] = {share: [] for share in args.shares}
    with served(args.bundle) as server, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("runs", total=args.rounds * (1 + len(loads)))
        for number in range(args.rounds):
            capacities.append(
                client.run(server.url(), bodies, clients=CLIENTS, seconds=args.seconds)
                .checked()
                .requests_per_s
            )
            progress.advance(bar)
            for share, rounds in loads.items():
                rate = capacities[-1] * share / 100
                rounds.append(
                    client.run(
                        server.url(), bodies, rate=rate, seconds=args.seconds, seed=number + 1
                    ).checked(may_refuse=True)
                )
                progress.advance(bar)
    figures = {
        "capacity_per_s": statistics.median(capacities),
        "loads": [{"share": share / 100, **summary(rounds)} for share, rounds in loads.items()],
    }
    report(figures, Console(width=100))
    results.write("latency", figures)


def summary(rounds: list[LoadResult]) -> dict[str, float]:
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
