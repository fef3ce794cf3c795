"""Microseconds a review from text to ids, for several tokenizers that give the same ids.

    .venv/dev/bin/python -m benchmarks.tokenizer [REVIEWS.csv] [--texts 3000] [--rounds 9]

The first two are `basic_english` and a dict, with torchtext's regular expressions and with `str.replace`. Two
threads take half of the texts each; their gain over one thread shows the share of time without the GIL.
Rounds are interleaved, figures are medians.
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
from server.encoders.cnn.basic_english import basic_english
from server.encoders.cnn.encoder import cnn_of
from server.models.tokenizer import Tokenizer
from tests.models.test_tokenizer import PUBLISHED_RULES

SLICE = 100
"""Texts in one call of `encode_all`."""

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
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)
    texts = texts_of(args.reviews, args.texts)
    start = time.perf_counter()
    tokenizer = Tokenizer.of(bundle)
    first_ready = time.perf_counter() - start
    start = time.perf_counter()
    tokenizer = Tokenizer.of(bundle)
    ready = time.perf_counter() - start
    slices = [texts[i : i + SLICE] for i in range(0, len(texts), SLICE)]
    vocabulary, unknown, pad, min_length = (
        dict(cnn_of(bundle.encoders).vocabulary),
        cnn_of(bundle.encoders).spec.unknown_id,
        cnn_of(bundle.encoders).spec.pad_id,
        cnn_of(bundle.encoders).spec.min_length,
    )

    def looked_up(tokens: list[str]) -> Ids:
        ids = [*map(vocabulary.get, tokens, repeat(unknown))]
        return np.array(ids + [pad] * (min_length - len(ids)), dtype=np.int32)

    def batches(part: list[list[str]]) -> list[Ids]:
        return [row for each in part for row in tokenizer.encode_all(each)]

    with ThreadPoolExecutor(2) as pool:
        variants: dict[str, Callable[[], list[Ids]]] = {
            "regular expressions": lambda: [looked_up(published(text)) for text in texts],
            "str.replace": lambda: [looked_up(basic_english(text)) for text in texts],
            "encode": lambda: [tokenizer.encode(text) for text in texts],
            "encode_all": lambda: batches(slices),
            "encode_all, two threads": lambda: [
                row for rows in pool.map(batches, (slices[::2], slices[1::2])) for row in rows
            ],
        }
        seconds = measured(variants, args.rounds)
        ids = {name: sorted(row.tobytes() for row in variant()) for name, variant in variants.items()}
    if any(rows != ids["str.replace"] for rows in ids.values()):
        raise SystemExit("The tokenizers do not give the same ids.")
    microseconds = {name: statistics.median(each) / len(texts) * 1e6 for name, each in seconds.items()}
    characters, not_ascii = (
        sum(map(len, texts)) / len(texts),
        sum(not text.isascii() for text in texts) / len(texts),
    )
    table = Table(
        "",
        "µs a review",
        "× str.replace",
        title=f"{len(texts):,} reviews of {characters:,.0f} characters, {not_ascii:.1%} not ASCII",
    )
    for name, each in microseconds.items():
        table.add_row(name, f"{each:.1f}", f"{microseconds['str.replace'] / each:.2f}")
    Console(width=100).print(table)
    Console(width=100).print(
        f"To build a tokenizer for {len(vocabulary):,} tokens: {first_ready * 1000:.0f} ms for the "
        "first of a "
        f"process, {ready * 1000:.1f} ms for the next.",
        highlight=False,
    )
    figures = {
        "texts": len(texts),
        "characters_a_text": characters,
        "not_ascii": not_ascii,
        "tokens": len(vocabulary),
        "microseconds_a_text": microseconds,
        "first_tokenizer": first_ready * 1000,
        "next_tokenizer": ready * 1000,
    }
    results.write("tokenizer", figures)


if __name__ == "__main__":
    main()
