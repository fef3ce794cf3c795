"""The texts of the comparison, by chance from files."""

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.offline.records import columns_of, open_records

Mixes = Mapping[str, list[str]]


@dataclass(frozen=True)
class Texts:
    """The texts of each mix, and (text, label) for the accuracy."""

    mixes: Mixes
    labelled: list[tuple[str, str]]

    def all(self) -> list[str]:
        """Each text once."""
        of_mixes = [text for texts in self.mixes.values() for text in texts]
        return list(dict.fromkeys([*of_mixes, *(text for text, _ in self.labelled)]))


def texts_of(args: argparse.Namespace, count: int, labelled: int) -> Texts:
    """`count` texts of each mix, and `labelled` ones."""
    rows = read_rows(args.short, (args.text, args.label), max(count, labelled))
    short = [text for text, _ in rows[:count]]
    long = [text for (text,) in read_rows(args.long, (args.long_text,), count)]
    mixed = [text for pair in zip(short, long, strict=True) for text in pair][:count]
    return Texts(
        {"short": short, "long": long, "mixed": mixed}, [(text, label) for text, label in rows[:labelled]]
    )


def read_rows(path: Path, columns: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """`count` rows by chance, the same for the same file; files are often sorted by label."""
    rows = read_all(path, columns)
    if len(rows) < count:
        raise SystemExit(f"{path} has {len(rows)} rows; {count} are needed.")
    return random.Random(1).sample(rows, count)  # noqa: S311 - texts, not secrets


def read_all(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The rows, each once."""
    with open_records(path) as (records, _):
        found = (tuple(str(row[column]) for column in columns) for row in map(columns_of, records))
        return list(dict.fromkeys(found))
