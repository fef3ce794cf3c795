"""Microseconds a text of 60 words with n-grams in the head, tokenizer and engine, compared with the CNN.

    .venv/dev/bin/python -m benchmarks.ngrams [REVIEWS.csv] [--texts 300] [--ngrams 50000] [--rounds 9]

Words 1–2 and characters 1–5, eight classes, the most frequent n-grams of each encoder. One thread's own time,
text by text; rounds are interleaved, figures are medians, ratios are those of the same run.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.rounds import measured
from benchmarks.texts import arguments, texts_of
from server.arrays import Ids
from server.bundle import read_bundle
from server.encoders.ngrams.analyzer import Unit, ngrams_of
from server.encoders.ngrams.index import NgramIndex
from server.encoders.ngrams.tables import NgramTables
from server.engines.base import pad
from server.engines.cpu_tables import TablesEngine, read_tables
from server.models.tokenizer import Tokenizer

WORDS = 60
"""Words of a text."""

CLASSES = 8


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--ngrams", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    words = " ".join(texts_of(args.reviews, args.texts)).split()
    texts = [" ".join(words[i : i + WORDS]) for i in range(0, len(words) - WORDS + 1, WORDS)]
    known = {
        "words": frequent(texts, "words", 1, 2, args.ngrams),
        "characters": frequent(texts, "characters", 1, 5, args.ngrams),
    }
    texts = texts[: args.texts]
    by_words = NgramIndex(known["words"], "words", 1, 2)
    by_characters = NgramIndex(known["characters"], "characters", 1, 5)
    tokenizer = Tokenizer([by_words, by_characters])
    bundle = read_bundle(args.bundle)
    of_bundle = Tokenizer.of(bundle)
    engines = {
        "n-grams": TablesEngine(
            [random_tables(len(ngrams)) for ngrams in known.values()], np.zeros(CLASSES, np.float32)
        ),
        "bundle": TablesEngine(*read_tables(bundle), bundle.manifest.head),
    }
    calls = {
        "n-grams": [pad([row], len(row)) for row in map(tokenizer.encode, texts)],
        "bundle": [pad([row], len(row)) for row in map(of_bundle.encode, texts)],
    }

    def run(name: str) -> None:
        for ids, lengths in calls[name]:
            engines[name].run(ids, lengths)

    def encode(by: Tokenizer | NgramIndex) -> list[Ids]:
        return [by.encode(text) for text in texts]

    variants = {
        "words": lambda: encode(by_words),
        "characters": lambda: encode(by_characters),
        "tokenize": lambda: encode(tokenizer),
        "engine": lambda: run("n-grams"),
        "bundle: tokenize": lambda: encode(of_bundle),
        "bundle: engine": lambda: run("bundle"),
    }
    seconds = measured(variants, args.rounds, time.thread_time)
    each = {name: statistics.median(spent) / len(texts) * 1e6 for name, spent in seconds.items()}
    ngrams = float(np.mean([ids.shape[1] for ids, _ in calls["n-grams"]]))
    ratios = {name: each[name] / each[f"bundle: {name}"] for name in ("tokenize", "engine")}
    table = Table(
        "", "µs a text", f"× {bundle.manifest.name}", title=f"{len(texts):,} texts, {ngrams:.0f} n-grams each"
    )
    for name, us in each.items():
        table.add_row(name, f"{us:.1f}", f"{ratios[name]:.2f}" if name in ratios else "")
    Console(width=100).print(table)
    figures = {
        "texts": len(texts),
        "known_ngrams": sum(map(len, known.values())),
        "ngrams_a_text": ngrams,
        "microseconds_a_text": each,
        "times_bundle": ratios,
    }
    results.write("ngrams", figures)


def frequent(texts: Sequence[str], unit: Unit, shortest: int, longest: int, most: int) -> list[str]:
    counts = Counter(ngram for text in texts for ngram in ngrams_of(text, unit, shortest, longest))
    return [ngram for ngram, _ in counts.most_common(most)]


def random_tables(ngrams: int) -> NgramTables:
    rows = np.random.default_rng(0).normal(size=(ngrams + 1, 1 + CLASSES)).astype(np.float32)
    rows[0] = 0
    return NgramTables(rows)


if __name__ == "__main__":
    main()
