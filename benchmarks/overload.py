"""More requests than the server can answer: what becomes of each, what /health waits meanwhile, the memory,
and how soon all is as before.

    .venv/dev/bin/python -m benchmarks.overload [REVIEWS.csv] [--seconds 60] [--times 2] [--every 10] [--large 20000]

Starts a real `prelabel serve` and notes its answers while it is idle. Of 100 requests 95 hold a single task
and 5 hold 100 tasks; the capacity is what 16 clients that never pause get answered, the most of three tries.
Then requests arrive at random (Poisson), --times as many a second, whatever became of those before, and one
of 20,000 tasks --every 10 s besides. /health is asked 20 times a second from a process of its own, and the
memory is looked at once a second. Each answer is compared with the one noted. After the end single tasks are
asked, one after another, until the median of 20 is within 1.5 times that of the idle server.

Clients and server share the machine's cores; how many each of them took is told. Latencies count from when a
request was due, so a client that cannot keep up would show there: how late it began its requests is told as
well.
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
"""Different requests, of single tasks and of many."""

CLIENTS = 16
"""Enough to keep every core of a small machine at work."""

HEALTH_PER_S = 20

GROUP = 20
"""Single tasks whose median says whether all is as usual."""

USUAL = 1.5
"""Times the idle median that is."""

PATIENCE = 30.0
"""Seconds for all to be as usual."""


NAMES = {"mixed": "mixed", "large": "large", "health": "/health"}


@dataclass(frozen=True)
class Requests:
    """Bodies, and the answers to them that were noted on the idle server."""

    bodies: list[bytes]
    known: list[bytes]


@dataclass(frozen=True)
class Load:
    """What is sent under load, single tasks for the time after it, and the seconds that one takes on the idle
    server.
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
    asked = parser.parse_args()
    texts = list(
        islice(cycle(texts_of(asked.reviews, asked.large)), SINGLES + BULKS * BULK_TASKS + asked.large)
    )
    with served(asked.bundle) as server, Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("seconds under load", total=len(asked.times) * asked.seconds)
        singles = [body_of([text]) for text in texts[:GROUP]]
        mixed, large = noted(server, mixed_bodies(texts)), noted(server, [body_of(texts[-asked.large :])])
        load = Load(
            mixed, large, singles, statistics.median(median_of_group(server, singles) for _ in range(10))
        )
        # the most of several: too small a capacity would make too easy a load of its double
        capacity = max(
            client.run(server.url(), mixed.bodies, clients=CLIENTS, seconds=min(3.0, asked.seconds))
            .checked()
            .requests_per_s
            for _ in range(3)
        )
        loads = [
            {
                "times": times,
                **under_load(server, load, capacity * times, asked, lambda: progress.advance(bar)),
                "memory_mb_after": server.memory_mb(),
            }
            for times in asked.times
        ]
    figures = {
        "capacity_per_s": capacity,
        "idle_p50_ms": load.idle * 1000,
        "cores": os.cpu_count(),
        "large_tasks": asked.large,
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


def noted(server: Served, bodies: list[bytes]) -> Requests:
    known = []
    for body in bodies:
        answer = server.client.post("/predict", content=body)
        if not answer.is_success:
            raise SystemExit(f"The idle server answered {answer.status_code}: {answer.text[:200]}")
        known.append(answer.content)
    return Requests(bodies, known)


def under_load(
    server: Served, load: Load, rate: float, asked: argparse.Namespace, tick: Callable[[], object]
) -> dict[str, Any]:
    """What became of `rate` requests a second."""
    seconds = asked.seconds
    with (
        started(server.url("/health"), [], get=True, rate=HEALTH_PER_S, even=True) as probing,
        started(
            server.url(), load.large.bodies, load.large.known, rate=1 / asked.every, even=True
        ) as retrieving,
        started(server.url(), load.mixed.bodies, load.mixed.known, rate=rate, seconds=seconds) as annotating,
    ):
        begun, worked, memory = time.perf_counter(), server.processor_seconds(), [server.memory_mb()]
        while (left := begun + seconds - time.perf_counter()) > 0:
            time.sleep(min(1.0, left))
            memory.append(server.memory_mb())
            tick()
        probing.stop()
        retrieving.stop()
        worked = server.processor_seconds() - worked
        usual = seconds_to_usual(server, load)
        health, retrieved, annotated = probing.result(), retrieving.result(), annotating.result()
    return {
        "seconds": seconds,
        "per_s": rate,
        "mixed": told(annotated),
        "large": told(retrieved),
        "health": told(health),
        "seconds_to_usual": usual,
        "memory_mb": memory,
        "cores_of_server": worked / seconds,
        "cores_of_clients": health.busy + retrieved.busy + annotated.busy,
        "client_late_p99_ms": annotated.late * 1000,
    }


def told(result: LoadResult) -> dict[str, Any]:
    """What became of one client's requests. 503 is a refusal too, but one that the server's overload does not
    excuse.
    """
    errors = {what: count for what, count in result.failed.items() if what.startswith("status 5")}
    errors |= {f"status {status}": len(waits) for status, waits in result.refusals.items() if status != "429"}
    wrong = result.failed.get(WRONG, 0)
    refusals = result.refusals.get("429", [])
    return {
        "requests": len(result.latencies) + result.refused + sum(result.failed.values()),
        "right": len(result.latencies),
        "wrong": wrong,
        **waits_of(result.latencies),
        "refused": {"requests": len(refusals), **waits_of(refusals)},
        "server_errors": sum(errors.values()),
        "failed": {
            what: count for what, count in result.failed.items() if what != WRONG and what not in errors
        },
    }


def waits_of(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {
        name: quantile(seconds, share) * 1000
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("longest_ms", 1.0))
    }


def median_of_group(server: Served, singles: Sequence[bytes]) -> float:
    """Seconds of a single task, the median of several in a row; without end where one is refused."""
    seconds = []
    for body in singles:
        begun = time.perf_counter()
        if not server.client.post("/predict", content=body).is_success:
            return math.inf
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def seconds_to_usual(server: Served, load: Load) -> float:
    """Seconds until the median of a group is as it was on the idle server, that group included; PATIENCE
    where it never was.
    """
    begun = time.perf_counter()
    while (
        median_of_group(server, load.singles) > USUAL * load.idle and time.perf_counter() - begun < PATIENCE
    ):
        continue
    return min(PATIENCE, time.perf_counter() - begun)


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
            waits = ("p50_ms", "p99_ms", "longest_ms")
            refused = found["refused"]
            table.add_row(
                f"{load['times']}, {NAMES[name]}", f"{found['requests']:,}", f"{found['right']:,}", str(found["wrong"]), *(of(found, each) for each in waits),
                f"{refused['requests']:,}", *(of(refused, each) for each in waits), str(found["server_errors"]), str(sum(found["failed"].values())),
            )  # fmt: skip
        table.add_section()
    console.print(table)
    for load in figures["loads"]:
        memory = load["memory_mb"]
        console.print(
            f"{load['times']} × the capacity: {load['seconds_to_usual']:.2f} s until all was as usual; "
            f"memory {memory[0]:.0f} MB before, "
            f"{max(memory):.0f} MB at most, {load['memory_mb_after']:.0f} MB after; the server took "
            f"{load['cores_of_server']:.2f} cores, "
            f"the clients {load['cores_of_clients']:.2f}, and 99 % of the requests were begun within "
            f"{load['client_late_p99_ms']:.1f} ms.",
            highlight=False,
        )
        for name in ("mixed", "large", "health"):
            for what, count in load[name]["failed"].items():
                console.print(f"{NAMES[name]}: {what}: {count}", highlight=False)


def of(found: dict[str, Any], figure: str) -> str:
    return f"{found[figure]:,.1f}" if figure in found else ""


if __name__ == "__main__":
    main()
