"""Microseconds a review from text to ids, one way beside another: rounds interleaved, medians.

    .venv/dev/bin/python -m benchmarks.tokenizer [REVIEWS.csv] [--texts 3000] [--rounds 9]

The first two ways are `basic_english` and a dict, with torchtext's regular expressions and with
`str.replace`. Two threads take half of the texts each; what they gain over one is the share of the time in
which the interpreter's lock is released. All ways must give the same ids.
"""

import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.rounds import measured
from benchmarks.texts import arguments, texts_of
from server.arrays import Ids
from server.bundle import read_bundle
from server.models.tokenizer import Tokenizer, basic_english
from tests.models.test_tokenizer import PUBLISHED_RULES

SLICE = 100
"""Texts in one call of the batch way."""

PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in PUBLISHED_RULES]


def published(text: str) -> list[str]:
    text = text.lower()
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text.split()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    bundle = read_bundle(asked.bundle)
    texts = texts_of(asked.reviews, asked.texts)
    begun = time.perf_counter()
    tokenizer = Tokenizer.of(bundle)
    first_ready = time.perf_counter() - begun
    begun = time.perf_counter()
    tokenizer = Tokenizer.of(bundle)
    ready = time.perf_counter() - begun
    slices = [texts[i : i + SLICE] for i in range(0, len(texts), SLICE)]
    vocabulary, unknown, pad, min_length = (
        dict(bundle.vocabulary),
        bundle.manifest.unknown_id,
        bundle.manifest.pad_id,
        bundle.manifest.min_length,
    )

    def looked_up(tokens: list[str]) -> Ids:
        ids = [*map(vocabulary.get, tokens, repeat(unknown))]
        return np.array(ids + [pad] * (min_length - len(ids)), dtype=np.int32)

    def batches(part: list[list[str]]) -> list[Ids]:
        return [row for each in part for row in tokenizer.encode_all(each)]

    with ThreadPoolExecutor(2) as pool:
        ways: dict[str, Callable[[], list[Ids]]] = {
            "regular expressions": lambda: [looked_up(published(text)) for text in texts],
            "str.replace": lambda: [looked_up(basic_english(text)) for text in texts],
            "encode": lambda: [tokenizer.encode(text) for text in texts],
            "encode_all": lambda: batches(slices),
            "encode_all, two threads": lambda: [
                row for rows in pool.map(batches, (slices[::2], slices[1::2])) for row in rows
            ],
        }
        seconds = measured(ways, asked.rounds)
        ids = {name: sorted(row.tobytes() for row in way()) for name, way in ways.items()}
    if any(rows != ids["str.replace"] for rows in ids.values()):
        raise SystemExit("The ways do not give the same ids.")
    microseconds = {name: statistics.median(each) / len(texts) * 1e6 for name, each in seconds.items()}
    characters, beyond = (
        sum(map(len, texts)) / len(texts),
        sum(not text.isascii() for text in texts) / len(texts),
    )
    table = Table(
        "",
        "µs a review",
        "× str.replace",
        title=f"{len(texts):,} reviews of {characters:,.0f} characters, {beyond:.1%} not ASCII",
    )
    for name, each in microseconds.items():
        table.add_row(name, f"{each:.1f}", f"{microseconds['str.replace'] / each:.2f}")
    Console(width=100).print(table)
    print(
        f"A tokenizer for {len(vocabulary):,} tokens: {first_ready * 1000:.0f} ms for the first of a "
        f"process, {ready * 1000:.1f} ms for the next."
    )  # noqa: T201
    figures = {
        "texts": len(texts), "characters_a_text": characters, "not_ascii": beyond, "tokens": len(vocabulary), "microseconds_a_text": microseconds,
        "first_tokenizer": first_ready * 1000, "next_tokenizer": ready * 1000,
    }  # fmt: skip
    results.write("tokenizer", figures)


if __name__ == "__main__":
    main()
