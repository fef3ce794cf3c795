"""The network without a server: called in this process, measured as `benchmarks.peers.client` measures a
server.

The plan's bodies are those of the `TEXTS` protocol; 16 threads stand for 16 clients.
"""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from benchmarks.peers.plan import CLIENTS, MIN_REQUESTS, WARM_UP, Measurement, Plan
from benchmarks.peers.serve.network import Network


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    network = Network(at_once=2)
    bulk, single = ([json.loads(body)["texts"] for body in bodies] for bodies in (plan.bulk, plan.single))
    answers = [network.probabilities(texts) for texts in bulk]
    for texts in single[:WARM_UP]:
        network.probabilities(texts)
    large, seconds = in_sequence(network, cycle(bulk), plan.seconds)
    singles, _ = in_sequence(network, cycle(single), plan.seconds)
    with ThreadPoolExecutor(CLIENTS) as pool:
        start = time.perf_counter()
        # one iterator for each thread
        many = [
            *pool.map(
                lambda first: in_sequence(network, cycle(single[first:] + single[:first]), plan.seconds),
                range(CLIENTS),
            )
        ]
        concurrent = time.perf_counter() - start
    measurement = Measurement(
        bulk_tasks_per_s=len(large) * plan.tasks / seconds,
        single_seconds=singles,
        clients16_requests_per_s=sum(len(each) for each, _ in many) / concurrent,
        answers=[json.dumps(answer) for answer in answers],
        clients16_seconds=[seconds for each, _ in many for seconds in each],
    )
    print(measurement.to_json())  # noqa: T201


def in_sequence(network: Network, requests: Iterator[list[str]], seconds: float) -> tuple[list[float], float]:
    each: list[float] = []
    start = last = time.perf_counter()
    while last - start < seconds or len(each) < MIN_REQUESTS:
        network.probabilities(next(requests))
        now = time.perf_counter()
        each.append(now - last)
        last = now
    return each, last - start


if __name__ == "__main__":
    main()
