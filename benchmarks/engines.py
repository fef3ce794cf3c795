"""Milliseconds a text on one thread, engine by engine, one text a call: rounds interleaved, medians, and the largest difference in probability.

.venv/dev/bin/python -m benchmarks.engines [REVIEWS.csv] [--texts 1000] [--rounds 5]
"""

import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.texts import arguments, texts_of
from server.bundle import read_bundle
from server.engines import open_engine, pad
from server.tokenizer import Tokenizer

ENGINES = ("tables", "onnx")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    bundle = read_bundle(asked.bundle)
    tokenizer = Tokenizer.of(bundle)
    rows = [tokenizer.encode(text) for text in texts_of(asked.reviews, asked.texts)]
    calls = [pad([row], len(row)) for row in rows]
    engines = {name: open_engine(bundle, engine=name, device="cpu") for name in ENGINES}
    answers = {name: np.concatenate([engine.run(*call) for call in calls]) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    for _ in range(asked.rounds):
        for name, engine in engines.items():
            begun = time.perf_counter()
            for call in calls:
                engine.run(*call)
            seconds[name].append(time.perf_counter() - begun)
    table = Table(
        "engine", "ms a text", "× onnx", "max |Δp| to onnx", title=f"{len(rows):,} texts of {np.mean([len(row) for row in rows]):.0f} tokens at the mean"
    )
    for name in ENGINES:
        median = statistics.median(seconds[name])
        difference = np.abs(answers[name] - answers["onnx"]).max()
        table.add_row(name, f"{median / len(rows) * 1000:.3f}", f"{statistics.median(seconds['onnx']) / median:.2f}", f"{difference:.1e}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
