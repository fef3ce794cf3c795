"""The client that measures all peers, in a process of its own: a plan as JSON in, measurements as JSON out.

    python -m benchmarks.peers.client < plan.json

The plan names the server and the bodies of its requests. Connections are kept. First, each large request is
sent once, as warm-up and for its response, and some single ones; then large requests one after another, then
single ones one after another, then single ones from 16 clients concurrently.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.http_connection import Connection, connect

CLIENTS = 16

MIN_REQUESTS = 3
"""Minimum number of measured requests, however long they take."""

WARM_UP = 5
"""Single requests before the measurement."""


@dataclass
class Plan:
    """`bulk` are bodies of large requests with `tasks` tasks each, `single` of requests with one task. Each
    of the three measurements takes `seconds`.
    """

    port: int
    path: str
    bulk: list[str]
    single: list[str]
    tasks: int
    seconds: float


@dataclass
class Measurement:
    """`single_seconds` of each single request; `answers` are the responses to the large requests."""

    bulk_tasks_per_s: float
    single_seconds: list[float]
    clients16_requests_per_s: float
    answers: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Client:
    """Sends requests over one connection, and over a new one if the server closed it."""

    def __init__(self, port: int) -> None:
        self._address = urlsplit(f"http://127.0.0.1:{port}")
        self._connection: Connection | None = None

    async def send(self, request: bytes) -> bytes:
        """The body of the response. Raises ConnectionError, also for another status than 200."""
        if self._connection is None or not self._connection.open:
            self._connection = await connect(self._address)
        response = await self._connection.send(request)
        if response.status != 200:
            body = response.body[:300].decode("utf-8", "replace")
            raise ConnectionError(f"status {response.status}: {body}")
        return response.body


async def measure(plan: Plan) -> Measurement:
    bulk, single = ([request_of(plan, body) for body in bodies] for bodies in (plan.bulk, plan.single))
    clients = [Client(plan.port) for _ in range(CLIENTS)]
    answers = [await clients[0].send(request) for request in bulk]
    for request in single[:WARM_UP]:
        await clients[0].send(request)
    large, seconds = await in_sequence(clients[0], cycle(bulk), plan.seconds)
    singles, _ = await in_sequence(clients[0], cycle(single), plan.seconds)
    # each client opens its connection before the measurement
    await asyncio.gather(*(client.send(single[i % len(single)]) for i, client in enumerate(clients)))
    requests = cycle(single)
    start = time.perf_counter()
    many = await asyncio.gather(*(in_sequence(client, requests, plan.seconds) for client in clients))
    concurrent = time.perf_counter() - start
    return Measurement(
        bulk_tasks_per_s=len(large) * plan.tasks / seconds,
        single_seconds=singles,
        clients16_requests_per_s=sum(len(each) for each, _ in many) / concurrent,
        answers=[answer.decode() for answer in answers],
    )


async def in_sequence(client: Client, requests: Iterator[bytes], seconds: float) -> tuple[list[float], float]:
    """One request after another for `seconds`; returns the seconds of each, and of all."""
    each: list[float] = []
    start = last = time.perf_counter()
    while last - start < seconds or len(each) < MIN_REQUESTS:
        await client.send(next(requests))
        now = time.perf_counter()
        each.append(now - last)
        last = now
    return each, last - start


def request_of(plan: Plan, body: str) -> bytes:
    data = body.encode()
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nContent-Type: "
        f"application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def main() -> None:
    plan: dict[str, Any] = json.load(sys.stdin)
    print(uvloop.run(measure(Plan(**plan))).to_json())  # noqa: T201


if __name__ == "__main__":
    main()
