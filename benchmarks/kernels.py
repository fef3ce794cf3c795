"""Alternative kernels for summing the tables on one thread, compared with that of engine=tables.

    .venv/dev/bin/python -m benchmarks.kernels [REVIEWS.csv] [--texts 1000] [--rounds 7]

Rounds are interleaved, figures are medians. |Δp| is the difference to float64. Each kernel reads every row of
every window, so its bytes per text divided by its seconds are its rate of reads from caches and memory.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.results import write
from benchmarks.texts import arguments, texts_of
from server.arrays import Floats, Ids
from server.bundle import read_bundle
from server.encoders.cnn.fixed_point_tables import HIGH_UNIT
from server.encoders.cnn.tables import WINDOWS, Int16Tables, _scan
from server.engines.base import pad
from server.engines.cpu_tables import TablesEngine, read_tables
from server.models.tokenizer import Tokenizer

Features = Callable[[Ids, Ids, Any], None]
"""(ids, lengths, features): fills features float64[rows, widths, filters]."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)
    tokenizer = Tokenizer.of(bundle)
    rows = tokenizer.encode_all(texts_of(args.reviews, args.texts))
    (tables,), head_bias = read_tables(bundle)
    if not isinstance(tables, Int16Tables):
        raise SystemExit(f"{args.bundle} has no CNN alone")
    ids, lengths = pad(rows, max(map(len, rows)))
    exact = probabilities(tables, head_bias, features_in_float64(tables, rows))
    variants: dict[str, Callable[[], Floats]] = {
        "float32": by_features(tables, head_bias, in_float32(tables, constant=False), ids, lengths),
        "float32, filters known to the compiler": by_features(
            tables, head_bias, in_float32(tables, constant=True), ids, lengths
        ),
        "16 bits, scan alone (not exact)": by_features(tables, head_bias, scan_alone(tables), ids, lengths),
        "16 bits, settled in 32: engine=tables": lambda: engine.run(ids, lengths),
    }
    engine = TablesEngine([tables], head_bias)
    differences = {name: float(np.abs(kernel() - exact).max()) for name, kernel in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(args.rounds):
        for name, kernel in variants.items():
            start = time.perf_counter()
            kernel()
            seconds[name].append(time.perf_counter() - start)
    tokens = float(np.mean([len(row) for row in rows]))
    numbers = tokens * tables.high.shape[1] * tables.high.shape[2]
    table = Table(
        "",
        "µs a text",
        "× float32",
        "max |Δp|",
        "GB/s",
        title=f"{len(rows):,} texts of {tokens:.0f} tokens on average, one thread",
        title_justify="left",
    )
    figures = {}
    for name, spent in seconds.items():
        each = statistics.median(spent) / len(rows)
        ratio = statistics.median(seconds["float32"]) / statistics.median(spent)
        bandwidth = numbers * (4 if "float32" in name else 2) / each / 1e9
        figures[name] = {
            "us_per_text": each * 1e6,
            "times_float32": ratio,
            "max_dp": differences[name],
            "gb_per_s": bandwidth,
        }
        table.add_row(
            name, f"{each * 1e6:.1f}", f"{ratio:.2f}", f"{differences[name]:.0e}", f"{bandwidth:.1f}"
        )
    Console(width=110).print(table)
    write("kernels", {"texts": len(rows), "tokens": tokens, "ways": figures})


def by_features(
    tables: Int16Tables, head_bias: Floats, kernel: Features, ids: Ids, lengths: Ids
) -> Callable[[], Floats]:
    def run() -> Floats:
        features = np.zeros((len(lengths), *tables.bias.shape))
        kernel(ids, lengths, features)
        return probabilities(tables, head_bias, features)

    return run


def probabilities(tables: Int16Tables, head_bias: Floats, features: npt.NDArray[np.float64]) -> Floats:
    logits = np.einsum("rbf,lbf->rl", features, tables.head) + head_bias
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def table_values(tables: Int16Tables) -> npt.NDArray[np.float64]:
    whole = tables.high.astype(np.float64) * HIGH_UNIT + tables.low
    return whole * np.repeat(tables.unit, tables.widths, axis=0)


def features_in_float64(tables: Int16Tables, rows: list[Ids]) -> npt.NDArray[np.float64]:
    numbers = table_values(tables)
    features = np.zeros((len(rows), *tables.bias.shape))
    for i, row in enumerate(rows):
        first = 0
        for bank, width in enumerate(tables.widths):
            windows = len(row) - width + 1
            sums = sum(numbers[row[tap : tap + windows], first + tap] for tap in range(width))
            features[i, bank] = np.maximum(np.max(sums + tables.bias[bank], axis=0), 0)
            first += width
    return features


def _jitted(function: Any) -> Any:
    return numba.njit(nogil=True)(function)


def in_float32(tables: Int16Tables, *, constant: bool) -> Features:
    """A loop over windows, taps and filters; if `constant`, compiled for this number of filters."""
    numbers, widths, bias = table_values(tables).astype(np.float32), tables.widths, tables.bias
    known = bias.shape[1] if constant else 0

    @_jitted
    def run(ids, lengths, numbers, widths, bias, features):  # type: ignore[no-untyped-def]  # numba infers the types
        filters = known or numbers.shape[2]
        window, best = np.empty(filters, np.float32), np.empty(filters, np.float32)
        for row in range(len(lengths)):
            first = 0
            for bank in range(len(widths)):
                width, start = widths[bank], bias[bank]
                best[:] = 0.0
                for begin in range(lengths[row] - width + 1):
                    for f in range(filters):
                        window[f] = start[f]
                    for tap in range(width):
                        looked_up = numbers[ids[row, begin + tap], first + tap]
                        for f in range(filters):
                            window[f] += looked_up[f]
                    for f in range(filters):
                        best[f] = max(best[f], window[f])
                first += width
                features[row, bank] = best

    return lambda ids, lengths, features: run(ids, lengths, numbers, widths, bias, features)


def scan_alone(tables: Int16Tables) -> Features:
    """The largest sum of high halves as the result, without settling."""
    filters = tables.bias.shape[1]

    @_jitted
    def run(ids, lengths, high, widths, unit, bias, features):  # type: ignore[no-untyped-def]  # numba infers the types
        sums, largest = np.empty((WINDOWS, filters), np.int16), np.empty(filters, np.int16)
        for row in range(len(lengths)):
            first = 0
            for bank in range(len(widths)):
                windows = lengths[row] - widths[bank] + 1
                for begin in range(0, windows, WINDOWS):
                    words = ids[row, begin : min(begin + WINDOWS, windows) + widths[bank] - 1]
                    _scan(words, high, first, widths[bank], sums, largest, filters)
                    for f in range(filters):
                        features[row, bank, f] = max(
                            features[row, bank, f], largest[f] * HIGH_UNIT * unit[bank, f] + bias[bank, f]
                        )
                first += widths[bank]

    return lambda ids, lengths, features: run(
        ids, lengths, tables.high, tables.widths, tables.unit, tables.bias, features
    )


if __name__ == "__main__":
    main()
