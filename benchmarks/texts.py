"""Common command-line arguments of the benchmarks, and their texts: from a file or made up."""

import argparse
import random
import re
from itertools import islice
from pathlib import Path

from benchmarks.results import ROOT
from server.offline.records import TEXT, columns_of, open_records

WORDS = 230
"""Mean number of words in a made-up review, as in IMDB's."""

VOCABULARY = re.findall(
    r"\w+",
    "the a an of and to in is it this that was film movie story actors plot scene ending music director "
    "great awful boring lovely dull "
    "brilliant terrible wonderful waste time watch never always really quite rather every minute "
    "character dialogue camera works fails",
)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the reviews and the bundle; a benchmark adds its own options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "reviews",
        nargs="?",
        type=Path,
        metavar="REVIEWS.csv",
        help="a file with a column `review`; without it, reviews are made up",
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "artifacts" / "imdb-cnn", metavar="FOLDER")
    return parser


def texts_of(reviews: Path | None, count: int) -> list[str]:
    """The first `count` reviews of the file, or made-up ones without a file."""
    return read_texts(reviews, count) if reviews else made_up_texts(count)


def read_texts(path: Path, count: int, column: str = TEXT) -> list[str]:
    with open_records(path) as (records, _):
        return [str(columns_of(row)[column]) for row in islice(records, count)]


def made_up_texts(count: int) -> list[str]:
    numbers = random.Random(1)  # noqa: S311 - texts, not secrets
    return [
        " ".join(numbers.choices(VOCABULARY, k=int(numbers.lognormvariate(0, 0.6) * WORDS * 0.85) + 10))
        for _ in range(count)
    ]


def numbers_of(text: str) -> list[int]:
    """The value of an option that takes several numbers: 1,2,4 → [1, 2, 4]."""
    return [int(each) for each in text.split(",")]
