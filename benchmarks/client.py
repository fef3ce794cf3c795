"""A client that costs little beside what it measures, in a process of its own: POSTs, and the time to each answer.

    .venv/dev/bin/python -m benchmarks.client URL [--clients 1] [--rate R] [--seconds S] [--requests N] [--new-connections] < BODIES

Reads request bodies, one a line, up to an empty line or the end, and sends them in turn. In a closed loop each client sends its
next request when the last was answered; with --rate requests are due at random times, so many a second (Poisson), whatever became
of those before, and a latency counts from when its request was due. Each client asks once before the counting begins and "ready" is
printed. It ends after --seconds or --requests, or with neither at the end of its input, and prints its outcome as JSON.

The benchmarks call `run` and `beside`, which start it.
"""

import argparse
import asyncio
import math
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

import httptools
import msgspec
import uvloop

T = TypeVar("T")

ROOT = Path(__file__).parent.parent

REFUSALS = (429, 503)
"""A server with no room answers so, and means it."""

PATIENCE = 120.0
"""Seconds after the end for answers that are still to come; Label Studio gives up after 100."""


@dataclass
class Outcome:
    """What became of the requests of one run, whose last answer came after `seconds`.

    `latencies` are the seconds of those that were answered as they must be, `stages` their Server-Timing: milliseconds, medians by
    stage. `refused` were answered 429 or 503; `failed` counts all else by what was wrong.
    """

    seconds: float
    tasks: int = 0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.seconds

    def ms(self, share: float) -> float:
        """The latency that this share of the requests did not pass, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000

    def checked(self, *, may_refuse: bool = False) -> "Outcome":
        """Itself. Figures of a run with failures would mislead: then, or where nothing was answered, the benchmark ends and says why."""
        wrong = self.failed | ({"refused (429 or 503)": self.refused} if self.refused and not may_refuse else {})
        if wrong or not self.latencies:
            told = "; ".join(f"{what}: {count}" for what, count in wrong.items()) or "none was answered"
            raise SystemExit(f"{len(self.latencies)} requests were answered well, others not: {told}")
        return self


def run(url: str, bodies: Sequence[bytes], **options: Any) -> Outcome:
    """The outcome of a client process with `options` as the command line has them; `seconds` or `requests` must be among them."""
    with _started(url, bodies, options) as client:
        return client.outcome()


def beside(url: str, bodies: Sequence[bytes], work: Callable[[], T], **options: Any) -> tuple[T, Outcome]:
    """What `work` gives, and the outcome of a client process that asked while it went on."""
    with _started(url, bodies, options) as client:
        return work(), client.outcome()


class _Started:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def outcome(self) -> Outcome:
        told, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"The client ended with status {self._process.returncode}.")
        return Outcome(**msgspec.json.decode(told))


@contextmanager
def _started(url: str, bodies: Sequence[bytes], options: Mapping[str, Any]) -> Iterator[_Started]:
    """A client process that has begun to count."""
    command = [sys.executable, "-m", "benchmarks.client", url]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)] if value else []
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very program
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101 - the same
        try:
            process.stdin.write(b"\n".join([*bodies, b"\n"]))
            process.stdin.flush()
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"The client could not begin: {url} did not answer, or not as it must.")
            yield _Started(process)
        finally:
            process.kill()


@dataclass(frozen=True)
class Ask:
    """A request as bytes, and how many results its answer must hold."""

    data: bytes
    tasks: int

    @classmethod
    def of(cls, address: SplitResult, body: bytes) -> "Ask":
        head = (
            f"POST {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nUser-Agent: heartex/1.23.2\r\nAccept-Encoding: gzip, deflate\r\n"
            f"Accept: */*\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return cls(head.encode() + body, len(msgspec.json.decode(body)["tasks"]))


@dataclass
class Answer:
    status: int
    body: bytes
    timing: bytes
    at: float


class Connection(asyncio.Protocol):
    """One request at a time. `ask` raises ConnectionError when the connection ends before the answer."""

    def __init__(self) -> None:
        self.open = False
        self._waiting: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []
        self._timing = b""
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, data: bytes) -> Answer:
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._waiting

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"server-timing":
            self._timing = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer = Answer(self._parser.get_status_code(), b"".join(self._body), self._timing, time.perf_counter())
        self._body, self._timing = [], b""
        self.open = self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the connection ended before the answer"))


class Client:
    """Sends requests over idle connections, or a new one each, and counts what becomes of them."""

    def __init__(self, address: SplitResult, asks: Sequence[Ask], *, new_connections: bool) -> None:
        self._address = address
        self._asks = cycle(asks)
        self._idle: deque[Connection] = deque()
        self._new_connections = new_connections
        self.begin()

    def begin(self) -> None:
        """Forget what was counted."""
        self._begun = time.perf_counter()
        self._last = self._begun
        self._failed: Counter[str] = Counter()
        self._refused = 0
        self._tasks = 0
        self._latencies: list[float] = []
        self._timings: list[bytes] = []

    async def ask(self, due: float) -> None:
        """One request that was due at `due`."""
        ask = next(self._asks)
        try:
            connection = await self._connection()
            answer = await connection.ask(ask.data)
        except OSError as error:
            self._failed[str(error)] += 1
            return
        if self._new_connections or not connection.open:
            connection.close()
        else:
            self._idle.append(connection)
        self._last = max(self._last, answer.at)
        if answer.status in REFUSALS:
            self._refused += 1
        elif (wrong := what_is_wrong(answer, ask.tasks)) is not None:
            self._failed[wrong] += 1
        else:
            self._latencies.append(answer.at - due)
            self._timings.append(answer.timing)
            self._tasks += ask.tasks

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._address.hostname or "", self._address.port or 80)
        return connection

    def outcome(self, unanswered: int) -> Outcome:
        if unanswered:
            self._failed[f"not answered {PATIENCE:.0f} s after the end"] += unanswered
        seconds = self._last - self._begun
        return Outcome(seconds, self._tasks, self._latencies, self._refused, dict(self._failed), medians(self._timings))


def what_is_wrong(answer: Answer, tasks: int) -> str | None:
    if answer.status >= 400:
        return f"status {answer.status}"
    try:
        results = msgspec.json.decode(answer.body)["results"]
    except (ValueError, KeyError, TypeError):
        return "an answer without results"
    if len(results) != tasks:
        return f"{len(results)} results for {tasks} tasks"
    if not all(isinstance(each, dict) and "result" in each for each in results):
        return "a task that could not be predicted"
    return None


def timing_of(header: str) -> dict[str, float]:
    """Milliseconds by stage, of a Server-Timing header."""
    stages = (part.strip().partition(";dur=") for part in header.split(","))
    return {name: float(spent) for name, _, spent in stages if spent}


def medians(timings: Sequence[bytes]) -> dict[str, float]:
    found = [timing_of(each.decode()) for each in timings if each]
    return {stage: statistics.median(each.get(stage, 0.0) for each in found) for stage in found[0]} if found else {}


async def closed_loop(client: Client, clients: int, requests: int | None, stop: asyncio.Event) -> int:
    """Each client asks, one request after the other; how many had no answer in the end."""

    async def one() -> None:
        asked = 0
        while not stop.is_set() and asked != requests:
            await client.ask(time.perf_counter())
            asked += 1

    return await _ended([asyncio.create_task(one()) for _ in range(clients)], stop)


async def open_loop(client: Client, rate: float, stop: asyncio.Event, seed: int) -> int:
    """`rate` requests a second at random times, whatever became of those before; how many had no answer in the end."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    ended = threading.Event()

    def start(due: float) -> None:
        if not stop.is_set():
            task = loop.create_task(client.ask(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def pace() -> None:
        # in a thread, for an event loop's timers tick in milliseconds, as long as the latencies to be told
        numbers = random.Random(seed)  # noqa: S311 - arrivals, not secrets
        due = time.perf_counter()
        while True:
            due += numbers.expovariate(rate)
            if ended.wait(max(0.0, due - time.perf_counter())):
                return
            loop.call_soon_threadsafe(start, due)

    pacing = asyncio.create_task(asyncio.to_thread(pace))
    await stop.wait()
    ended.set()
    await pacing
    return await _ended(list(tasks), stop)


async def _ended(tasks: "Sequence[asyncio.Task[None]]", stop: asyncio.Event) -> int:
    """Wait for tasks, after `stop` not for ever. How many did not end; a mistake of this program is raised."""
    everything = asyncio.gather(*tasks)
    stopped = asyncio.create_task(stop.wait())
    everything.add_done_callback(lambda _: stopped.cancel())
    await asyncio.wait([stopped])
    try:
        await asyncio.wait_for(everything, PATIENCE)
    except TimeoutError:
        return sum(task.cancelled() for task in tasks)
    return 0


async def ask_all(asked: argparse.Namespace, bodies: Sequence[bytes]) -> Outcome:
    address = urlsplit(asked.url)
    client = Client(address, [Ask.of(address, body) for body in bodies], new_connections=asked.new_connections)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    await closed_loop(client, asked.clients, 1, stop)
    client.outcome(0).checked()
    print("ready", flush=True)  # noqa: T201
    client.begin()
    if asked.seconds:
        loop.call_later(asked.seconds, stop.set)
    elif not asked.requests:
        loop.run_in_executor(None, lambda: (sys.stdin.buffer.read(), loop.call_soon_threadsafe(stop.set)))
    unanswered = await (open_loop(client, asked.rate, stop, asked.seed) if asked.rate else closed_loop(client, asked.clients, asked.requests, stop))
    return client.outcome(unanswered)


def read_bodies() -> Iterator[bytes]:
    while body := sys.stdin.buffer.readline().rstrip():
        yield body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--new-connections", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    bodies = list(read_bodies())
    if not bodies:
        parser.error("expected request bodies, one a line, found none")
    outcome = uvloop.run(ask_all(asked, bodies))
    # a buffer of our own writes all of it; sys.stdout has none where Python runs unbuffered, and a pipe may take only a part at once
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
