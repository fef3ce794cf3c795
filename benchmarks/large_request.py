"""One POST of 20,000 tasks, as "Retrieve predictions" sends it, and the latency of single tasks meanwhile.

    .venv/dev/bin/python -m benchmarks.large_request [REVIEWS.csv] [--tasks 20000] [--rounds 3]
                                                     [--engine auto]

Starts a real `prelabel serve` and sends it tasks as Label Studio writes them. Each round has four parts:
single tasks on an idle server, one after another from another process; the large request alone; both at the
same time; and the ceiling, the same texts through the same tokenizer, engine and number of threads without a
server: no JSON, no queue, no results. All figures are medians of the rounds. The share of the ceiling is that
of the large request alone.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import client, results
from benchmarks.label_studio import body_of
from benchmarks.load_result import LoadResult
from benchmarks.served import Served, served
from benchmarks.texts import arguments, texts_of
from server.offline.classifier import open_classifier
from server.settings import load_settings

SINGLES = 200
"""Number of different single tasks."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--idle", type=float, default=3.0, help="seconds of single tasks on an idle server")
    args = parser.parse_args()
    texts = texts_of(args.reviews, args.tasks)
    large, singles = body_of(texts), [body_of([text]) for text in texts[:SINGLES]]
    with (
        served(args.bundle, "--engine", args.engine) as server,
        open_classifier(load_settings(bundle=args.bundle, engine=args.engine)) as classifier,
    ):

        def large_request() -> float:
            return seconds_of(lambda: predict_all(server, large, len(texts)))

        def without_server() -> float:
            return seconds_of(lambda: classifier.probabilities(classifier.encode(texts)))

        without_server()
        memory = {"idle": server.memory_mb()}
        idle, during, alone, seconds_during, ceiling = (
            list[LoadResult](),
            list[LoadResult](),
            list[float](),
            list[float](),
            list[float](),
        )
        for _ in track(range(args.rounds), "rounds", console=Console(stderr=True)):
            idle.append(client.run(server.url(), singles, seconds=args.idle).checked())
            alone.append(large_request())
            seconds, load = client.run_during(server.url(), singles, large_request)
            seconds_during.append(seconds)
            during.append(load.checked())
            ceiling.append(without_server())
        memory["after"] = server.memory_mb()
    figures = {
        "tasks": len(texts),
        "mb": len(large) / 1e6,
        "rounds": args.rounds,
        "idle": latencies(idle),
        "during": latencies(during),
        "p99_times_idle": latencies(during)["p99_ms"] / latencies(idle)["p99_ms"],
        "seconds": statistics.median(alone),
        "seconds_during": statistics.median(seconds_during),
        "tasks_per_s": len(texts) / statistics.median(alone),
        "without_server_tasks_per_s": len(texts) / statistics.median(ceiling),
        "share_of_ceiling": statistics.median(ceiling) / statistics.median(alone),
        "memory_mb": memory,
    }
    report(figures, Console(width=110))
    results.write("large_request", figures)


def predict_all(server: Served, body: bytes, tasks: int) -> None:
    response = server.client.post("/predict", content=body)
    if not (response.is_success and response.content.count(b'"model_version"') == tasks):
        raise SystemExit(
            f"The large request returned {response.status_code}, not {tasks} predictions: "
            f"{response.text[:200]}"
        )


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def latencies(rounds: list[LoadResult]) -> dict[str, float]:
    """Latencies of single tasks: medians over rounds."""
    return {
        "singles": statistics.median_low(len(each.latencies) for each in rounds),
        "p50_ms": statistics.median(each.ms(0.5) for each in rounds),
        "p99_ms": statistics.median(each.ms(0.99) for each in rounds),
        "longest_ms": statistics.median(each.ms(1) for each in rounds),
    }


def report(figures: dict[str, Any], console: Console) -> None:
    title = (
        f"{figures['tasks']:,} tasks, {figures['mb']:.1f} MB, {figures['rounds']} rounds, {os.cpu_count()} "
        "cores"
    )
    table = Table("", "large: s", "tasks/s", "singles", "p50 ms", "p99 ms", "longest ms", title=title)

    def columns(name: str) -> tuple[str, ...]:
        found = figures[name]
        return (
            f"{found['singles']:,.0f}",
            *(f"{found[each]:.2f}" for each in ("p50_ms", "p99_ms", "longest_ms")),
        )

    table.add_row("idle", "", "", *columns("idle"))
    table.add_row("the large request alone", f"{figures['seconds']:.2f}", f"{figures['tasks_per_s']:,.0f}")
    table.add_row(
        "both",
        f"{figures['seconds_during']:.2f}",
        f"{figures['tasks'] / figures['seconds_during']:,.0f}",
        *columns("during"),
    )
    table.add_row(
        "no server",
        f"{figures['tasks'] / figures['without_server_tasks_per_s']:.2f}",
        f"{figures['without_server_tasks_per_s']:,.0f}",
    )
    console.print(table)
    console.print(
        f"p99 during ÷ idle: {figures['p99_times_idle']:.1f}; share of the ceiling: "
        f"{figures['share_of_ceiling']:.0%}; "
        f"memory: {figures['memory_mb']['idle']:.0f} MB before, {figures['memory_mb']['after']:.0f} MB after",
        highlight=False,
    )


if __name__ == "__main__":
    main()
