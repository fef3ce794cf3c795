"""What a server does with more clients, more tasks in a request, longer texts and more workers.

    .venv/dev/bin/python -m benchmarks.scaling [REVIEWS.csv] [--rounds 3] [--seconds 1] [--clients 1,2,4,8,16,32] [--tasks 1,10,100,1000]
                                               [--tokens 16,32,…,8192] [--workers 1,2]

Starts a real `prelabel serve` for each number of workers; all but the last part ask that with the fewest.
Each client sends its next request when the last was answered. Rounds are interleaved: each goes once through
all points. Medians of the rounds.

- clients: one task a request, kept connections.
- tasks in a request, and tokens in a text (cut from the reviews' tokens one after another): one client.
- workers: 16 clients with one task a request, and 4 with 1,000, each over a new connection, as Label Studio makes them, so that any
  worker may get it.
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
from server.models.tokenizer import basic_english

TEXTS = 4000
"""Different texts, of which requests are made."""

BODIES = 200
"""Most different requests of a run."""

MOST_TOKENS = 65_536
"""Tokens in a request of the part about text length, which has a hundred texts at the most."""

SINGLES_CLIENTS, BULK_CLIENTS, BULK_TASKS = 16, 4, 1000

Point = Callable[[], dict[str, float]]
"""Measures one point of one part once: figures by name."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--clients", type=numbers_of, default="1,2,4,8,16,32")
    parser.add_argument("--tasks", type=numbers_of, default="1,10,100,1000")
    parser.add_argument("--tokens", type=numbers_of, default="16,32,64,128,256,512,1024,2048,4096,8192")
    parser.add_argument("--workers", type=numbers_of, default="1,2")
    asked = parser.parse_args()
    texts = texts_of(asked.reviews, TEXTS)
    tokens = [token for text in texts for token in basic_english(text)]
    with ExitStack() as stack:
        servers = {
            number: stack.enter_context(served(asked.bundle, "--workers", str(number)))
            for number in asked.workers
        }
        ask = partial(client.run, servers[min(servers)].url(), seconds=asked.seconds)
        points: dict[tuple[str, int], Point] = {
            **{
                ("clients", number): partial(with_clients, ask, bodies_of(texts, 1), number)
                for number in asked.clients
            },
            **{
                ("tasks", number): partial(with_tasks, ask, bodies_of(texts, number))
                for number in asked.tasks
            },
            **{
                ("lengths", number): partial(with_tokens, ask, [body_of(texts_of_length(tokens, number))])
                for number in asked.tokens
            },
            **{
                ("workers", number): partial(with_workers, server, texts, asked.seconds)
                for number, server in servers.items()
            },
        }
        measured: dict[tuple[str, int], list[dict[str, float]]] = {point: [] for point in points}
        for point in track([*points] * asked.rounds, "points", console=Console(stderr=True)):
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


def with_clients(ask: Callable[..., LoadResult], bodies: Sequence[bytes], number: int) -> dict[str, float]:
    result = ask(bodies, clients=number).checked()
    return {"requests_per_s": result.requests_per_s, "p50_ms": result.ms(0.5), "p99_ms": result.ms(0.99)}


def with_tasks(ask: Callable[..., LoadResult], bodies: Sequence[bytes]) -> dict[str, float]:
    result = ask(bodies).checked()
    return {"tasks_per_s": result.tasks_per_s, "p50_ms": result.ms(0.5)}


def with_tokens(ask: Callable[..., LoadResult], bodies: Sequence[bytes]) -> dict[str, float]:
    result = ask(bodies).checked()
    return {"tasks_per_s": result.tasks_per_s, "us_per_task": 1e6 / result.tasks_per_s}


def with_workers(server: Served, texts: list[str], seconds: float) -> dict[str, float]:
    def ask(clients: int, tasks: int) -> LoadResult:
        return client.run(
            server.url(), bodies_of(texts, tasks), clients=clients, seconds=seconds, new_connections=True
        ).checked()

    singles, bulk = ask(SINGLES_CLIENTS, 1), ask(BULK_CLIENTS, BULK_TASKS)
    return {
        "singles_per_s": singles.requests_per_s,
        "bulk_tasks_per_s": bulk.tasks_per_s,
        "memory_mb": server.memory_mb(),
    }


def bodies_of(texts: list[str], tasks: int) -> list[bytes]:
    """Requests of so many tasks, different ones as far as the texts go."""
    return [
        body_of(texts[begin : begin + tasks]) for begin in range(0, max(1, len(texts) - tasks + 1), tasks)
    ][:BODIES]


def texts_of_length(tokens: list[str], length: int) -> list[str]:
    """Texts of exactly so many tokens, for one request."""
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
        table.add_row(name, *(told(found[each]) if each in found else "" for each in columns))

    for each in figures["clients"]:
        row(f"clients: {each['clients']}", **each)
    table.add_section()
    for each in figures["tasks"]:
        row(f"tasks a request: {each['tasks_per_request']:,}", **each)
    table.add_section()
    for each in figures["lengths"]:
        row(f"tokens a text: {each['tokens']:,}", **each)
    table.add_section()
    for each in figures["workers"]:
        row(
            f"workers: {each['workers']}, single tasks",
            requests_per_s=each["singles_per_s"],
            memory_mb=each["memory_mb"],
        )
        row(f"workers: {each['workers']}, bulk", tasks_per_s=each["bulk_tasks_per_s"])
    console.print(table)


def told(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


if __name__ == "__main__":
    main()
