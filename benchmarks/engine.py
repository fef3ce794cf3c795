"""Microseconds a text of each engine, with one thread and with all; also by length and batch size.

    .venv/dev/bin/python -m benchmarks.engine [REVIEWS.csv] [--texts 500] [--rounds 5]
                                              [--lengths 64,256,1024] [--rows 1,8,32]

From ids to probabilities, without the tokenizer. Engines get batches of similar length, as in bulk commands;
the "tutorial loop" (`benchmarks/tutorial_loop.py`) takes texts one by one. Rounds are interleaved, figures
are medians. Ratios are to the loop with its better number of threads.
"""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.results import write
from benchmarks.rounds import Variant, medians, repeated
from benchmarks.texts import arguments, texts_of
from benchmarks.tutorial_loop import TutorialLoop, network_of
from export.folded_cnn import FoldedCNN
from export.model_files import write_models
from server.arrays import Floats, Ids
from server.bundle import Bundle, read_bundle
from server.engines.base import Engine, pad
from server.engines.factory import open_engine
from server.models.tokenizer import Tokenizer
from server.offline.classifier import batches_of

ENGINES = ("tables", "onnx", "torchscript")
LOOP = "tutorial loop"

Call = tuple[Ids, Ids]
"""The arguments of `Engine.run`."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--lengths", type=numbers, default=(64, 256, 1024), help="tokens of a row, separated by commas"
    )
    parser.add_argument(
        "--rows", type=numbers, default=(1, 8, 32), help="rows of a call, separated by commas"
    )
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)
    rows = Tokenizer.of(bundle).encode_all(texts_of(args.reviews, args.texts))
    cores = len(os.sched_getaffinity(0))
    with TemporaryDirectory() as folder:
        traced = with_torchscript(bundle, Path(folder))
        engines = {
            name: open_engine(traced if name == "torchscript" else bundle, engine=name, device="cpu")
            for name in ENGINES
        }
    with ThreadPoolExecutor(cores) as pool:
        texts = on_texts(engines, bundle, rows, cores, pool, args.rounds)
    grid = by_size(engines, np.concatenate(rows), args.lengths, args.rows, args.rounds)
    times = loop_at_best(texts) / texts["tables"]["us_per_text_all_threads"]
    tokens = float(np.mean([len(row) for row in rows]))
    show(texts, grid, f"{len(rows):,} texts of {tokens:.0f} tokens on average", cores)
    write(
        "engine",
        {
            "count": len(rows),
            "tokens": tokens,
            "threads": cores,
            "texts": texts,
            "grid": grid,
            "times_tutorial": times,
        },
    )


def numbers(listed: str) -> tuple[int, ...]:
    return tuple(map(int, listed.split(",")))


def with_torchscript(bundle: Bundle, folder: Path) -> Bundle:
    """The bundle with a model.ts in `folder`, traced from its tensors if it has none."""
    if "model.ts" in bundle.manifest.files:
        return bundle
    write_models(FoldedCNN(network_of(bundle)), folder)
    manifest = bundle.manifest.model_copy(update={"files": {**bundle.manifest.files, "model.ts": ""}})
    return dataclasses.replace(bundle, path=folder, manifest=manifest)


def on_texts(
    engines: dict[str, Engine],
    bundle: Bundle,
    rows: list[Ids],
    cores: int,
    pool: ThreadPoolExecutor,
    rounds: int,
) -> dict[str, dict[str, float]]:
    batches = list(batches_of(rows, 8192))
    calls = [pad([rows[i] for i in batch], len(rows[batch[-1]])) for batch in batches]
    loops = {threads: TutorialLoop(bundle, threads) for threads in (1, cores)}
    one: dict[str, Variant] = {name: partial(by_one, engine, calls) for name, engine in engines.items()}
    every: dict[str, Variant] = {
        name: partial(by_all, engine, calls, pool) for name, engine in engines.items()
    }
    one[LOOP], every[LOOP] = (partial(loop.probabilities, rows) for loop in (loops[1], loops[cores]))
    order = np.argsort(np.concatenate(batches))
    outputs = {name: np.concatenate(by_one(engine, calls))[order] for name, engine in engines.items()} | {
        LOOP: loops[1].probabilities(rows)
    }
    seconds = medians(
        {f"one {name}": variant for name, variant in one.items()}
        | {f"all {name}": variant for name, variant in every.items()},
        rounds,
    )
    return {
        name: {
            "us_per_text_one_thread": seconds[f"one {name}"] / len(rows) * 1e6,
            "us_per_text_all_threads": seconds[f"all {name}"] / len(rows) * 1e6,
            "max_dp": float(np.abs(outputs[name] - outputs["onnx"]).max()),
        }
        for name in one
    }


def loop_at_best(texts: dict[str, dict[str, float]]) -> float:
    """Microseconds a text with the better of one thread and all: on a busy machine torch's threads wait for
    each other many times longer than one thread takes, which is not Prelabel's merit.
    """
    return min(texts[LOOP]["us_per_text_one_thread"], texts[LOOP]["us_per_text_all_threads"])


def by_one(engine: Engine, calls: list[Call]) -> list[Floats]:
    return [engine.run(*call) for call in calls]


def by_all(engine: Engine, calls: list[Call], pool: ThreadPoolExecutor) -> list[Floats]:
    # the longest first, so that they do not run alone at the end
    return list(pool.map(lambda call: engine.run(*call), reversed(calls)))


def by_size(
    engines: dict[str, Engine], words: Ids, lengths: tuple[int, ...], batches: tuple[int, ...], rounds: int
) -> list[dict[str, Any]]:
    """Microseconds a row on one thread, for rows of consecutive words of the texts."""
    sizes = [(tokens, count) for tokens in lengths for count in batches]
    variants: dict[str, Variant] = {}
    for tokens, count in sizes:
        call = np.resize(words, (count, tokens)), np.full(count, tokens, dtype=np.int32)
        for name, engine in engines.items():
            variants[f"{name} {tokens} {count}"] = repeated(
                partial(by_one, engine, [call]), times(tokens, count)
            )
    seconds = medians(variants, rounds)
    return [
        {
            "engine": name,
            "tokens": tokens,
            "rows": count,
            "us_per_row": seconds[f"{name} {tokens} {count}"] / times(tokens, count) / count * 1e6,
        }
        for tokens, count in sizes
        for name in engines
    ]


def times(tokens: int, rows: int) -> int:
    """Calls timed together."""
    return max(1, 16_384 // (tokens * rows))


def show(texts: dict[str, dict[str, float]], grid: list[dict[str, Any]], title: str, cores: int) -> None:
    console = Console(width=110)
    table = Table(
        "engine",
        "µs a text, one thread",
        f"{cores} threads",
        "× tutorial loop",
        "max |Δp| to onnx",
        title=title,
        title_justify="left",
    )
    for name, figures in texts.items():
        each = figures["us_per_text_all_threads"]
        ratio = loop_at_best(texts) / each
        table.add_row(
            name,
            f"{figures['us_per_text_one_thread']:.1f}",
            f"{each:.1f}",
            f"{ratio:.1f}",
            f"{figures['max_dp']:.0e}",
        )
    console.print(table)
    names = list(dict.fromkeys(line["engine"] for line in grid))
    table = Table(
        "tokens", "rows", *names, title="µs a row by length and batch size, one thread", title_justify="left"
    )
    for tokens, rows in dict.fromkeys((line["tokens"], line["rows"]) for line in grid):
        found = {
            line["engine"]: line["us_per_row"]
            for line in grid
            if (line["tokens"], line["rows"]) == (tokens, rows)
        }
        table.add_row(f"{tokens:,}", f"{rows:,}", *(f"{found[name]:.1f}" for name in names))
    console.print(table)


if __name__ == "__main__":
    main()
