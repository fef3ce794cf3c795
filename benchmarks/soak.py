"""Soak test: half an hour of mixed load and reloads, with every response checked and memory sampled.

    .venv/dev/bin/python -m benchmarks.soak [REVIEWS.csv] [--minutes 30] [--reload-every 20]
                                            [--look-every 10] [--large 20000]

Starts a real `prelabel serve` and reloads it between two bundles: the given one, and the same with its
vocabulary reversed, which gives other predictions. Reloads use POST /admin/reload and SIGHUP alternately.
The load: annotators open tasks as Label Studio does (/health, /setup and /predict, each over a new
connection), predictions are retrieved for 1,000 tasks and sometimes for 20,000, some requests are invalid,
and some clients disconnect before the response or in the middle of their body. The responses of both bundles
are recorded first; every response under load must equal one of the two recorded for its request, and so must
the responses of the idle server at the end.

Memory is the server's resident memory, sampled under load. Its growth compares medians: the first tenth of
the run after the warm-up with the last tenth. The warm-up is 5 minutes, or a sixth of a shorter run.
Descriptors and threads are counted without load, after the warm-up and at the end.
"""

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import results
from benchmarks.label_studio import body_of
from benchmarks.mixed_load import PATIENCE, Load, Recorded
from benchmarks.response_check import WRONG
from benchmarks.served import Served, served
from benchmarks.texts import arguments, texts_of
from server.bundle import Manifest, sha256_of
from server.encoders.cnn.encoder import CnnSpec

SINGLES, BULKS, BULK_TASKS = 200, 5, 1000
"""Different requests with a single task, different requests with many tasks, and the tasks of the latter."""

WARM_UP_MINUTES = 5.0
"""By then each part of the server has been used; memory must not grow any further."""


@dataclass(frozen=True)
class Sample:
    """Resources of the server's process, `minute` minutes after the load began."""

    minute: float
    memory_mb: float
    descriptors: int
    threads: int


class AlternatingBundles:
    """`live`, the folder that the server serves, is a link to one of two bundles in turn."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.live = folder / "live"
        self._token = secrets.token_hex(20)
        self._turns = cycle([reversed_vocabulary(bundle, folder / bundle.name), bundle])
        self._by_signal = cycle([False, True])
        self.live.symlink_to(bundle)
        self.reloads = 0

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables of the server."""
        return {"PRELABEL_ADMIN_TOKEN": self._token}

    async def reload_every(self, seconds: float, server: Served, load: Load) -> None:
        await load.pause(seconds)
        while not load.stop.is_set():
            await self.reload(server, load)
            await load.pause(seconds)

    async def reload(self, server: Served, load: Load) -> None:
        """Switch to the other bundle and wait until the server serves it. Raises TimeoutError."""
        bundle = next(self._turns)
        link = self.live.with_name("next")
        link.symlink_to(bundle)
        link.replace(self.live)
        if next(self._by_signal):
            server.process.send_signal(signal.SIGHUP)
        else:
            response = await load.send("POST", "/admin/reload", Authorization=f"Bearer {self._token}")
            if response.status != 200:
                load.failed[f"/admin/reload returned {response.status}"] += 1
        version = read_manifest(bundle).version
        async with asyncio.timeout(PATIENCE):
            while msgspec.json.decode((await load.send("GET", "/health")).body)["model_version"] != version:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
        self.reloads += 1


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--reload-every", type=float, default=20.0, help="seconds between two reloads")
    parser.add_argument("--look-every", type=float, default=10.0, help="seconds between two memory samples")
    parser.add_argument("--large", type=int, default=20_000, help="tasks in the largest requests")
    args = parser.parse_args()
    texts = texts_of(args.reviews, max(SINGLES, BULKS * BULK_TASKS, args.large))
    requests = {
        tasks: requests_of(texts, number, tasks)
        for tasks, number in ((1, SINGLES), (BULK_TASKS, BULKS), (args.large, 1))
    }
    with TemporaryDirectory() as folder, Progress(console=Console(stderr=True)) as progress:
        bundles = AlternatingBundles(args.bundle.resolve(), Path(folder))
        with served(bundles.live, settings=bundles.settings) as server:
            bar = progress.add_task("minutes", total=args.minutes)
            load = Load(urlsplit(server.url("")), requests)
            figures = uvloop.run(
                soak(server, load, bundles, args, lambda minute: progress.update(bar, completed=minute))
            )
    report(figures, Console(width=110))
    results.write("soak", figures)


def requests_of(texts: Sequence[str], number: int, tasks: int) -> list[Recorded]:
    """`number` different requests with `tasks` tasks each, as far as the texts suffice."""
    return [
        Recorded(body_of(list(islice(cycle(texts), i * tasks, (i + 1) * tasks))), tasks)
        for i in range(number)
    ]


async def soak(
    server: Served,
    load: Load,
    bundles: AlternatingBundles,
    args: argparse.Namespace,
    tick: Callable[[float], None],
) -> dict[str, Any]:
    """The whole run with the options of the command line; `tick` gets the minutes that have passed."""
    requests = [request for several in load.requests.values() for request in several]
    for _ in range(2):
        for request in requests:
            request.expected.append((await load.send("POST", "/predict", request.body)).body)
        await bundles.reload(server, load)
    warm_up = min(WARM_UP_MINUTES, args.minutes / 6)
    start, samples, idle = time.monotonic(), list[Sample](), list[Sample]()

    async def sample_every(seconds: float) -> None:
        while not load.stop.is_set():
            samples.append(sample(server, start))
            tick(samples[-1].minute)
            await load.pause(seconds)

    for minutes in (warm_up, args.minutes - warm_up):
        await load.run(
            minutes * 60,
            sample_every(args.look_every),
            bundles.reload_every(args.reload_every, server, load),
        )
        idle.append(await sample_without_load(server, start))
    failures_at_the_end = [
        failure
        for request in requests
        if (failure := request.failure_of(await load.send("POST", "/predict", request.body)))
    ]
    warm, end = idle
    return {
        "minutes": args.minutes,
        "requests": sum(load.sent.values()),
        "sent": dict(load.sent),
        "wrong": sum(count for what, count in load.failed.items() if what.endswith(WRONG)),
        "failed": {what: count for what, count in load.failed.items() if not what.endswith(WRONG)},
        "wrong_at_the_end": len(failures_at_the_end),
        "reloads": bundles.reloads,
        "memory_mb": [each.memory_mb for each in samples],
        "rss_growth_after_5_min": growth([each.memory_mb for each in samples if each.minute >= warm_up]),
        "memory_mb_without_load": {"start": warm.memory_mb, "end": end.memory_mb},
        "descriptors": {
            "start": warm.descriptors,
            "end": end.descriptors,
            "most": max(each.descriptors for each in samples),
        },
        "threads": {"start": warm.threads, "end": end.threads, "most": max(each.threads for each in samples)},
    }


def sample(server: Served, start: float) -> Sample:
    return Sample(
        (time.monotonic() - start) / 60,
        server.memory_mb(),
        server.process.num_fds(),
        server.process.num_threads(),
    )


async def sample_without_load(server: Served, start: float) -> Sample:
    """A sample after the last connection has closed, or after PATIENCE."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while any(each.status != psutil.CONN_LISTEN for each in server.process.net_connections("tcp")):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
    return sample(server, start)


def growth(values: Sequence[float]) -> float:
    """Relative growth from the median of the first tenth to that of the last tenth."""
    tenth = max(1, len(values) // 10)
    return statistics.median(values[-tenth:]) / statistics.median(values[:tenth]) - 1


def read_manifest(bundle: Path) -> Manifest:
    return Manifest.model_validate_json((bundle / "manifest.json").read_bytes())


def reversed_vocabulary(bundle: Path, out: Path) -> Path:
    """A copy of the bundle with its tokens in reverse order: the same labels and sizes, other predictions."""
    manifest = read_manifest(bundle)
    out.mkdir()
    shutil.copy(bundle / "model.onnx", out)
    tokens = (bundle / "vocab.txt").read_bytes().removesuffix(b"\n").split(b"\n")
    spec = manifest.encoders[0]
    if not isinstance(spec, CnnSpec):
        raise SystemExit(f"{bundle} has no CNN alone")
    ids = [i for i in range(len(tokens)) if i not in (spec.unknown_id, spec.pad_id)]
    for i, token in zip(ids, [tokens[each] for each in reversed(ids)], strict=True):
        tokens[i] = token
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
        "after the warm-up",
        "at the end",
        title=f"{figures['minutes']:g} minutes, {figures['reloads']} reloads, {os.cpu_count()} cores",
    )
    memory = figures["memory_mb_without_load"]
    table.add_row("memory without load, MB", f"{memory['start']:.0f}", f"{memory['end']:.0f}")
    for name in ("descriptors", "threads"):
        table.add_row(f"{name} without load", *(str(figures[name][each]) for each in ("start", "end")))
    console.print(table)
    console.print(
        f"{figures['requests']:,} requests, {figures['wrong']} wrong responses, "
        f"{figures['wrong_at_the_end']} of the idle server at the end; "
        f"memory under load grew by {figures['rss_growth_after_5_min']:.1%} and peaked at "
        f"{max(figures['memory_mb']):.0f} MB.",
        highlight=False,
    )
    for what, count in figures["failed"].items():
        console.print(f"{what}: {count}", highlight=False)


if __name__ == "__main__":
    main()
