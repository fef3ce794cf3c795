"""Time per stage of a request, with 20,000 tasks and with a single task, from Server-Timing headers.

    .venv/dev/bin/python -m benchmarks.stage_breakdown [REVIEWS.csv] [--tasks 20000] [--rounds 3]
                                                       [--singles 500]

Starts a real `prelabel serve`. Each figure is the median over requests, divided by the tasks of one request.
The server's total runs from the last byte of the body to the encoded response; the client's wall clock adds
transfer and the reading of the body.

With one task the stages run in sequence; the total exceeds their sum by the wake-ups of the event loop and of
threads. With many tasks micro-batches run concurrently: tokenize, engine and results are sums over
micro-batches, so the sum of the stages may exceed the total. Queue is the mean time that a text waits for its
model call, also shown undivided.
"""

import os
import statistics
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import client, results
from benchmarks.label_studio import body_of
from benchmarks.load_result import LoadResult
from benchmarks.served import served
from benchmarks.texts import arguments, texts_of

STAGES = ("parse", "tokenize", "queue", "engine", "results", "write")

NAMES = {
    "sum_us": "sum of the stages",
    "total_us": "total",
    "wall_us": "client's wall clock",
    "text_waited_us": "mean wait of a text in the queue",
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=500)
    args = parser.parse_args()
    texts = texts_of(args.reviews, max(args.tasks, args.singles))
    bodies = {
        "large": [body_of(texts[: args.tasks])],
        "single": [body_of([text]) for text in texts[: args.singles]],
    }
    found: dict[str, list[LoadResult]] = {kind: [] for kind in bodies}
    with served(args.bundle) as server:
        for _ in track(range(args.rounds), "rounds", console=Console(stderr=True)):
            for kind, each in bodies.items():
                found[kind].append(client.run(server.url(), each, requests=len(each)).checked())
    figures = {kind: breakdown(found[kind], tasks) for kind, tasks in (("large", args.tasks), ("single", 1))}
    report(figures, Console(width=100))
    results.write("stage_breakdown", figures)


def breakdown(rounds: list[LoadResult], tasks: int) -> dict[str, Any]:
    """Microseconds of a request divided by its tasks; `text_waited_us` is not divided."""

    def us(stage: str) -> float:
        return statistics.median(each.stages[stage] for each in rounds) * 1000

    stages = {stage: us(stage) / tasks for stage in STAGES}
    return {
        "tasks": tasks,
        "us_per_task": stages,
        "sum_us": sum(stages.values()),
        "total_us": us("total") / tasks,
        "wall_us": statistics.median(each.ms(0.5) for each in rounds) * 1000 / tasks,
        "text_waited_us": us("queue"),
    }


def report(figures: dict[str, dict[str, Any]], console: Console) -> None:
    large, single = figures["large"], figures["single"]
    table = Table(
        "µs a task",
        f"{large['tasks']:,} tasks",
        "one task",
        title=f"Stages of a request, {os.cpu_count()} cores",
    )
    for stage in STAGES:
        table.add_row(stage, f"{large['us_per_task'][stage]:.1f}", f"{single['us_per_task'][stage]:.1f}")
    for key, name in NAMES.items():
        table.add_row(name, f"{large[key]:,.1f}", f"{single[key]:,.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
