"""Speed regression test: how many times faster Prelabel is than the tutorial's loop, against guard.json.

    .venv/dev/bin/python -m benchmarks.guard [REVIEWS.csv] [--texts 200] [--rounds 15] [--update]

Ratios hold on other machines and under noise, where seconds do not. Each ratio is the median over rounds of
the loop's time divided by Prelabel's in the same round. A ratio more than a quarter below the recorded one is
a failure, with exit status 1. `--update` records the measured ratios. Without a file the texts are made up of
the bundle's tokens, by Zipf's law, so that table look-ups hit the caches as with real texts.
"""

import json
import os
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Clock, Variant, measured, repeated
from benchmarks.texts import WORDS, arguments, read_texts
from benchmarks.tutorial_loop import TutorialLoop
from server.bundle import Bundle, read_bundle
from server.encoders.cnn.encoder import cnn_of
from server.engines.base import pad
from server.engines.factory import open_engine
from server.offline.classifier import Classifier, batches_of

RECORDED = Path(__file__).with_name("guard.json")

TOLERANCE = 0.25
"""Share by which a ratio may fall: more than noise moves a median, less than a real regression."""

REPEATS = 10
"""Runs of Prelabel's side in one round: a single run is too short to be timed."""


class Pair(NamedTuple):
    """The same work, done by Prelabel and by the tutorial's loop."""

    ours: Variant
    loop: Variant


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kept", type=Path, default=RECORDED, help="file with the recorded ratios")
    parser.add_argument("--update", action="store_true", help="record the measured ratios in that file")
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)
    texts = read_texts(args.reviews, args.texts) if args.reviews else zipf_texts(bundle, args.texts)
    with pairs(bundle, texts) as measurable:
        found = ratios(measurable, args.rounds)
    if args.update:
        record = {
            "cores": len(os.sched_getaffinity(0)),
            "times_faster": {name: round(ratio, 2) for name, ratio in found.items()},
        }
        args.kept.write_text(json.dumps(record, indent=2) + "\n")
    recorded = json.loads(args.kept.read_bytes())
    expected: dict[str, float] = recorded["times_faster"]
    table = Table(
        "",
        "times faster",
        f"{args.kept.name}, {recorded['cores']} cores",
        title=f"{len(texts):,} texts, {args.rounds} rounds",
        title_justify="left",
    )
    for name, ratio in found.items():
        table.add_row(name, f"{ratio:.1f}", f"{expected[name]:.1f}" if name in expected else "")
    console = Console(width=110)
    console.print(table)
    failures = compare(found, expected)
    for failure in failures:
        console.print(failure, style="red", highlight=False, soft_wrap=True)
    raise SystemExit(bool(failures))


def compare(found: Mapping[str, float], expected: Mapping[str, float]) -> list[str]:
    """One sentence for each ratio below the tolerance, and for each name that only one side has."""
    failures = [
        f"{name}: {found[name]:.1f} times faster, {1 - found[name] / ratio:.1%} below the recorded "
        f"{ratio:.1f}; the tolerance is {TOLERANCE:.0%}."
        for name, ratio in expected.items()
        if name in found and found[name] < ratio * (1 - TOLERANCE)
    ]
    return failures + [
        f"{name}: not both measured and recorded; run with --update."
        for name in sorted(found.keys() ^ expected.keys())
    ]


def ratios(pairs: Mapping[str, Pair], rounds: int, clock: Clock = perf_counter) -> dict[str, float]:
    """How many times faster Prelabel is in each pair: the median over rounds."""
    variants = {f"ours {name}": repeated(pair.ours, REPEATS) for name, pair in pairs.items()} | {
        f"loop {name}": pair.loop for name, pair in pairs.items()
    }
    seconds = measured(variants, rounds, clock)
    return {
        name: REPEATS
        * statistics.median(
            loop / ours for ours, loop in zip(seconds[f"ours {name}"], seconds[f"loop {name}"], strict=True)
        )
        for name in pairs
    }


@contextmanager
def pairs(bundle: Bundle, texts: list[str]) -> Iterator[dict[str, Pair]]:
    """The pairs by name. Both sides of a pair use the same number of threads, so that the ratio depends
    neither on the number of cores nor on other load.
    """
    cores = len(os.sched_getaffinity(0))
    loop = TutorialLoop(bundle, 1)
    engine = open_engine(bundle, engine="tables", device="cpu")
    parts = [texts[begin::cores] for begin in range(cores)]
    with Classifier(bundle, engine, cores) as classifier, ThreadPoolExecutor(cores) as pool:
        rows = classifier.encode(texts)
        calls = [pad([rows[i] for i in batch], len(rows[batch[-1]])) for batch in batches_of(rows, 8192)]
        yield {
            "engine on one thread / the loop's module": Pair(
                lambda: [engine.run(*call) for call in calls],
                lambda: loop.probabilities(rows),
            ),
            "classifier on all threads / the loop on all": Pair(
                lambda: classifier.probabilities(classifier.encode(texts)),
                lambda: list(pool.map(loop.predict, parts)),
            ),
            "tokenizer / the loop's regular expressions": Pair(
                lambda: classifier.tokenizer.encode_all(texts),
                lambda: [loop.encode(text) for text in texts],
            ),
        }


def zipf_texts(bundle: Bundle, count: int) -> list[str]:
    """Texts as long as IMDB's, in which a token's frequency falls with its rank in the vocabulary."""
    random = np.random.default_rng(1)
    lengths = (random.lognormal(0, 0.6, count) * WORDS * 0.85).astype(int) + 10
    return [
        " ".join(
            cnn_of(bundle.encoders).tokens[rank]
            for rank in (len(cnn_of(bundle.encoders).tokens) ** random.random(length)).astype(int) - 1
        )
        for length in lengths
    ]


if __name__ == "__main__":
    main()
