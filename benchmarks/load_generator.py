"""Load generator: sends requests from a process of its own and measures the time to each response.

    .venv/dev/bin/python -m benchmarks.load_generator URL [--clients 1] [--rate R [--even]] [--seconds S]
                                                      [--requests N]
                                                          [--new-connections] [--known] [--get] < BODIES

Reads request bodies from standard input, one a line, up to an empty line or the end, and sends them in turn.

Closed loop (the default): each client sends its next request when it has the response to the last one. Open
loop (--rate): requests are due at random times, R a second (Poisson), or evenly spaced with --even, whether
or not earlier ones have a response; a latency counts from when its request was due.

Each client sends one request that does not count; then "ready" is printed and counting begins. The run ends
after --seconds or --requests, or with neither at the end of standard input, and prints its LoadResult as
JSON.

With --known each body is followed by a line with the expected response: any other response is a failure, and
so is a 429 or 503 without a reason. With --get there are no bodies: URL is requested with GET, and any good
status is correct.

Benchmarks start it through `benchmarks.client`.
"""

import argparse
import asyncio
import random
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import cycle
from urllib.parse import SplitResult, urlsplit

import msgspec
import uvloop

from benchmarks.http_connection import Connection, connect, request_bytes
from benchmarks.load_result import LoadResult, median_stages, quantile
from benchmarks.response_check import REFUSED, Request, failure_of

PATIENCE = 120.0
"""Seconds to wait at the end for missing responses; Label Studio gives up after 100."""


class Client:
    """Sends requests over idle connections, or over a new one each, and counts the responses."""

    def __init__(self, address: SplitResult, requests: Sequence[Request], *, new_connections: bool) -> None:
        self._address = address
        self._requests = cycle(requests)
        self._idle: deque[Connection] = deque()
        self._new_connections = new_connections
        self.start_counting()

    def start_counting(self) -> None:
        """Count from now on."""
        self._start = time.perf_counter()
        self._last = self._start
        self._cpu_start = time.process_time()
        self._failed: Counter[str] = Counter()
        self._refused_seconds: dict[str, list[float]] = {}
        self._late: list[float] = []
        self._tasks = 0
        self._latencies: list[float] = []
        self._timings: list[bytes] = []

    async def send(self, due: float) -> None:
        """The next request, which was due at `due` by `time.perf_counter`."""
        self._late.append(time.perf_counter() - due)
        request = next(self._requests)
        try:
            connection = await self._connection()
            response = await connection.send(request.data)
        except OSError as error:
            self._failed[str(error)] += 1
            return
        if self._new_connections or not connection.open:
            connection.close()
        else:
            self._idle.append(connection)
        self._last = max(self._last, response.at)
        if (failure := failure_of(response, request)) is not None:
            self._failed[failure] += 1
        elif response.status in REFUSED:
            self._refused_seconds.setdefault(str(response.status), []).append(response.at - due)
        else:
            self._latencies.append(response.at - due)
            self._timings.append(response.timing)
            self._tasks += request.tasks

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return await connect(self._address)

    def result(self, missing: int) -> LoadResult:
        """`missing` requests have had no response."""
        if missing:
            self._failed[f"no response {PATIENCE:.0f} s after the end"] += missing
        return LoadResult(
            seconds=self._last - self._start,
            tasks=self._tasks,
            latencies=self._latencies,
            refused_seconds=self._refused_seconds,
            failed=dict(self._failed),
            stages=median_stages(self._timings),
            late=quantile(self._late, 0.99) if self._late else 0.0,
            busy=(time.process_time() - self._cpu_start) / (time.perf_counter() - self._start),
        )


async def closed_loop(client: Client, clients: int, requests: int | None, stop: asyncio.Event) -> int:
    """`clients` at a time, each with one request in flight; returns the number of missing responses."""

    async def one() -> None:
        sent = 0
        while not stop.is_set() and sent != requests:
            await client.send(time.perf_counter())
            sent += 1

    return await _missing([asyncio.create_task(one()) for _ in range(clients)], stop)


async def open_loop(client: Client, rate: float, stop: asyncio.Event, seed: int | None) -> int:
    """`rate` requests a second at random times, or without a seed evenly spaced; returns the number of
    missing responses.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    ended = threading.Event()

    def start(due: float) -> None:
        if not stop.is_set():
            task = loop.create_task(client.send(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def pace() -> None:
        # in a thread: an event loop's timers tick in milliseconds, which is as long as a latency
        numbers = random.Random(seed)  # noqa: S311 - arrivals, not secrets
        due = time.perf_counter()
        while True:
            due += 1 / rate if seed is None else numbers.expovariate(rate)
            if ended.wait(max(0.0, due - time.perf_counter())):
                return
            loop.call_soon_threadsafe(start, due)

    pacing = asyncio.create_task(asyncio.to_thread(pace))
    await stop.wait()
    ended.set()
    await pacing
    return await _missing(list(tasks), stop)


async def _missing(tasks: "Sequence[asyncio.Task[None]]", stop: asyncio.Event) -> int:
    """Wait for the tasks, at most PATIENCE after `stop`; returns how many did not end. Raises what a task
    raised.
    """
    everything = asyncio.gather(*tasks)
    stopped = asyncio.create_task(stop.wait())
    everything.add_done_callback(lambda _: stopped.cancel())
    await asyncio.wait([stopped])
    try:
        await asyncio.wait_for(everything, PATIENCE)
    except TimeoutError:
        return sum(task.cancelled() for task in tasks)
    return 0


async def generate(args: argparse.Namespace, bodies: Sequence[bytes]) -> LoadResult:
    """One run with the options of the command line."""
    address = urlsplit(args.url)
    if args.get:
        requests = [Request(request_bytes(address, "GET"))]
    elif args.known:
        pairs = zip(bodies[::2], bodies[1::2], strict=True)
        requests = [Request.predict(address, body, expected) for body, expected in pairs]
    else:
        requests = [Request.predict(address, body) for body in bodies]
    client = Client(address, requests, new_connections=args.new_connections)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    await closed_loop(client, args.clients, 1, stop)
    client.result(0).checked()
    print("ready", flush=True)  # noqa: T201
    client.start_counting()
    if args.seconds:
        loop.call_later(args.seconds, stop.set)
    elif not args.requests:
        loop.run_in_executor(None, lambda: (sys.stdin.buffer.read(), loop.call_soon_threadsafe(stop.set)))
    if args.rate:
        return client.result(await open_loop(client, args.rate, stop, None if args.even else args.seed))
    return client.result(await closed_loop(client, args.clients, args.requests, stop))


def read_bodies() -> Iterator[bytes]:
    while body := sys.stdin.buffer.readline().rstrip():
        yield body


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--new-connections", action="store_true")
    parser.add_argument("--even", action="store_true")
    parser.add_argument("--known", action="store_true")
    parser.add_argument("--get", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    # each request in flight has a connection
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    bodies = list(read_bodies())
    if not bodies and not args.get:
        parser.error("expected request bodies, one a line, found none")
    result = uvloop.run(generate(args, bodies))
    # sys.stdout has no buffer where Python runs unbuffered, and a pipe may accept only a part of a write:
    # this buffer writes all of it
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
