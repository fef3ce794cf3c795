"""Overload: more requests than the capacity, each response checked; /health, memory and the time to recover.

    .venv/dev/bin/python -m benchmarks.overload [REVIEWS.csv] [--seconds 60] [--times 2] [--every 10]
                                                [--large 20000]

Starts a real `prelabel serve` and records its responses while it is idle. Of 100 requests, 95 have a single
task and 5 have 100 tasks. The capacity is the highest of three measurements with 16 clients in a closed loop.
Then requests arrive in an open loop at random times (Poisson), --times the capacity, and a request of 20,000
tasks --every 10 s. Another process requests /health 20 times a second; memory is sampled every second. Each
response is compared with the recorded one. After the load, single tasks are sent one after another until the
median of 20 is within 1.5 times that of the idle server.

Clients and server share the machine's cores; the output shows how many each used. Latencies count from when a
request was due, so a client that cannot keep up would show there; the output also shows how late it sent its
requests.
"""

import argparse
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import client, results
from benchmarks.client import started
from benchmarks.label_studio import body_of
from benchmarks.load_result import LoadResult, quantile
from benchmarks.response_check import WRONG
from benchmarks.served import Served, served
from benchmarks.texts import arguments, numbers_of, texts_of

SINGLES, BULKS, BULK_TASKS = 190, 10, 100
"""Different requests with a single task, different requests with many tasks, and the tasks of the latter."""

CLIENTS = 16
"""Enough to keep every core of a small machine busy."""

HEALTH_PER_S = 20

GROUP = 20
"""Single tasks whose median shows whether the server has recovered."""

RECOVERED = 1.5
"""A recovered server's median latency is at most this many times its idle median."""

PATIENCE = 30.0
"""Seconds to wait for the server to recover."""

NAMES = {"mixed": "mixed", "large": "large", "health": "/health"}


@dataclass(frozen=True)
class Requests:
    """Bodies, and the responses of the idle server to them."""

    bodies: list[bytes]
    expected: list[bytes]


@dataclass(frozen=True)
class Load:
    """Requests to send under load, single tasks to send after it, and the idle server's median seconds for a
    single task.
    """

    mixed: Requests
    large: Requests
    singles: list[bytes]
    idle: float


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=numbers_of, default="2", help="times the capacity")
    parser.add_argument(
        "--every", type=float, default=10.0, help="seconds from one large request to the next"
    )
    parser.add_argument("--large", type=int, default=20_000, help="tasks in a large request")
    args = parser.parse_args()
    texts = list(islice(cycle(texts_of(args.reviews, args.large)), SINGLES + BULKS * BULK_TASKS + args.large))
    with served(args.bundle) as server, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("seconds under load", total=len(args.times) * args.seconds)
        singles = [body_of([text]) for text in texts[:GROUP]]
        mixed, large = (
            recorded(server, mixed_bodies(texts)),
            recorded(server, [body_of(texts[-args.large :])]),
        )
        load = Load(
            mixed, large, singles, statistics.median(median_of_group(server, singles) for _ in range(10))
        )
        # the highest of several: if the measured capacity is too low, its double is too light a load
        capacity = max(
            client.run(server.url(), mixed.bodies, clients=CLIENTS, seconds=min(3.0, args.seconds))
            .checked()
            .requests_per_s
            for _ in range(3)
        )
        loads = [
            {
                "times": times,
                **under_load(server, load, capacity * times, args, lambda: progress.advance(bar)),
                "memory_mb_after": server.memory_mb(),
            }
            for times in args.times
        ]
    figures = {
        "capacity_per_s": capacity,
        "idle_p50_ms": load.idle * 1000,
        "cores": os.cpu_count(),
        "large_tasks": args.large,
        "loads": loads,
    }
    report(figures, Console(width=130))
    results.write("overload", figures)


def mixed_bodies(texts: Sequence[str]) -> list[bytes]:
    """95 % single tasks, 5 % requests of many, in random order."""
    many = texts[SINGLES:]
    bodies = [body_of([text]) for text in texts[:SINGLES]]
    bodies += [
        body_of(many[begin : begin + BULK_TASKS]) for begin in range(0, BULKS * BULK_TASKS, BULK_TASKS)
    ]
    random.Random(1).shuffle(bodies)  # noqa: S311 - an order, not a secret
    return bodies


def recorded(server: Served, bodies: list[bytes]) -> Requests:
    expected = []
    for body in bodies:
        response = server.client.post("/predict", content=body)
        if not response.is_success:
            raise SystemExit(f"The idle server returned {response.status_code}: {response.text[:200]}")
        expected.append(response.content)
    return Requests(bodies, expected)


def under_load(
    server: Served, load: Load, rate: float, args: argparse.Namespace, tick: Callable[[], object]
) -> dict[str, Any]:
    """The results of `rate` requests per second and of the other clients."""
    seconds = args.seconds
    with (
        started(server.url("/health"), [], get=True, rate=HEALTH_PER_S, even=True) as probing,
        started(
            server.url(), load.large.bodies, load.large.expected, rate=1 / args.every, even=True
        ) as retrieving,
        started(
            server.url(), load.mixed.bodies, load.mixed.expected, rate=rate, seconds=seconds
        ) as annotating,
    ):
        start, cpu, memory = time.perf_counter(), server.cpu_seconds(), [server.memory_mb()]
        while (left := start + seconds - time.perf_counter()) > 0:
            time.sleep(min(1.0, left))
            memory.append(server.memory_mb())
            tick()
        probing.stop()
        retrieving.stop()
        cpu = server.cpu_seconds() - cpu
        recovery = seconds_to_recover(server, load)
        health, retrieved, annotated = probing.result(), retrieving.result(), annotating.result()
    return {
        "seconds": seconds,
        "per_s": rate,
        "mixed": summary(annotated),
        "large": summary(retrieved),
        "health": summary(health),
        "seconds_to_usual": recovery,
        "memory_mb": memory,
        "cores_of_server": cpu / seconds,
        "cores_of_clients": health.busy + retrieved.busy + annotated.busy,
        "client_late_p99_ms": annotated.late * 1000,
    }


def summary(result: LoadResult) -> dict[str, Any]:
    """One client's requests. A 503 counts as a server error: overload explains only a 429."""
    errors = {what: count for what, count in result.failed.items() if what.startswith("status 5")}
    errors |= {
        f"status {status}": len(seconds)
        for status, seconds in result.refused_seconds.items()
        if status != "429"
    }
    wrong = result.failed.get(WRONG, 0)
    rejected = result.refused_seconds.get("429", [])
    return {
        "requests": len(result.latencies) + result.refused + sum(result.failed.values()),
        "right": len(result.latencies),
        "wrong": wrong,
        **latencies(result.latencies),
        "refused": {"requests": len(rejected), **latencies(rejected)},
        "server_errors": sum(errors.values()),
        "failed": {
            what: count for what, count in result.failed.items() if what != WRONG and what not in errors
        },
    }


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {
        name: quantile(seconds, share) * 1000
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("longest_ms", 1.0))
    }


def median_of_group(server: Served, singles: Sequence[bytes]) -> float:
    """Median seconds of several single tasks in a row; infinity if one is refused."""
    seconds = []
    for body in singles:
        start = time.perf_counter()
        if not server.client.post("/predict", content=body).is_success:
            return math.inf
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def seconds_to_recover(server: Served, load: Load) -> float:
    """Seconds until the median of a group is close to the idle server's, including that group; PATIENCE if it
    never is.
    """
    start = time.perf_counter()
    while (
        median_of_group(server, load.singles) > RECOVERED * load.idle
        and time.perf_counter() - start < PATIENCE
    ):
        continue
    return min(PATIENCE, time.perf_counter() - start)


def report(figures: dict[str, Any], console: Console) -> None:
    title = f"Capacity: {figures['capacity_per_s']:,.0f} requests a second, {figures['cores']} cores"
    table = Table(
        "× capacity",
        "requests",
        "right",
        "wrong",
        "p50 ms",
        "p99 ms",
        "longest",
        "429",
        "p50 ms",
        "p99 ms",
        "longest",
        "5xx",
        "else",
        title=title,
    )
    for load in figures["loads"]:
        for name in ("mixed", "large", "health"):
            found = load[name]
            columns = ("p50_ms", "p99_ms", "longest_ms")
            refused = found["refused"]
            table.add_row(
                f"{load['times']}, {NAMES[name]}",
                f"{found['requests']:,}",
                f"{found['right']:,}",
                str(found["wrong"]),
                *(of(found, each) for each in columns),
                f"{refused['requests']:,}",
                *(of(refused, each) for each in columns),
                str(found["server_errors"]),
                str(sum(found["failed"].values())),
            )
        table.add_section()
    console.print(table)
    for load in figures["loads"]:
        memory = load["memory_mb"]
        console.print(
            f"{load['times']} × the capacity: {load['seconds_to_usual']:.2f} s to recover; "
            f"memory {memory[0]:.0f} MB before, "
            f"{max(memory):.0f} MB at most, {load['memory_mb_after']:.0f} MB after; the server used "
            f"{load['cores_of_server']:.2f} cores, "
            f"the clients {load['cores_of_clients']:.2f}, 99 % of the requests were sent within "
            f"{load['client_late_p99_ms']:.1f} ms of their due time.",
            highlight=False,
        )
        for name in ("mixed", "large", "health"):
            for what, count in load[name]["failed"].items():
                console.print(f"{NAMES[name]}: {what}: {count}", highlight=False)


def of(found: dict[str, Any], figure: str) -> str:
    return f"{found[figure]:,.1f}" if figure in found else ""


if __name__ == "__main__":
    main()
