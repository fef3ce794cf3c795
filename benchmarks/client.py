"""A client that costs little beside what it measures, in a process of its own: POSTs, and the time to each
answer.

    .venv/dev/bin/python -m benchmarks.client URL [--clients 1] [--rate R [--even]] [--seconds S] [--requests N] [--new-connections]
                                                  [--known] [--get] < BODIES

Reads request bodies, one a line, up to an empty line or the end, and sends them in turn. In a closed loop
each client sends its next request when the last was answered; with --rate requests are due at random times,
so many a second (Poisson), or --even ones, whatever became of those before, and a latency counts from when
its request was due. Each client asks once before the counting begins and "ready" is printed. It ends after
--seconds or --requests, or with neither at the end of its input, and prints its outcome as JSON.

With --known each body is followed by a line with the answer it must get: another one is a failure, and so is
a refusal that does not say why. With --get there are no bodies: URL is asked with GET, and any good answer
will do.

The benchmarks call `run`, `beside` and `started`, which start it.
"""

import argparse
import asyncio
import math
import random
import resource
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
from types import MappingProxyType
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

import httptools
import msgspec
import uvloop

T = TypeVar("T")

ROOT = Path(__file__).parent.parent

REFUSALS = (429, 503)
"""A server with no room answers so, and means it."""

WRONG = "a wrong answer"

TOLERANCE = 1e-5
"""By which probabilities may differ: some engines add up in another order when a text has other company."""

PATIENCE = 120.0
"""Seconds after the end for answers that are still to come; Label Studio gives up after 100."""


@dataclass
class Outcome:
    """What became of the requests of one run, whose last answer came after `seconds`.

    `latencies` are the seconds of those that were answered as they must be, `stages` their Server-Timing:
    milliseconds, medians by stage. `refusals` are the seconds to an answer of 429 or 503, by status; `failed`
    counts all else by what was wrong.

    `late` and `busy` tell whether the client kept up: the seconds after which 99 % of the requests that were
    due had been begun, and the share of one core that it took.
    """

    seconds: float
    tasks: int = 0
    latencies: list[float] = field(default_factory=list)
    refusals: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    late: float = 0.0
    busy: float = 0.0

    @property
    def refused(self) -> int:
        return sum(map(len, self.refusals.values()))

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.seconds

    def ms(self, share: float) -> float:
        """The latency that this share of the requests did not pass, in milliseconds."""
        return quantile(self.latencies, share) * 1000

    def checked(self, *, may_refuse: bool = False) -> "Outcome":
        """Itself. Figures of a run with failures would mislead: then, or where nothing was answered, the
        benchmark ends and says why.
        """
        wrong = self.failed | (
            {"refused (429 or 503)": self.refused} if self.refused and not may_refuse else {}
        )
        if wrong or not self.latencies:
            told = "; ".join(f"{what}: {count}" for what, count in wrong.items()) or "none was answered"
            raise SystemExit(f"{len(self.latencies)} requests were answered well, others not: {told}")
        return self


def quantile(values: Sequence[float], share: float) -> float:
    """What this share of the values does not pass."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def run(url: str, bodies: Sequence[bytes], **options: Any) -> Outcome:
    """The outcome of a client process with `options` as the command line has them; `seconds` or `requests`
    must be among them.
    """
    with started(url, bodies, **options) as client:
        return client.outcome()


def beside(url: str, bodies: Sequence[bytes], work: Callable[[], T], **options: Any) -> tuple[T, Outcome]:
    """What `work` gives, and the outcome of a client process that asked while it went on."""
    with started(url, bodies, **options) as client:
        return work(), client.outcome()


class Started:
    """A client process that has begun to count."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def stop(self) -> None:
        """No more requests, where the end of its input is what ends it; those begun are still waited for."""
        if self._process.stdin is not None:
            self._process.stdin.close()
            self._process.stdin = None

    def outcome(self) -> Outcome:
        told, _ = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"The client ended with status {self._process.returncode}.")
        return Outcome(**msgspec.json.decode(told))


@contextmanager
def started(
    url: str, bodies: Sequence[bytes], known: Sequence[bytes] = (), **options: Any
) -> Iterator[Started]:
    """A client process with `options` as the command line has them; `known` are the answers that the bodies
    must get, if they are to be compared.
    """
    command = [sys.executable, "-m", "benchmarks.client", url]
    for name, value in options.items():
        command += (
            [f"--{name.replace('_', '-')}"]
            if value is True
            else [f"--{name.replace('_', '-')}", str(value)]
            if value
            else []
        )
    if known:
        command.append("--known")
        bodies = [line for pair in zip(bodies, known, strict=True) for line in pair]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - this very program
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101 - the same
        try:
            process.stdin.write(b"\n".join([*bodies, b"\n"]))
            process.stdin.flush()
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"The client could not begin: {url} did not answer, or not as it must.")
            yield Started(process)
        finally:
            process.kill()


@dataclass(frozen=True)
class Ask:
    """A request as bytes, how many results its answer must hold, none where it is no request for predictions,
    and which answer it must be, if that is known.
    """

    data: bytes
    tasks: int = 0
    known: bytes | None = None

    @classmethod
    def of(cls, address: SplitResult, body: bytes, known: bytes | None = None) -> "Ask":
        return cls(request(address, "POST", body), len(msgspec.json.decode(body)["tasks"]), known)


def request(
    address: SplitResult,
    method: str,
    body: bytes = b"",
    path: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """A whole request as Label Studio writes it, to the address's own path or to another, with `headers`
    besides.
    """
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if method == "POST" else ""
    content += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"{method} {path or address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nUser-Agent: "
        "heartex/1.23.2\r\nAccept-Encoding: gzip, deflate\r\n"
        f"Accept: */*\r\nConnection: keep-alive\r\n{content}\r\n"
    )
    return head.encode() + body


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
        answer = Answer(
            self._parser.get_status_code(), b"".join(self._body), self._timing, time.perf_counter()
        )
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
        self._worked = time.process_time()
        self._failed: Counter[str] = Counter()
        self._refusals: dict[str, list[float]] = {}
        self._late: list[float] = []
        self._tasks = 0
        self._latencies: list[float] = []
        self._timings: list[bytes] = []

    async def ask(self, due: float) -> None:
        """One request that was due at `due`."""
        self._late.append(time.perf_counter() - due)
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
        if (wrong := what_is_wrong(answer, ask)) is not None:
            self._failed[wrong] += 1
        elif answer.status in REFUSALS:
            self._refusals.setdefault(str(answer.status), []).append(answer.at - due)
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
        _, connection = await loop.create_connection(
            Connection, self._address.hostname or "", self._address.port or 80
        )
        return connection

    def outcome(self, unanswered: int) -> Outcome:
        if unanswered:
            self._failed[f"not answered {PATIENCE:.0f} s after the end"] += unanswered
        seconds = self._last - self._begun
        late, busy = (
            quantile(self._late, 0.99) if self._late else 0.0,
            (time.process_time() - self._worked) / (time.perf_counter() - self._begun),
        )
        return Outcome(
            seconds,
            self._tasks,
            self._latencies,
            self._refusals,
            dict(self._failed),
            medians(self._timings),
            late,
            busy,
        )


def what_is_wrong(answer: Answer, ask: Ask) -> str | None:
    """A refusal is not wrong, but where answers are compared it must say why."""
    if answer.status in REFUSALS:
        return (
            None
            if ask.known is None or says_why(answer.body)
            else f"status {answer.status} that does not say why"
        )
    if answer.status >= 400:
        return f"status {answer.status}"
    if not ask.tasks or answer.body == ask.known:
        return None
    try:
        results = msgspec.json.decode(answer.body)["results"]
    except (ValueError, KeyError, TypeError):
        return "an answer without results"
    if len(results) != ask.tasks:
        return f"{len(results)} results for {ask.tasks} tasks"
    if not all(isinstance(each, dict) and "result" in each for each in results):
        return "a task that could not be predicted"
    if ask.known is not None and not alike(results, msgspec.json.decode(ask.known)["results"]):
        return WRONG
    return None


def says_why(body: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return False


def alike(answer: Any, known: Any) -> bool:
    """Whether two answers say the same, numbers to TOLERANCE."""
    if isinstance(answer, float) and isinstance(known, float):
        return abs(answer - known) <= TOLERANCE
    if isinstance(answer, dict) and isinstance(known, dict):
        return answer.keys() == known.keys() and all(
            alike(each, known[name]) for name, each in answer.items()
        )
    if isinstance(answer, list) and isinstance(known, list):
        return len(answer) == len(known) and all(map(alike, answer, known))
    return bool(answer == known)


def timing_of(header: str) -> dict[str, float]:
    """Milliseconds by stage, of a Server-Timing header."""
    stages = (part.strip().partition(";dur=") for part in header.split(","))
    return {name: float(spent) for name, _, spent in stages if spent}


def medians(timings: Sequence[bytes]) -> dict[str, float]:
    found = [timing_of(each.decode()) for each in timings if each]
    return (
        {stage: statistics.median(each.get(stage, 0.0) for each in found) for stage in found[0]}
        if found
        else {}
    )


async def closed_loop(client: Client, clients: int, requests: int | None, stop: asyncio.Event) -> int:
    """Each client asks, one request after the other; how many had no answer in the end."""

    async def one() -> None:
        asked = 0
        while not stop.is_set() and asked != requests:
            await client.ask(time.perf_counter())
            asked += 1

    return await _ended([asyncio.create_task(one()) for _ in range(clients)], stop)


async def open_loop(client: Client, rate: float, stop: asyncio.Event, seed: int | None) -> int:
    """`rate` requests a second, whatever became of those before, at random times, or without a seed at even
    ones; how many had no answer in the end.
    """
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
            due += 1 / rate if seed is None else numbers.expovariate(rate)
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
    if asked.get:
        asks = [Ask(request(address, "GET"))]
    elif asked.known:
        asks = [Ask.of(address, body, known) for body, known in zip(bodies[::2], bodies[1::2], strict=True)]
    else:
        asks = [Ask.of(address, body) for body in bodies]
    client = Client(address, asks, new_connections=asked.new_connections)
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
    if asked.rate:
        return client.outcome(await open_loop(client, asked.rate, stop, None if asked.even else asked.seed))
    return client.outcome(await closed_loop(client, asked.clients, asked.requests, stop))


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
    asked = parser.parse_args()
    # each request that waits has a connection
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    bodies = list(read_bodies())
    if not bodies and not asked.get:
        parser.error("expected request bodies, one a line, found none")
    outcome = uvloop.run(ask_all(asked, bodies))
    # a buffer of our own writes all of it; sys.stdout has none where Python runs unbuffered, and a pipe may
    # take only a part at once
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
