"""Throughput by number of clients, tasks per request, tokens per text and workers.

    .venv/dev/bin/python -m benchmarks.scaling [REVIEWS.csv] [--rounds 3] [--seconds 1]
                                               [--clients 1,2,4,8,16,32] [--tasks 1,10,100,1000]
                                               [--tokens 16,32,…,8192] [--workers 1,2]

Starts a real `prelabel serve` for each number of workers; all parts but the last use the one with the fewest.
Clients run in a closed loop. Rounds are interleaved: each measures every point once. Figures are medians over
rounds.

- clients: one task per request, kept connections.
- tasks per request, and tokens per text (cut from the reviews' tokens in order): one client.
- workers: 16 clients with one task per request, and 4 with 1,000, each request over a new connection, as in
  Label Studio, so that any worker may get it.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain, islice
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import client, results
from benchmarks.label_studio import body_of
from benchmarks.load_result import LoadResult
from benchmarks.served import Served, served
from benchmarks.texts import arguments, numbers_of, texts_of
from server.encoders.cnn.basic_english import basic_english

TEXTS = 4000
"""Number of different texts in the requests."""

BODIES = 200
"""Maximum number of different requests of a run."""

MOST_TOKENS = 65_536
"""Maximum tokens of a request in the part about text length; it has at most a hundred texts."""

SINGLES_CLIENTS, BULK_CLIENTS, BULK_TASKS = 16, 4, 1000

Point = Callable[[], dict[str, float]]
"""Measures one point of one part once; returns figures by name."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clients", type=numbers_of, default="1,2,4,8,16,32")
    parser.add_argument("--tasks", type=numbers_of, default="1,10,100,1000")
    parser.add_argument("--tokens", type=numbers_of, default="16,32,64,128,256,512,1024,2048,4096,8192")
    parser.add_argument("--workers", type=numbers_of, default="1,2")
    args = parser.parse_args()
    texts = texts_of(args.reviews, TEXTS)
    tokens = [token for text in texts for token in basic_english(text)]
    with ExitStack() as stack:
        servers = {
            number: stack.enter_context(served(args.bundle, "--workers", str(number)))
            for number in args.workers
        }
        load = partial(client.run, servers[min(servers)].url(), seconds=args.seconds)
        points: dict[tuple[str, int], Point] = {
            **{
                ("clients", number): partial(with_clients, load, bodies_of(texts, 1), number)
                for number in args.clients
            },
            **{
                ("tasks", number): partial(with_tasks, load, bodies_of(texts, number))
                for number in args.tasks
            },
            **{
                ("lengths", number): partial(with_tokens, load, [body_of(texts_of_length(tokens, number))])
                for number in args.tokens
            },
            **{
                ("workers", number): partial(with_workers, server, texts, args.seconds)
                for number, server in servers.items()
            },
        }
        measured: dict[tuple[str, int], list[dict[str, float]]] = {point: [] for point in points}
        for point in track([*points] * args.rounds, "points", console=Console(stderr=True)):
            measured[point].append(points[point]())
    names = {"clients": "clients", "tasks": "tasks_per_request", "lengths": "tokens", "workers": "workers"}
    figures: dict[str, list[dict[str, float]]] = {part: [] for part in names}
    for (part, number), rounds in measured.items():
        figures[part].append(
            {
                names[part]: number,
                **{name: statistics.median(each[name] for each in rounds) for name in rounds[0]},
            }
        )
    report(figures, Console(width=110))
    results.write("scaling", figures)


def with_clients(load: Callable[..., LoadResult], bodies: Sequence[bytes], number: int) -> dict[str, float]:
    result = load(bodies, clients=number).checked()
    return {"requests_per_s": result.requests_per_s, "p50_ms": result.ms(0.5), "p99_ms": result.ms(0.99)}


def with_tasks(load: Callable[..., LoadResult], bodies: Sequence[bytes]) -> dict[str, float]:
    result = load(bodies).checked()
    return {"tasks_per_s": result.tasks_per_s, "p50_ms": result.ms(0.5)}


def with_tokens(load: Callable[..., LoadResult], bodies: Sequence[bytes]) -> dict[str, float]:
    result = load(bodies).checked()
    return {"tasks_per_s": result.tasks_per_s, "us_per_task": 1e6 / result.tasks_per_s}


def with_workers(server: Served, texts: list[str], seconds: float) -> dict[str, float]:
    def run(clients: int, tasks: int) -> LoadResult:
        return client.run(
            server.url(), bodies_of(texts, tasks), clients=clients, seconds=seconds, new_connections=True
        ).checked()

    singles, bulk = run(SINGLES_CLIENTS, 1), run(BULK_CLIENTS, BULK_TASKS)
    return {
        "singles_per_s": singles.requests_per_s,
        "bulk_tasks_per_s": bulk.tasks_per_s,
        "memory_mb": server.memory_mb(),
    }


def bodies_of(texts: list[str], tasks: int) -> list[bytes]:
    """Different requests with `tasks` tasks each, as far as the texts suffice."""
    return [
        body_of(texts[begin : begin + tasks]) for begin in range(0, max(1, len(texts) - tasks + 1), tasks)
    ][:BODIES]


def texts_of_length(tokens: list[str], length: int) -> list[str]:
    """Texts of exactly `length` tokens, for one request."""
    endless = chain.from_iterable(tokens for _ in iter(int, 1))
    return [" ".join(islice(endless, length)) for _ in range(max(1, min(100, MOST_TOKENS // length)))]


def report(figures: dict[str, list[dict[str, float]]], console: Console) -> None:
    table = Table(
        "",
        "requests/s",
        "tasks/s",
        "µs a task",
        "p50 ms",
        "p99 ms",
        "MB",
        title=f"Scaling, {os.cpu_count()} cores",
    )

    def row(name: str, **found: Any) -> None:
        columns = ("requests_per_s", "tasks_per_s", "us_per_task", "p50_ms", "p99_ms", "memory_mb")
        table.add_row(name, *(shown(found[each]) if each in found else "" for each in columns))

    for each in figures["clients"]:
        row(f"clients: {each['clients']}", **each)
    table.add_section()
    for each in figures["tasks"]:
        row(f"tasks per request: {each['tasks_per_request']:,}", **each)
    table.add_section()
    for each in figures["lengths"]:
        row(f"tokens per text: {each['tokens']:,}", **each)
    table.add_section()
    for each in figures["workers"]:
        row(
            f"workers: {each['workers']}, single tasks",
            requests_per_s=each["singles_per_s"],
            memory_mb=each["memory_mb"],
        )
        row(f"workers: {each['workers']}, bulk", tasks_per_s=each["bulk_tasks_per_s"])
    console.print(table)


def shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


if __name__ == "__main__":
    main()
