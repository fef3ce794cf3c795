"""Benchmark of a transformer on a GPU: Prelabel's engine, torch eager and torch.compile, float32 and float16.

    .venv/dev/bin/python -m benchmarks.gpu_transformer --transformer DIR [TEXTS.csv …] [--device cuda:0]
                                                       [--texts 4000] [--rounds 5] [--singles 500]

DIR is a Hugging Face classifier, as for `prelabel export`; its bundles are temporary. Prints a table and
writes `benchmarks/measured/gpu_transformer.json`. Each contender is opened separately:

    first calls     one row, and two: torch.compile compiles in these
    first lengths   single rows in shuffled order, each length for the first time: shows stalls
    lengths         the same rows again
    bulk            calls of similar length, as large as the server's, with one, two and three at once
    max |Δp|        to the eager network in float32 on the CPU, over the single rows
    padding         padded tokens ÷ tokens − 1 in the fixed shapes of the engine

With --device cpu it rehearses on the CPU: the same code and shapes; no figures are saved.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import results, tables
from benchmarks.gpu import Call, alone, measured, name_of
from benchmarks.results import ROOT
from benchmarks.texts import made_up_texts, read_texts
from benchmarks.transformer_contenders import NAMES, contenders, export, transformer_of
from export.hugging_face.eager import EagerClassifier, load_classifier
from server.arrays import Floats, Ids
from server.bundle import Bundle
from server.engines.base import pad
from server.engines.devices import CudaOptions, Grid
from server.engines.heads import PROBABILITIES
from server.engines.onnx_cuda import grid_of
from server.models.tokenizer import Tokenizer
from server.models.windows import Windows
from server.offline.records import TEXT
from server.settings import load_settings

PROBES = ROOT / "benchmarks" / "probes.csv"
"""Short sentences."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transformer", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="TEXTS.csv",
        help=f"without them: the sentences of {PROBES.name}, and reviews that are made up",
    )
    parser.add_argument("--column", default=TEXT, help="the texts' column in the files (%(default)s)")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--texts", type=int, default=4000, help="texts in bulk (%(default)s)")
    parser.add_argument("--singles", type=int, default=500, help="rows in calls of one row (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="as for prelabel export")
    parser.add_argument("--tokens", type=int, help="padded tokens in a call (PRELABEL_BATCH_TOKENS)")
    parser.add_argument("--only", type=names_of, metavar="NAME,NAME", help=f"of {', '.join(NAMES)}")
    args = parser.parse_args()
    figures = measure(args)
    Console().print(tables.gpu_transformer(figures), markup=False, highlight=False, soft_wrap=True)
    if args.device != "cpu" and any("failed" not in each for each in figures["engines"].values()):
        results.write("gpu_transformer", figures)


def names_of(text: str) -> list[str]:
    """Contenders of the option --only. Raises ValueError."""
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(NAMES):
        raise ValueError(text)
    return names


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    settings = load_settings()
    options = CudaOptions(
        Grid(settings.bucket_lengths, args.tokens or settings.budget(args.device)), settings.cuda.mem_limit
    )
    eager = load_classifier(args.transformer)
    with TemporaryDirectory() as folder:
        bundles = export(args.transformer, eager, Path(folder), args.max_length)
        rows = rows_of(bundles["float32"], texts_of(args.files, args.column, args.texts))
        expected = reference(eager, rows[: args.singles])
        grids = {precision: grid_of(bundle, options) for precision, bundle in bundles.items()}
        calls = {precision: calls_of(rows, grid) for precision, grid in grids.items()}
        engines = {
            name: measured(contender, rows, expected, calls[precision], args.rounds, name, first_calls(rows))
            for precision, bundle in bundles.items()
            for name, contender in contenders(
                args.transformer, bundle, precision, args.device, options
            ).items()
            if args.only is None or name in args.only
        }
        spec = transformer_of(bundles["float32"]).spec
    return {
        "device": name_of(args.device),
        "model": args.transformer.resolve().name,
        "architecture": spec.architecture,
        "features": spec.features,
        "max_length": spec.max_length,
        "texts": len(rows),
        "tokens": float(np.mean([len(row) for row in rows])),
        "engines": engines,
        "padding": {
            precision: padding_of(grid, calls[precision], rows[: args.singles])
            for precision, grid in grids.items()
        },
    }


def texts_of(files: Sequence[Path], column: str, count: int) -> list[str]:
    """The first `count` texts of the files, or probes and reviews that are made up, of mixed lengths."""
    if files:
        found = [text for file in files for text in read_texts(file, count, column)]
    else:
        found = read_texts(PROBES, count // 2)
        found += made_up_texts(count - len(found))
    random.Random(1).shuffle(found)  # noqa: S311 - an order, not a secret
    return found[:count]


def rows_of(bundle: Bundle, texts: Sequence[str]) -> list[Ids]:
    """A row for each text, truncated to what the network reads."""
    return list(Windows.of(Tokenizer.of(bundle).encode_all(texts), bundle.encoders).rows)


def reference(eager: EagerClassifier, rows: Sequence[Ids]) -> Floats:
    """Probabilities of the eager network in float32 on the CPU, text by text."""
    shown = track(rows, "eager on the CPU", console=Console(stderr=True), transient=True)
    logits = np.stack([eager.encoder.features(row) for row in shown]) @ eager.weights + eager.bias
    return PROBABILITIES[eager.head](logits).astype(np.float32)


def calls_of(rows: Sequence[Ids], grid: Grid) -> list[Call]:
    """The rows by ascending length, in calls of as many rows as a shape of the grid has."""
    batches: list[list[Ids]] = [[]]
    for row in sorted(rows, key=len):
        if len(batches[-1]) >= (grid.max_rows(len(row)) or 1):
            batches.append([])
        batches[-1].append(row)
    return [pad(batch, len(batch[-1])) for batch in batches]


def first_calls(rows: Sequence[Ids]) -> list[Call]:
    """One row and two: torch.compile makes a network for one row, and another for any number of them."""
    longest = max(rows, key=len)
    return [alone(longest), pad([longest, longest], len(longest))]


def padding_of(grid: Grid, calls: Sequence[Call], singles: Sequence[Ids]) -> dict[str, Any]:
    """Per cent of padding in the fixed shapes, in bulk and for single rows."""
    return {
        "calls": len(calls),
        "most_rows": grid.max_rows(grid.lengths[-1]),
        "bulk": padding(grid, calls),
        "single": padding(grid, [alone(row) for row in singles]),
    }


def padding(grid: Grid, calls: Sequence[Call]) -> float:
    """Padded tokens ÷ tokens − 1, in per cent."""
    shapes = [grid.fit(*ids.shape) for ids, _ in calls]
    padded = sum(shape.rows * shape.length for shape in shapes)
    return 100 * (padded / sum(int(lengths.sum()) for _, lengths in calls) - 1)


if __name__ == "__main__":
    main()
