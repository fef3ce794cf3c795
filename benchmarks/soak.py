"""Half an hour of everything at once, with a new bundle every 20 seconds: whether memory, descriptors or
threads grow, and whether every answer is right.

    .venv/dev/bin/python -m benchmarks.soak [REVIEWS.csv] [--minutes 30] [--reload-every 20] [--look-every 10] [--large 20000]

Starts a real `prelabel serve` whose bundle is one of two in turn: the given one, and the same with its words
in another order, which answers otherwise. POST /admin/reload and SIGHUP take turns. Meanwhile annotators open
tasks as Label Studio does (/health, /setup and /predict, each over a connection of its own), predictions are
retrieved for 1,000 tasks and now and then for 20,000, some requests are wrong, and some clients leave before
they are answered or half-way through their body. What each bundle answers is noted before; every answer must
be one of the two that were noted for its request, to the last task, and so must those of the idle server at
the end.

Memory is the resident memory of the server, looked at under load. Growth is from the tenth of the run that
follows the first minutes to the last tenth, medians; the first minutes are 5, of a short run a sixth.
Descriptors and threads are counted without load: after the first minutes, and at the end.
"""

import argparse
import asyncio
import os
import random
import secrets
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
import psutil
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import results
from benchmarks.client import REFUSALS, WRONG, Answer, Ask, Connection, request, what_is_wrong
from benchmarks.label_studio import body_of, setup_body
from benchmarks.served import Served, served
from benchmarks.texts import arguments, texts_of
from server.bundle import Manifest, sha256_of

SINGLES, BULKS, BULK_TASKS = 200, 5, 1000
"""Different requests, of single tasks and of many."""

ANNOTATORS = 4

FIRST_MINUTES = 5.0
"""After which memory shall no longer grow: by then each part of the server has been used."""

PATIENCE = 100.0
"""Seconds for an answer, as Label Studio has it, and for connections to be closed at the end."""

BAD: tuple[tuple[str, bytes, int], ...] = (
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
"""Path, body, and the status it is answered with."""


@dataclass(frozen=True)
class Known:
    """A request for predictions, and the answers that it may get: one a bundle."""

    body: bytes
    tasks: int
    answers: list[bytes] = field(default_factory=list)

    def what_is_wrong(self, answer: Answer) -> str | None:
        if answer.status in REFUSALS:
            return f"refused with {answer.status}"
        if answer.body in self.answers:
            return None
        found = [what_is_wrong(answer, Ask(b"", self.tasks, each)) for each in self.answers]
        return None if None in found else found[0]


@dataclass(frozen=True)
class Look:
    """At the server's process, so many minutes after the load began."""

    minute: float
    memory_mb: float
    descriptors: int
    threads: int


class Load:
    """What is sent to the server, and what was wrong with its answers."""

    def __init__(self, address: SplitResult, requests: dict[int, list[Known]]) -> None:
        """`requests` by their number of tasks."""
        self.requests = requests
        self.sent: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.stop = asyncio.Event()
        self._address = address
        self._turns = {tasks: cycle(each) for tasks, each in requests.items()}
        self._bad = cycle(BAD)
        self._random = random.Random(1)  # noqa: S311 - a load, not a secret

    async def go(self, seconds: float, *besides: Coroutine[Any, Any, None]) -> None:
        """All of it at once, and what goes on `besides`, for so long."""
        self.stop.clear()
        single, many, most = self.requests
        async with asyncio.TaskGroup() as group:
            for _ in range(ANNOTATORS):
                group.create_task(self._again("annotate", partial(self._annotate, single), 0.05))
            group.create_task(self._again("retrieve", partial(self._predict, many), 0.5))
            group.create_task(self._again("retrieve most", partial(self._predict, most), 15.0))
            group.create_task(self._again("ask badly", self._ask_badly, 0.1))
            group.create_task(self._again("leave", partial(self._leave, (single, many)), 0.2))
            for each in besides:
                group.create_task(each)
            await asyncio.sleep(seconds)
            self.stop.set()

    async def pause(self, seconds: float) -> None:
        """So long, or until the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Over a connection of its own, as Label Studio asks."""
        self.sent[f"{method} {path}"] += 1
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, self._address.hostname or "", self._address.port or 80
        )
        try:
            return await asyncio.wait_for(
                connection.ask(request(self._address, method, body, path, headers)), PATIENCE
            )
        finally:
            connection.close()

    async def _again(self, what: str, act: Callable[[], Awaitable[str | None]], pause: float) -> None:
        """`act` after random pauses, until the end."""
        while not self.stop.is_set():
            try:
                wrong = await act()
            except (OSError, TimeoutError) as error:
                wrong = str(error) or type(error).__name__
            if wrong is not None:
                self.failed[f"{what}: {wrong}"] += 1
            await self.pause(self._random.expovariate(1 / pause))

    async def _annotate(self, tasks: int) -> str | None:
        for method, path, body in (("GET", "/health", b""), ("POST", "/setup", setup_body())):
            answer = await self.ask(method, path, body)
            if answer.status != 200:
                return f"{path} answered {answer.status}"
        return await self._predict(tasks)

    async def _predict(self, tasks: int) -> str | None:
        known = next(self._turns[tasks])
        return known.what_is_wrong(await self.ask("POST", "/predict", known.body))

    async def _ask_badly(self) -> str | None:
        path, body, status = next(self._bad)
        answer = await self.ask("POST", path, body)
        return None if answer.status == status else f"{path} answered {answer.status}, not {status}"

    async def _leave(self, sizes: Sequence[int]) -> None:
        """Sometimes before the body is complete, sometimes before the answer comes."""
        self.sent["left"] += 1
        whole = request(self._address, "POST", next(self._turns[self._random.choice(sizes)]).body, "/predict")
        _, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            writer.write(whole[: self._random.choice((len(whole), self._random.randrange(1, len(whole))))])
            await writer.drain()
            await self.pause(self._random.uniform(0, 0.1))
        finally:
            writer.transport.abort()


class Bundles:
    """Two in turn at one place, which is what the server is told to serve."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.live = folder / "live"
        self._token = secrets.token_hex(20)
        self._turns = cycle([other_words(bundle, folder / bundle.name), bundle])
        self._by_signal = cycle([False, True])
        self.live.symlink_to(bundle)
        self.reloads = 0

    @property
    def settings(self) -> dict[str, str]:
        return {"PRELABEL_ADMIN_TOKEN": self._token}

    async def reload_every(self, seconds: float, server: Served, load: Load) -> None:
        await load.pause(seconds)
        while not load.stop.is_set():
            await self.reload(server, load)
            await load.pause(seconds)

    async def reload(self, server: Served, load: Load) -> None:
        """The other bundle, until the server answers with it."""
        bundle = next(self._turns)
        beside = self.live.with_name("next")
        beside.symlink_to(bundle)
        beside.replace(self.live)
        if next(self._by_signal):
            server.process.send_signal(signal.SIGHUP)
        else:
            answer = await load.ask("POST", "/admin/reload", Authorization=f"Bearer {self._token}")
            if answer.status != 200:
                load.failed[f"/admin/reload answered {answer.status}"] += 1
        wanted = read_manifest(bundle).version
        async with asyncio.timeout(PATIENCE):
            while msgspec.json.decode((await load.ask("GET", "/health")).body)["model_version"] != wanted:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
        self.reloads += 1


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--reload-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--look-every", type=float, default=10.0, help="seconds")
    parser.add_argument("--large", type=int, default=20_000, help="tasks in the largest requests")
    asked = parser.parse_args()
    texts = texts_of(asked.reviews, max(SINGLES, BULKS * BULK_TASKS, asked.large))
    requests = {
        tasks: requests_of(texts, number, tasks)
        for tasks, number in ((1, SINGLES), (BULK_TASKS, BULKS), (asked.large, 1))
    }
    with TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        bundles = Bundles(asked.bundle.resolve(), Path(folder))
        with served(bundles.live, settings=bundles.settings) as server:
            bar = progress.add_task("minutes", total=asked.minutes)
            load = Load(urlsplit(server.url("")), requests)
            figures = uvloop.run(
                soak(server, load, bundles, asked, lambda minute: progress.update(bar, completed=minute))
            )
    report(figures, Console(width=110))
    results.write("soak", figures)


def requests_of(texts: Sequence[str], number: int, tasks: int) -> list[Known]:
    return [
        Known(body_of(list(islice(cycle(texts), place * tasks, (place + 1) * tasks))), tasks)
        for place in range(number)
    ]


async def soak(
    server: Served, load: Load, bundles: Bundles, asked: argparse.Namespace, tick: Callable[[float], None]
) -> dict[str, Any]:
    every = [known for several in load.requests.values() for known in several]
    for _ in range(2):
        for known in every:
            known.answers.append((await load.ask("POST", "/predict", known.body)).body)
        await bundles.reload(server, load)
    first = min(FIRST_MINUTES, asked.minutes / 6)
    begun, looks, idle = time.monotonic(), list[Look](), list[Look]()

    async def look_every(seconds: float) -> None:
        while not load.stop.is_set():
            looks.append(look(server, begun))
            tick(looks[-1].minute)
            await load.pause(seconds)

    for minutes in (first, asked.minutes - first):
        await load.go(
            minutes * 60, look_every(asked.look_every), bundles.reload_every(asked.reload_every, server, load)
        )
        idle.append(await look_without_load(server, begun))
    wrong_at_the_end = [
        wrong
        for known in every
        if (wrong := known.what_is_wrong(await load.ask("POST", "/predict", known.body)))
    ]
    start, end = idle
    return {
        "minutes": asked.minutes,
        "requests": sum(load.sent.values()),
        "sent": dict(load.sent),
        "wrong": sum(count for what, count in load.failed.items() if what.endswith(WRONG)),
        "failed": {what: count for what, count in load.failed.items() if not what.endswith(WRONG)},
        "wrong_at_the_end": len(wrong_at_the_end),
        "reloads": bundles.reloads,
        "memory_mb": [each.memory_mb for each in looks],
        "rss_growth_after_5_min": growth([each.memory_mb for each in looks if each.minute >= first]),
        "memory_mb_without_load": {"start": start.memory_mb, "end": end.memory_mb},
        "descriptors": {
            "start": start.descriptors,
            "end": end.descriptors,
            "most": max(each.descriptors for each in looks),
        },
        "threads": {"start": start.threads, "end": end.threads, "most": max(each.threads for each in looks)},
    }


def look(server: Served, begun: float) -> Look:
    return Look(
        (time.monotonic() - begun) / 60,
        server.memory_mb(),
        server.process.num_fds(),
        server.process.num_threads(),
    )


async def look_without_load(server: Served, begun: float) -> Look:
    """When the last connection is closed, or should be."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while any(each.status != psutil.CONN_LISTEN for each in server.process.net_connections("tcp")):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
    return look(server, begun)


def growth(values: Sequence[float]) -> float:
    """From the first tenth to the last, as a share."""
    tenth = max(1, len(values) // 10)
    return statistics.median(values[-tenth:]) / statistics.median(values[:tenth]) - 1


def read_manifest(bundle: Path) -> Manifest:
    return Manifest.model_validate_json((bundle / "manifest.json").read_bytes())


def other_words(bundle: Path, out: Path) -> Path:
    """The bundle with its words in the opposite order: the same labels and sizes, and other answers."""
    manifest = read_manifest(bundle)
    out.mkdir()
    shutil.copy(bundle / "model.onnx", out)
    tokens = (bundle / "vocab.txt").read_bytes().removesuffix(b"\n").split(b"\n")
    places = [place for place in range(len(tokens)) if place not in (manifest.unknown_id, manifest.pad_id)]
    for place, token in zip(places, [tokens[each] for each in reversed(places)], strict=True):
        tokens[place] = token
    (out / "vocab.txt").write_bytes(b"\n".join([*tokens, b""]))
    changed = manifest.model_copy(
        update={"files": {name: sha256_of(out / name) for name in ("model.onnx", "vocab.txt")}}
    )
    changed = changed.model_copy(update={"version": changed.content_version()})
    (out / "manifest.json").write_text(changed.model_dump_json(), "utf-8")
    return out


def report(figures: dict[str, Any], console: Console) -> None:
    table = Table(
        "",
        "after the first minutes",
        "at the end",
        title=f"{figures['minutes']:g} minutes, {figures['reloads']} reloads, {os.cpu_count()} cores",
    )
    memory = figures["memory_mb_without_load"]
    table.add_row("memory without load, MB", f"{memory['start']:.0f}", f"{memory['end']:.0f}")
    for name in ("descriptors", "threads"):
        table.add_row(f"{name} without load", *(str(figures[name][each]) for each in ("start", "end")))
    console.print(table)
    console.print(
        f"{figures['requests']:,} requests, {figures['wrong']} answers wrong, of the idle server at the "
        f"end {figures['wrong_at_the_end']}; "
        f"memory under load grew by {figures['rss_growth_after_5_min']:.1%} and was "
        f"{max(figures['memory_mb']):.0f} MB at most.",
        highlight=False,
    )
    for what, count in figures["failed"].items():
        console.print(f"{what}: {count}", highlight=False)


if __name__ == "__main__":
    main()
