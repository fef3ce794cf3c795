"""Benchmark of one GPU: engines and alternatives by row length and batch size, and the server.

    .venv/dev/bin/python -m benchmarks.gpu [REVIEWS.csv] [--device cuda:0] [--texts 20000] [--rounds 5]
                                           [--workers 1,4]

Prints a table and writes `benchmarks/measured/gpu.json`, which the report draws (`python -m
benchmarks.report`). The contenders are the engines, a Triton kernel, ONNX Runtime with Conv and torch eager.
Each is opened separately, so that its first calls are like those of a new process:

    first lengths   single rows in shuffled order, each length for the first time: shows stalls
    lengths         the same rows again
    bulk            batches of similar length, with one, two and three concurrent calls
    batch size      the same with more or fewer padded tokens in a call
    server          `prelabel serve`: large requests of several clients, and single tasks

With --device cpu it rehearses on the CPU: the same code and shapes; no figures are saved.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from benchmarks import client, results, tables
from benchmarks.contenders import SIZED, Contender, Run, contenders, opened
from benchmarks.engine import with_torchscript
from benchmarks.label_studio import body_of
from benchmarks.load_result import quantile
from benchmarks.rounds import medians
from benchmarks.served import served
from benchmarks.texts import arguments, numbers_of, texts_of
from server.arrays import Floats, Ids
from server.bundle import read_bundle
from server.engines.base import pad
from server.engines.devices import CudaOptions, Grid
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer
from server.offline.classifier import batches_of
from server.settings import load_settings

IN_FLIGHT = (1, 2, 3)

SINGLES = 1000
"""Rows in calls of one row."""

TASKS = 5000
"""Tasks in a large request."""

Call = tuple[Ids, Ids]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each load on the server")
    parser.add_argument(
        "--tokens",
        type=numbers_of,
        default=[8192, 16_384, 32_768, 65_536, 131_072, 262_144],
        help="padded tokens in a call",
    )
    parser.add_argument("--workers", type=numbers_of, default=[1, 4], help="worker processes of the server")
    args = parser.parse_args()
    on_gpu = args.device != "cpu"
    bundle, texts = read_bundle(args.bundle), texts_of(args.reviews, args.texts)
    longest = load_settings().bucket_lengths[-1]
    rows = [row for row in Tokenizer.of(bundle).encode_all(texts) if len(row) <= longest]
    expected, budget = reference(bundle, rows), load_settings().budget(args.device)
    engines: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        traced = with_torchscript(bundle, Path(folder))
        for name, contender in contenders(bundle, traced, args.device, options(budget)).items():
            engines[name] = measured(contender, rows, expected, in_batches(rows, budget), args.rounds, name)
        sizes = {
            str(most): rates_by_contender(
                contenders(bundle, traced, args.device, options(most)), rows, most, args.rounds
            )
            for most in args.tokens
        }
    figures = {
        "device": name_of(args.device),
        "texts": len(rows),
        "tokens": float(np.mean([len(row) for row in rows])),
        "engines": engines,
        "sizes": sizes,
        "server": [
            on_server(args.bundle, "onnx", workers, args.device, texts, args.seconds)
            for workers in args.workers
        ],
    }
    Console(width=140).print(tables.gpu(figures), markup=False, highlight=False)
    if on_gpu:
        results.write("gpu", figures)


def name_of(device: str) -> str:
    if device == "cpu":
        return "a rehearsal on the CPU"
    # a torch for the CPU sees no GPU; the engines of ONNX Runtime do
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device


def options(tokens: int) -> CudaOptions:
    return CudaOptions(Grid(load_settings().bucket_lengths, tokens))


def reference(bundle: Any, rows: Sequence[Ids]) -> Floats:
    """Probabilities of the CPU engine for the first SINGLES rows."""
    engine = open_engine(bundle, engine="tables", device="cpu")
    return np.concatenate([engine.run(*alone(row)) for row in rows[:SINGLES]])


def measured(
    contender: Contender,
    rows: Sequence[Ids],
    expected: Floats,
    calls: Sequence[Call],
    rounds: int,
    name: str,
    first_calls: Sequence[Call] = (),
) -> dict[str, Any]:
    """One contender's figures, or the reason why it failed. `expected` are probabilities of the first rows,
    which are also run one by one; `calls` are those of bulk. What the `first_calls` take, such as a
    compilation, is a figure of its own.
    """
    try:
        start, before = time.perf_counter(), memory()
        with opened(contender) as run:
            open_s, memory_mb = time.perf_counter() - start, memory() - before
            start = time.perf_counter()
            for call in first_calls:
                run(*call)
            first_calls_s = time.perf_counter() - start
            first, outputs = one_by_one(run, rows[: len(expected)], f"{name}: first lengths")
            again, _ = one_by_one(run, rows[: len(expected)], f"{name}: lengths")
            return {
                "open_s": open_s,
                "first_calls_s": first_calls_s,
                "memory_mb": memory_mb,
                "first": first,
                "again": again,
                "reviews_per_s": in_bulk(run, calls, rounds),
                "max_dp": float(np.abs(outputs - expected).max()),
            }
    except Exception as error:  # any error of a contender; the others are measured nevertheless
        return {"failed": f"{type(error).__name__}: {str(error)[:200]}"}


def one_by_one(run: Run, rows: Sequence[Ids], what: str) -> tuple[dict[str, float], Floats]:
    """Latencies of calls with one row in shuffled order; probabilities in the order of the rows."""
    order = np.random.default_rng(1).permutation(len(rows))
    outputs: dict[int, Floats] = {}
    ms = []
    for i in track(order.tolist(), what, console=Console(stderr=True), transient=True):
        call = alone(rows[i])
        start = time.perf_counter()
        outputs[i] = run(*call)
        ms.append((time.perf_counter() - start) * 1000)
    p50, p99 = quantile(ms, 0.5), quantile(ms, 0.99)
    latencies = {"p50_ms": p50, "p99_ms": p99, "longest_ms": max(ms), "p99_times_p50": p99 / p50}
    return latencies, np.concatenate([outputs[i] for i in range(len(rows))])


def in_bulk(run: Run, calls: Sequence[Call], rounds: int) -> dict[str, float]:
    """Reviews per second by number of concurrent calls."""

    def with_threads(pool: ThreadPoolExecutor) -> None:
        for _ in pool.map(lambda call: run(*call), calls):
            pass

    pools = {threads: ThreadPoolExecutor(threads) for threads in IN_FLIGHT}
    try:
        seconds = medians(
            {str(threads): partial(with_threads, pool) for threads, pool in pools.items()}, rounds
        )
    finally:
        for pool in pools.values():
            pool.shutdown()
    texts = sum(len(lengths) for _, lengths in calls)
    return {threads: texts / each for threads, each in seconds.items()}


def rates_by_contender(
    found: Mapping[str, Contender], rows: Sequence[Ids], tokens: int, rounds: int
) -> dict[str, float]:
    """Reviews per second of each contender of SIZED, with two concurrent calls."""
    rates = {}
    for name in SIZED:
        if name in found:
            try:
                with opened(found[name]) as run:
                    rates[name] = in_bulk(run, in_batches(rows, tokens), rounds)["2"]
            except Exception as error:  # such as too little memory for the largest batch
                Console(stderr=True).print(
                    f"{name}, {tokens} tokens: {type(error).__name__}: {str(error)[:200]}", markup=False
                )
    return rates


def on_server(
    bundle: Path, engine: str, workers: int, device: str, texts: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Throughput of large requests with two clients per worker; latencies of sequential single tasks."""
    several = [
        body_of(texts[begin : begin + TASKS]) for begin in range(0, len(texts) - TASKS + 1, TASKS)
    ] or [body_of(list(texts))]
    singles = [body_of([text]) for text in texts[:200]]
    with served(bundle, "--engine", engine, "--device", device, "--workers", str(workers)) as server:
        single = client.run(server.url(), singles, seconds=seconds).checked()
        bulk = client.run(server.url(), several, clients=2 * workers, seconds=seconds).checked()
        return {
            "engine": engine,
            "workers": workers,
            "bulk_tasks_per_s": bulk.tasks_per_s,
            "single_p50_ms": single.ms(0.5),
            "single_p99_ms": single.ms(0.99),
            "processor": server.cpu_seconds(),
        }


def in_batches(rows: Sequence[Ids], budget: int) -> list[Call]:
    return [pad([rows[i] for i in batch], len(rows[batch[-1]])) for batch in batches_of(rows, budget)]


def alone(row: Ids) -> Call:
    return pad([row], len(row))


def memory() -> float:
    """Megabytes in use on the first GPU."""
    if not torch.cuda.is_available():
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e6


if __name__ == "__main__":
    main()
