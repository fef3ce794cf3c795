"""The soak test's load: annotators, retrieval, invalid requests and disconnects at the same time, all
checked.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any
from urllib.parse import SplitResult

import msgspec

from benchmarks.http_connection import Response, connect, request_bytes
from benchmarks.label_studio import setup_body
from benchmarks.response_check import REFUSED, Request, failure_of

ANNOTATORS = 4

PATIENCE = 100.0
"""Seconds to wait for a response, as Label Studio does."""

INVALID: tuple[tuple[str, bytes, int], ...] = (
    ("/predict", b"this is not JSON", 400),
    ("/predict", b'{"project": "1.1"}', 400),
    (
        "/predict",
        msgspec.json.encode({"tasks": [{"data": {"review": "good"}}], "label_config": "<View/>"}),
        422,
    ),
    ("/predict", msgspec.json.encode({"tasks": [{}] * 50_001, "label_config": "<View/>"}), 413),
    ("/setup", b"[]", 400),
    ("/nowhere", b"{}", 404),
    ("/admin/rollback", b"{}", 401),
)
"""Path, body and expected status of invalid requests."""


@dataclass(frozen=True)
class Recorded:
    """A request for predictions and its recorded responses, one for each bundle."""

    body: bytes
    tasks: int
    expected: list[bytes] = field(default_factory=list)

    def failure_of(self, response: Response) -> str | None:
        """What is wrong with a response, None for a correct one. In this load a 429 or 503 is a failure."""
        if response.status in REFUSED:
            return f"refused with {response.status}"
        if response.body in self.expected:
            return None
        failures = [failure_of(response, Request(b"", self.tasks, each)) for each in self.expected]
        return None if None in failures else failures[0]


class Load:
    """`sent` counts requests by kind, `failed` counts failures by what was wrong."""

    def __init__(self, address: SplitResult, requests: dict[int, list[Recorded]]) -> None:
        """`requests` by their number of tasks, of which there are three: single, many and most."""
        self.requests = requests
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.stop = asyncio.Event()
        self._address = address
        self._turns = {tasks: cycle(each) for tasks, each in requests.items()}
        self._invalid = cycle(INVALID)
        self._random = random.Random(1)  # noqa: S311 - a load, not a secret

    async def run(self, seconds: float, *also: Coroutine[Any, Any, None]) -> None:
        """The whole load for `seconds`, and other coroutines `also` at the same time."""
        self.stop.clear()
        single, many, most = self.requests
        async with asyncio.TaskGroup() as group:
            for _ in range(ANNOTATORS):
                group.create_task(self._repeat("annotate", partial(self._annotate, single), 0.05))
            group.create_task(self._repeat("retrieve", partial(self._predict, many), 0.5))
            group.create_task(self._repeat("retrieve most", partial(self._predict, most), 15.0))
            group.create_task(self._repeat("invalid request", self._send_invalid, 0.1))
            group.create_task(self._repeat("disconnect", partial(self._disconnect, (single, many)), 0.2))
            for coroutine in also:
                group.create_task(coroutine)
            await asyncio.sleep(seconds)
            self.stop.set()

    async def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, or until the load stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        """One request over a new connection, as Label Studio does. Raises OSError, TimeoutError."""
        self.sent[f"{method} {path}"] += 1
        connection = await connect(self._address)
        try:
            data = request_bytes(self._address, method, body, path, headers)
            return await asyncio.wait_for(connection.send(data), PATIENCE)
        finally:
            connection.close()

    async def _repeat(self, what: str, act: Callable[[], Awaitable[str | None]], pause: float) -> None:
        """`act` again and again until the load stops, with random pauses of `pause` seconds on average."""
        while not self.stop.is_set():
            try:
                failure = await act()
            except (OSError, TimeoutError) as error:
                failure = str(error) or type(error).__name__
            if failure is not None:
                self.failed[f"{what}: {failure}"] += 1
            await self.pause(self._random.expovariate(1 / pause))

    async def _annotate(self, tasks: int) -> str | None:
        for method, path, body in (("GET", "/health", b""), ("POST", "/setup", setup_body())):
            response = await self.send(method, path, body)
            if response.status != 200:
                return f"{path} returned {response.status}"
        return await self._predict(tasks)

    async def _predict(self, tasks: int) -> str | None:
        recorded = next(self._turns[tasks])
        return recorded.failure_of(await self.send("POST", "/predict", recorded.body))

    async def _send_invalid(self) -> str | None:
        path, body, status = next(self._invalid)
        response = await self.send("POST", path, body)
        return None if response.status == status else f"{path} returned {response.status}, not {status}"

    async def _disconnect(self, sizes: Sequence[int]) -> None:
        """Sometimes before the body is complete, sometimes before the response arrives."""
        self.sent["disconnected"] += 1
        body = next(self._turns[self._random.choice(sizes)]).body
        data = request_bytes(self._address, "POST", body, "/predict")
        _, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            writer.write(data[: self._random.choice((len(data), self._random.randrange(1, len(data))))])
            await writer.drain()
            await self.pause(self._random.uniform(0, 0.1))
        finally:
            writer.transport.abort()
