"""The one client of all peers, a process of its own: a plan as JSON on standard input → what was measured as
JSON on standard output.

    python -m benchmarks.peers.client < plan.json

The plan names the server and the bodies of its requests. All connections are kept. First each large request
is sent once, to warm up and for its answer, and some single ones; then large requests one after another, then
single ones one after another, then single ones from 16 clients at once.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any, cast

import httptools
import uvloop

CLIENTS = 16

FEWEST = 3
"""Requests that are measured however long they take."""

WARMING = 5
"""Single requests that are not measured."""


@dataclass
class Plan:
    """Bodies of large requests, each of `tasks` tasks, and of single ones; the seconds that each of the three
    measurements takes.
    """

    port: int
    path: str
    bulk: list[str]
    single: list[str]
    tasks: int
    seconds: float


@dataclass
class Measured:
    """Seconds of each single request; tasks and requests a second; the answers to the large requests."""

    bulk_tasks_per_s: float
    single_seconds: list[float]
    clients16_requests_per_s: float
    answers: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Connection(asyncio.Protocol):
    """One kept connection, with one request at a time on it."""

    def __init__(self) -> None:
        self.open = True
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None

    async def ask(self, request: bytes) -> bytes:
        assert self._transport is not None  # noqa: S101 - it is connected
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(
                error or ConnectionError("the server closed the connection before its answer was complete")
            )

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer, status = bytes(self._body), self._parser.get_status_code()
        self.open = self._parser.should_keep_alive()
        self._body, self._parser = bytearray(), httptools.HttpResponseParser(self)
        if self._answer is None or self._answer.done():
            return
        if status == 200:
            self._answer.set_result(answer)
        else:
            self._answer.set_exception(
                ConnectionError(f"status {status}: {answer[:300].decode('utf-8', 'replace')}")
            )


class Client:
    """Asks over one connection, over a new one where the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    async def ask(self, request: bytes) -> bytes:
        if self._connection is None or not self._connection.open:
            _, self._connection = await asyncio.get_running_loop().create_connection(
                Connection, "127.0.0.1", self._port
            )
        return await self._connection.ask(request)


async def measure(plan: Plan) -> Measured:
    bulk, single = ([request_of(plan, body) for body in bodies] for bodies in (plan.bulk, plan.single))
    clients = [Client(plan.port) for _ in range(CLIENTS)]
    answers = [await clients[0].ask(request) for request in bulk]
    for request in single[:WARMING]:
        await clients[0].ask(request)
    large, spent = await in_turn(clients[0], cycle(bulk), plan.seconds)
    singles, _ = await in_turn(clients[0], cycle(single), plan.seconds)
    # each client opens its connection before the clock runs
    await asyncio.gather(*(client.ask(single[i % len(single)]) for i, client in enumerate(clients)))
    coming = cycle(single)
    begun = time.perf_counter()
    many = await asyncio.gather(*(in_turn(client, coming, plan.seconds) for client in clients))
    together = time.perf_counter() - begun
    return Measured(
        bulk_tasks_per_s=len(large) * plan.tasks / spent,
        single_seconds=singles,
        clients16_requests_per_s=sum(len(each) for each, _ in many) / together,
        answers=[answer.decode() for answer in answers],
    )


async def in_turn(client: Client, requests: Iterator[bytes], seconds: float) -> tuple[list[float], float]:
    """One request after another, until the time is over: seconds of each, and of all."""
    each: list[float] = []
    begun = last = time.perf_counter()
    while last - begun < seconds or len(each) < FEWEST:
        await client.ask(next(requests))
        now = time.perf_counter()
        each.append(now - last)
        last = now
    return each, last - begun


def request_of(plan: Plan, body: str) -> bytes:
    data = body.encode()
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nContent-Type: "
        f"application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def main() -> None:
    described: dict[str, Any] = json.load(sys.stdin)
    print(uvloop.run(measure(Plan(**described))).to_json())  # noqa: T201


if __name__ == "__main__":
    main()
