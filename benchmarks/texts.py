"""What the benchmarks have in common: their arguments, and the texts that they are given or make up."""

import argparse
import random
import re
from itertools import islice
from pathlib import Path

from server.offline.records import columns_of, open_records
from tests.e2e.conftest import ROOT

WORDS = 230
"""Words in a made-up review, as many as IMDB's have on average."""

VOCABULARY = re.findall(
    r"\w+",
    "the a an of and to in is it this that was film movie story actors plot scene ending music director "
    "great awful boring lovely dull "
    "brilliant terrible wonderful waste time watch never always really quite rather every minute "
    "character dialogue camera works fails",
)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser for the reviews and the bundle, to which a benchmark adds its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reviews", nargs="?", type=Path)
    parser.add_argument("--bundle", type=Path, default=ROOT / "artifacts" / "imdb-cnn")
    return parser


def texts_of(reviews: Path | None, count: int) -> list[str]:
    """The first `count` of a file's reviews, made-up ones where no file is given."""
    return read_texts(reviews, count) if reviews else made_up_texts(count)


def read_texts(path: Path, count: int) -> list[str]:
    with open_records(path) as (records, _):
        return [str(columns_of(row)["review"]) for row in islice(records, count)]


def made_up_texts(count: int) -> list[str]:
    numbers = random.Random(1)  # noqa: S311 - texts, not secrets
    return [
        " ".join(numbers.choices(VOCABULARY, k=int(numbers.lognormvariate(0, 0.6) * WORDS * 0.85) + 10))
        for _ in range(count)
    ]


def numbers_of(text: str) -> list[int]:
    """Numbers separated by commas, for an option that takes several."""
    return [int(each) for each in text.split(",")]
