"""Labelled texts → token ids in batches of like length."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from export.vocabulary import PAD, UNKNOWN
from server.arrays import Ids
from server.errors import BadInput
from server.label_studio.results import text_of
from server.records import columns_of, open_records
from server.tokenizer import basic_english


@dataclass(frozen=True)
class Examples:
    """Texts as rows of ids, with the class of each."""

    rows: list[Ids]
    classes: list[int]

    def batches(self, size: int, random: np.random.Generator, *, pad: int, max_tokens: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(ids int64[rows, length], lengths int64[rows], classes int64[rows]); like lengths together, in random order."""
        order = sorted(random.permutation(len(self.rows)), key=lambda i: min(len(self.rows[i]), max_tokens) // 16)
        groups = [order[i : i + size] for i in range(0, len(order), size)]
        for group in random.permutation(len(groups)):
            rows = [self.rows[i][:max_tokens] for i in groups[group]]
            ids = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
            for place, row in enumerate(rows):
                ids[place, : len(row)] = row
            classes = [self.classes[i] for i in groups[group]]
            yield torch.from_numpy(ids), torch.tensor([len(row) for row in rows]), torch.tensor(classes)


def read_labelled(path: Path, text: str, label: str) -> tuple[list[str], list[str]]:
    """(texts, labels) of a file's rows. Raises BadInput for a missing column or an empty cell."""
    texts, labels = [], []
    with open_records(path) as (records, _):
        for number, row in enumerate(map(columns_of, records), start=1):
            for column in (text, label):
                if column not in row:
                    raise BadInput(f'{path}: row {number} has no column "{column}"; it has: {", ".join(map(str, row)) or "none"}.')
            words, name = text_of(row, text), text_of(row, label)
            if words is None or not name:
                raise BadInput(f'{path}: row {number}: the column "{text if words is None else label}" is empty.')
            texts.append(words)
            labels.append(name)
    if not texts:
        raise BadInput(f"{path}: no rows.")
    return texts, labels


def build_vocabulary(texts: Sequence[str], size: int) -> list[str]:
    """<unk>, <pad>, then the most frequent tokens; ties in alphabetical order, so the same texts give the same ids."""
    counts = Counter(token for text in texts for token in basic_english(text))
    for special in (UNKNOWN, PAD):
        counts.pop(special, None)
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return [UNKNOWN, PAD, *ranked[: size - 2]]
