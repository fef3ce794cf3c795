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
from dataclasses import replace
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.http_connection import Connection, connect
from benchmarks.peers.plan import CLIENTS, WARM_UP, Measurement, Plan


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
    large, seconds = await in_sequence(clients[0], cycle(bulk), plan.seconds, plan.least_bulk)
    found = Measurement(
        bulk_tasks_per_s=len(large) * plan.tasks / seconds if large else 0,
        single_seconds=[],
        clients16_requests_per_s=0,
        answers=[answer.decode() for answer in answers],
        clients16_seconds=[],
    )
    return await with_single(plan, clients, single, found) if single else found


async def with_single(
    plan: Plan, clients: list[Client], single: list[bytes], found: Measurement
) -> Measurement:
    for request in single[:WARM_UP]:
        await clients[0].send(request)
    singles, _ = await in_sequence(clients[0], cycle(single), plan.seconds, plan.least_single)
    # each client opens its connection before the measurement
    await asyncio.gather(*(client.send(single[i % len(single)]) for i, client in enumerate(clients)))
    requests = cycle(single)
    start = time.perf_counter()
    many = await asyncio.gather(
        *(in_sequence(client, requests, plan.seconds, plan.least_of_client) for client in clients)
    )
    concurrent = time.perf_counter() - start
    return replace(
        found,
        single_seconds=singles,
        clients16_requests_per_s=sum(len(each) for each, _ in many) / concurrent,
        clients16_seconds=[seconds for each, _ in many for seconds in each],
    )


async def in_sequence(
    client: Client, requests: Iterator[bytes], seconds: float, least: int
) -> tuple[list[float], float]:
    """One request after another for `seconds`, at least `least`; returns the seconds of each, and of all."""
    each: list[float] = []
    start = last = time.perf_counter()
    while last - start < seconds or len(each) < least:
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
