"""Whether Prelabel is still as much faster than the tutorial's loop as it was: a test for speed that holds on
other machines and in noise.

    .venv/dev/bin/python -m benchmarks.guard [REVIEWS.csv] [--texts 200] [--rounds 15] [--update]

Ratios of what ours and the loop's take in the same round, their medians over rounds, beside those of
guard.json; one that fell by more than a quarter is told, with exit status 1. `--update` writes guard.json.
Without a file the texts are made up of the bundle's tokens, each as rare as its place in the vocabulary says,
so that the tables are read as real texts read them.
"""

import json
import os
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Way, measured, repeated
from benchmarks.texts import WORDS, arguments, read_texts
from benchmarks.tutorial_loop import TutorialLoop
from server.bundle import Bundle, read_bundle
from server.engines.base import pad
from server.engines.factory import open_engine
from server.offline.classifier import Classifier, batches_of

KEPT = Path(__file__).with_name("guard.json")

FALL = 0.25
"""What a ratio may fall by: more than noise does to a median, less than a mistake does."""

REPEATS = 10
"""How often ours runs in a round, which is too short for a clock beside the loop."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kept", type=Path, default=KEPT, help="file of the ratios that are wanted")
    parser.add_argument("--update", action="store_true", help="write the ratios that were found")
    asked = parser.parse_args()
    bundle = read_bundle(asked.bundle)
    texts = read_texts(asked.reviews, asked.texts) if asked.reviews else of_vocabulary(bundle, asked.texts)
    found = ratios(bundle, texts, asked.rounds)
    if asked.update:
        kept = {
            "cores": len(os.sched_getaffinity(0)),
            "times_faster": {name: round(ratio, 2) for name, ratio in found.items()},
        }
        asked.kept.write_text(json.dumps(kept, indent=2) + "\n")
    kept = json.loads(asked.kept.read_bytes())
    wanted: dict[str, float] = kept["times_faster"]
    table = Table(
        "",
        "times faster",
        f"{asked.kept.name}, {kept['cores']} cores",
        title=f"{len(texts):,} texts, {asked.rounds} rounds",
        title_justify="left",
    )
    for name, ratio in found.items():
        table.add_row(name, f"{ratio:.1f}", f"{wanted[name]:.1f}" if name in wanted else "")
    console = Console(width=110)
    console.print(table)
    failures = compare(found, wanted)
    for failure in failures:
        console.print(failure, style="red", highlight=False, soft_wrap=True)
    raise SystemExit(bool(failures))


def compare(found: Mapping[str, float], wanted: Mapping[str, float]) -> list[str]:
    """A sentence for each ratio that fell too far, or that only one of both has."""
    failures = [
        f"{name}: {found[name]:.1f} times faster, {1 - found[name] / ratio:.0%} below the {ratio:.1f} "
        f"it was; at most {FALL:.0%} is allowed."
        for name, ratio in wanted.items()
        if name in found and found[name] < ratio * (1 - FALL)
    ]
    return failures + [
        f"{name}: it is not in both of what was measured and what was kept; run with --update."
        for name in sorted(found.keys() ^ wanted.keys())
    ]


def ratios(bundle: Bundle, texts: list[str], rounds: int) -> dict[str, float]:
    """How many times faster, by name. Both sides always have as many threads, so that neither the number of
    cores nor other work on them decides.
    """
    cores = len(os.sched_getaffinity(0))
    loop = TutorialLoop(bundle, 1)
    engine = open_engine(bundle, engine="tables", device="cpu")
    parts = [texts[begin::cores] for begin in range(cores)]
    with Classifier(bundle, engine, cores) as classifier, ThreadPoolExecutor(cores) as pool:
        rows = classifier.encode(texts)
        calls = [pad([rows[i] for i in batch], len(rows[batch[-1]])) for batch in batches_of(rows, 8192)]
        pairs: dict[str, tuple[Way, Way]] = {
            "engine on one thread / the loop's module": (
                lambda: [engine.run(*call) for call in calls],
                lambda: loop.probabilities(rows),
            ),
            "classifier on all threads / the loop on all": (
                lambda: classifier.probabilities(classifier.encode(texts)),
                lambda: list(pool.map(loop.predict, parts)),
            ),
            "tokenizer / the loop's regular expressions": (
                lambda: classifier.tokenizer.encode_all(texts),
                lambda: [loop.encode(text) for text in texts],
            ),
        }
        ways = {f"ours {name}": repeated(ours, REPEATS) for name, (ours, _) in pairs.items()} | {
            f"loop {name}": theirs for name, (_, theirs) in pairs.items()
        }
        seconds = measured(ways, rounds)
    return {
        name: REPEATS
        * statistics.median(
            theirs / ours
            for ours, theirs in zip(seconds[f"ours {name}"], seconds[f"loop {name}"], strict=True)
        )
        for name in pairs
    }


def of_vocabulary(bundle: Bundle, count: int) -> list[str]:
    """Texts in which a token's frequency falls with its place in the vocabulary (Zipf's law), and that are as
    long as IMDB's are.
    """
    random = np.random.default_rng(1)
    lengths = (random.lognormal(0, 0.6, count) * WORDS * 0.85).astype(int) + 10
    return [
        " ".join(
            bundle.tokens[place] for place in (len(bundle.tokens) ** random.random(length)).astype(int) - 1
        )
        for length in lengths
    ]


if __name__ == "__main__":
    main()
