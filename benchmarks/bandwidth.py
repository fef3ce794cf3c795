"""The hardware limit of table engines: how fast random rows can be read and summed, from caches and memory.

    .venv/dev/bin/python -m benchmarks.bandwidth [REVIEWS.csv] [--texts 1000] [--rounds 7]

Every table engine reads one row per token and tap. At these rates the bytes of a review take a time that no
engine with tables in that level can beat. Frequent tokens are in caches and rare ones in memory, so the real
limit lies between the levels. The sizes of caches are those that Linux reports.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.results import write
from benchmarks.rounds import Variant, medians
from benchmarks.texts import arguments, texts_of
from server.bundle import read_bundle
from server.encoders.cnn.encoder import cnn_of
from server.jit import compiled
from server.models.tokenizer import Tokenizer

NUMBERS = 300
"""Numbers in a row: three banks of 100 filters have so many for one tap."""

READ = 64 * 2**20
"""Bytes read in one call."""

MIB = 2**20
TYPES = (np.int16, np.float32)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--read", type=int, default=READ, help="bytes read in one call")
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=sizes_here(),
        help="MiB of the working sets",
        metavar="L2,L3,MEMORY",
    )
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)
    rows = Tokenizer.of(bundle).encode_all(texts_of(args.reviews, args.texts))
    tokens = float(np.mean([len(row) for row in rows]))
    looked_up = (
        tokens
        * sum(cnn_of(bundle.encoders).spec.widths)
        * cnn_of(bundle.encoders).spec.features
        / len(cnn_of(bundle.encoders).spec.widths)
    )
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        levels = {
            level: measured(mib, looked_up, args.rounds, args.read, cores, pool)
            for level, mib in args.sizes.items()
        }
    title = (
        f"Random rows of {NUMBERS} numbers; a review of {tokens:.0f} tokens sums up "
        f"{looked_up / 1000:,.0f} thousand numbers"
    )
    table = Table(
        "out of",
        "MiB",
        "GB/s",
        f"GB/s, {cores} threads",
        "µs a review, int16",
        "float32",
        title=title,
        title_justify="left",
    )
    for level, figures in levels.items():
        rates = (
            figures[key]
            for key in ("gb_per_s", "gb_per_s_all_threads", "us_per_review_int16", "us_per_review_float32")
        )
        table.add_row(level, f"{figures['mb']:,.1f}", *(f"{rate:.1f}" for rate in rates))
    Console(width=110).print(table)
    write("bandwidth", {"tokens": tokens, "numbers_a_review": looked_up, "threads": cores, "levels": levels})


def sizes(listed: str) -> dict[str, float]:
    return dict(zip(("L2", "L3", "memory"), map(float, listed.split(",")), strict=True))


def sizes_here() -> dict[str, float]:
    """MiB of the working sets: half of each cache, which other processes use too, and a multiple of the
    largest.
    """
    second, third = cache(2, 1.0), cache(3, 32.0)
    return {"L2": second / 2, "L3": max(third / 2, second * 2), "memory": min(max(third * 8, 256.0), 1024.0)}


def cache(level: int, otherwise: float) -> float:
    """Size in MiB of the first core's cache of this level, `otherwise` if the system does not report it."""
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (folder / "level").read_text().strip() == str(level):
            return float((folder / "size").read_text().strip().removesuffix("K")) / 1024
    return otherwise


def measured(
    mib: float, looked_up: float, rounds: int, read: int, cores: int, pool: ThreadPoolExecutor
) -> dict[str, Any]:
    """Rates for a working set of `mib` MiB: one thread, and all threads on the same set."""
    variants: dict[str, Variant] = {}
    for kind in TYPES:
        table = np.ones((max(1, int(mib * MIB) // (NUMBERS * np.dtype(kind).itemsize)), NUMBERS), dtype=kind)
        indices = np.random.default_rng(1).integers(0, len(table), read // table[0].nbytes, dtype=np.int32)
        variants[f"one {np.dtype(kind)}"] = partial(add_up, table, indices)
        if kind is np.int16:
            variants["all"] = on_all_cores(partial(add_up, table, indices), cores, pool)
    seconds = medians(variants, rounds)
    each = {str(np.dtype(kind)): read / seconds[f"one {np.dtype(kind)}"] for kind in TYPES}
    return {
        "mb": mib,
        "gb_per_s": each["int16"] / 1e9,
        "gb_per_s_float32": each["float32"] / 1e9,
        "gb_per_s_all_threads": read * cores / seconds["all"] / 1e9,
        "us_per_review_int16": looked_up * 2 / each["int16"] * 1e6,
        "us_per_review_float32": looked_up * 4 / each["float32"] * 1e6,
    }


def on_all_cores(work: Callable[[], object], cores: int, pool: ThreadPoolExecutor) -> Variant:
    return lambda: list(pool.map(lambda _: work(), range(cores)))


@compiled
def _sum(table, indices, total):  # type: ignore[no-untyped-def]  # numba infers the types
    for index in indices:
        row = table[index]
        for i in range(NUMBERS):
            total[i] += row[i]


def add_up(table: npt.NDArray[Any], indices: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """The sum of the rows at `indices`, in the table's own type; int16 may overflow, the sum is not used."""
    total = np.zeros(NUMBERS, dtype=table.dtype)
    _sum(table, indices, total)
    return total


if __name__ == "__main__":
    main()
