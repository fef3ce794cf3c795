"""No server at all: the network called by the program that has the texts, measured as
`benchmarks.peers.client` measures a server.

The plan's bodies are those of the `TEXTS` protocol; 16 threads stand for 16 clients.
"""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from benchmarks.peers.client import CLIENTS, FEWEST, WARMING, Measured, Plan
from benchmarks.peers.serve.network import Network


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    network = Network(at_once=2)
    bulk, single = ([json.loads(body)["texts"] for body in bodies] for bodies in (plan.bulk, plan.single))
    answers = [network.probabilities(texts) for texts in bulk]
    for texts in single[:WARMING]:
        network.probabilities(texts)
    large, spent = in_turn(network, cycle(bulk), plan.seconds)
    singles, _ = in_turn(network, cycle(single), plan.seconds)
    with ThreadPoolExecutor(CLIENTS) as pool:
        begun = time.perf_counter()
        # an iterator of its own for each thread
        many = [
            *pool.map(
                lambda first: in_turn(network, cycle(single[first:] + single[:first]), plan.seconds),
                range(CLIENTS),
            )
        ]
        together = time.perf_counter() - begun
    measured = Measured(
        bulk_tasks_per_s=len(large) * plan.tasks / spent,
        single_seconds=singles,
        clients16_requests_per_s=sum(len(each) for each, _ in many) / together,
        answers=[json.dumps(answer) for answer in answers],
    )
    print(measured.to_json())  # noqa: T201


def in_turn(network: Network, requests: Iterator[list[str]], seconds: float) -> tuple[list[float], float]:
    each: list[float] = []
    begun = last = time.perf_counter()
    while last - begun < seconds or len(each) < FEWEST:
        network.probabilities(next(requests))
        now = time.perf_counter()
        each.append(now - last)
        last = now
    return each, last - begun


if __name__ == "__main__":
    main()
